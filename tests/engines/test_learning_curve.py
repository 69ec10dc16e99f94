from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from ignite.engine import Engine, Events

from bonemonai.engines import LearningCurve


def trainer(losses: list[list[float]], decollated: bool = False) -> Engine:
    def step(engine: Engine, batch: int) -> object:
        output = {"loss": losses[engine.state.epoch - 1][batch]}
        return [output] if decollated else output

    return Engine(step)


@pytest.mark.parametrize("decollated", [False, True])
def test_mean_loss_of_each_epoch(tmp_path: Path, decollated: bool) -> None:
    engine = trainer([[1.0, 3.0], [0.5, 0.0]], decollated)
    LearningCurve(tmp_path / "curve.csv").attach(engine)
    engine.run([0, 1], max_epochs=2)
    assert pd.read_csv(tmp_path / "curve.csv").to_dict("list") == {"epoch": [1, 2], "loss": [2.0, 0.25]}


def test_metrics_of_epochs_that_were_validated(tmp_path: Path) -> None:
    validator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}))
    engine = trainer([[1.0], [1.0], [1.0]])

    def validate(engine: Engine) -> None:
        if engine.state.epoch % 2 == 0:
            validator.state.epoch, validator.state.metrics = engine.state.epoch, {"patch_accuracy": 0.75}

    engine.add_event_handler(Events.EPOCH_COMPLETED, validate)
    LearningCurve(tmp_path / "curve.csv", validator).attach(engine)
    engine.run([0], max_epochs=3)
    stored = pd.read_csv(tmp_path / "curve.csv")
    assert stored["patch_accuracy"].isna().tolist() == [True, False, True]
    assert stored["patch_accuracy"][1] == 0.75


def test_a_run_that_dies_leaves_its_epochs(tmp_path: Path) -> None:
    engine = trainer([[1.0], []])
    LearningCurve(tmp_path / "curve.csv").attach(engine)
    with pytest.raises(IndexError):
        engine.run([0], max_epochs=2)
    assert pd.read_csv(tmp_path / "curve.csv")["epoch"].tolist() == [1]


def test_further_terms_are_averaged_over_the_batches_that_have_them(tmp_path: Path) -> None:
    terms = iter([{"loss_dice": 1.0, "weight_dice": 0.5}, {"weight_dice": 0.25}])
    engine = trainer([[1.0, 2.0]])
    LearningCurve(tmp_path / "curve.csv", terms=lambda: next(terms)).attach(engine)
    engine.run([0, 1], max_epochs=1)
    stored = pd.read_csv(tmp_path / "curve.csv").to_dict("list")
    assert stored == {"epoch": [1], "loss": [1.5], "loss_dice": [1.0], "weight_dice": [0.375]}
