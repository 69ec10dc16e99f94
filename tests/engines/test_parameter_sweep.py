from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bonemonai.engines import ParameterSweep
from bonemonai.errors import InputError, NumericalError

# a config that writes its options, in place of a training
STEP = {
    "fold": None, "checkpoint": None, "manifest_path": None, "output_dir": None, "overwrite": False, "seed": 0,
    "layers": 3, "learning_rate": 0.1, "imports": ["$import pathlib", "$import json"],
}  # fmt: skip


class Runner:
    def __init__(self, folder: Path) -> None:
        write = "$pathlib.Path(@checkpoint).write_text(json.dumps([@layers, @learning_rate, @seed, @fold]))"
        (folder / "train.json").write_text(json.dumps({**STEP, "run": [write]}))
        rest = [f"$pathlib.Path(@output_dir, '{name}').touch()" for name in ("predictions.csv", "scores.csv")]
        record = "$pathlib.Path(@output_dir, 'results.json').write_text('{}')"
        (folder / "evaluate.json").write_text(json.dumps({**STEP, "run": [*rest, record]}))
        (folder / "metadata.json").write_text("{}")
        (folder / "scan").write_text("grey values")
        (folder / "manifest.csv").write_text("patient,image\nA,scan\n")
        self.folder, self.pooled = folder, []

    def pool(self, folder: Path, folders: Sequence[Path]) -> None:
        self.pooled.append((folder.name, [path.name for path in folders]))

    def sweep(self, **options: Any) -> ParameterSweep:
        arguments: dict[str, Any] = {
            "baseline": {"layers": 3, "learning_rate": 0.1}, "values": {"layers": [4, 2], "learning_rate": [0.1, 0.01]},
            "folds": [0, 1], "options": {"seed": 7}, **options,
        }  # fmt: skip
        return ParameterSweep(
            pool=self.pool, output_dir=self.folder / "out", train=[str(self.folder / "train.json")],
            evaluate=[str(self.folder / "evaluate.json")], manifest_path=self.folder / "manifest.csv", **arguments
        )  # fmt: skip

    def given(self, setting: str, fold: int) -> Any:
        return json.loads((self.folder / "out" / setting / f"fold_{fold:02d}" / "model.pt").read_text())


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def test_one_option_at_a_time_differs_from_the_baseline(runner: Runner) -> None:
    settings = runner.sweep().run()
    found = [(setting["parameter"], setting["value"], setting["folder"].name) for setting in settings]
    assert found == [
        ("layers", 2, "layers_2"), ("layers", 3, "baseline"), ("layers", 4, "layers_4"),
        ("learning_rate", 0.01, "learning_rate_0.01"), ("learning_rate", 0.1, "baseline"),
    ]  # fmt: skip
    assert [setting["baseline"] for setting in settings] == [False, True, False, False, True]
    assert runner.given("baseline", 0) == [3, 0.1, 7, 0]
    assert runner.given("layers_4", 1) == [4, 0.1, 7, 1]
    assert runner.given("learning_rate_0.01", 0) == [3, 0.01, 7, 0]
    # the baseline is run and pooled once
    assert sorted(runner.pooled) == [
        (name, ["fold_00", "fold_01"]) for name in ("baseline", "layers_2", "layers_4", "learning_rate_0.01")
    ]


def test_the_same_call_trains_nothing_again(runner: Runner) -> None:
    runner.sweep().run()
    before = {path: path.stat().st_mtime_ns for path in (runner.folder / "out").rglob("model.pt")}
    assert len(before) == 8
    runner.sweep().run()
    assert before == {path: path.stat().st_mtime_ns for path in (runner.folder / "out").rglob("model.pt")}


def test_a_setting_that_diverges_does_not_stop_the_others(runner: Runner) -> None:
    """What FiniteLoss raises inside of a config, MONAI wraps."""
    rise = "$@layers in @bad and (_ for _ in ()).throw(NumericalError('loss', 'is nan'))"
    config = json.loads((runner.folder / "train.json").read_text())
    config["imports"] = [*config["imports"], "$from bonemonai.errors import NumericalError"]
    (runner.folder / "train.json").write_text(json.dumps({**config, "bad": [4], "run": [rise, *config["run"]]}))
    settings = runner.sweep().run()
    assert "layers_4" not in {setting["folder"].name for setting in settings}
    assert {"layers_2", "baseline"} <= {setting["folder"].name for setting in settings}
    assert "is nan" in json.loads((runner.folder / "out" / "layers_4" / "failed.json").read_text())["failed"]
    (runner.folder / "train.json").write_text(json.dumps({**config, "bad": [2, 3, 4], "run": [rise, *config["run"]]}))
    with pytest.raises(NumericalError, match="is nan"):
        runner.sweep(overwrite=True).run()


def test_refuses_what_has_no_baseline_or_no_value(runner: Runner) -> None:
    with pytest.raises(InputError, match="values: vary 'batch_size', which the baseline does not set"):
        runner.sweep(values={"batch_size": [5]})
    with pytest.raises(InputError, match="values: give none to 'layers'"):
        runner.sweep(values={"layers": []})
    for values, cause in (([2, 2], "must differ"), ([1e-3, 0.001], "must differ"), (["a"], "must be numbers")):
        with pytest.raises(InputError, match=cause):
            runner.sweep(values={"layers": values})
