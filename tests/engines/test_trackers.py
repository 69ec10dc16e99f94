from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from bonemonai.engines import trackers
from bonemonai.errors import InputError

ROWS = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25, "dice": 0.75}]


def test_off_by_default() -> None:
    assert trackers() == []


def test_tensorboard(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed: curves in it are not tested")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (write,) = trackers(tensorboard=tmp_path / "board")
    assert not (tmp_path / "board").exists()
    for row in ROWS:
        write(row)
    events = EventAccumulator(str(tmp_path / "board")).Reload()
    assert [(each.step, each.value) for each in events.Scalars("loss")] == [(1, 0.5), (2, 0.25)]
    assert [(each.step, each.value) for each in events.Scalars("dice")] == [(2, 0.75)]


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of MLflow's own
def test_mlflow_is_told_numbers_and_nothing_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: curves in it are not tested")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'runs.db'}")
    monkeypatch.chdir(tmp_path)
    (write,) = trackers(mlflow=True)
    for row in ROWS:
        write(row)
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'runs.db'}")
    (run,) = client.search_runs([client.get_experiment_by_name("bonemonai").experiment_id])
    assert [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, "loss")] == [
        (1, 0.5),
        (2, 0.25),
    ]
    assert not any("user" in name or "source" in name for name in run.data.tags)


@pytest.mark.parametrize("option", [{"tensorboard": "board"}, {"mlflow": True}])
def test_what_is_not_installed_is_said(option: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name.startswith(("mlflow", "torch.utils.tensorboard")):
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"is not installed: pip install 'bonemonai\[(tensorboard|mlflow)\]'"):
        trackers(**option)
