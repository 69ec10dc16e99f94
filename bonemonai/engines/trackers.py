"""Learning curves in TensorBoard and MLflow, for those who want them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError

Tracker = Callable[[Mapping[str, float]], None]
_EXPERIMENT = "bonemonai"


def trackers(tensorboard: str | Path | None = None, *, mlflow: bool = False) -> list[Tracker]:
    """What writes a row of a learning curve to TensorBoard, to MLflow, to both or, by default, to neither.

    Args:
        tensorboard: folder for event files; a training that goes on writes on in it.
        mlflow: begin a run of the experiment "bonemonai" where MLflow's own variable ``MLFLOW_TRACKING_URI`` says; no
            config can name a server. Only numbers are sent: MLflow's tags, among them the user's name and the script's
            path, are not.

    Raises:
        InputError: if the package is not installed.
    """
    found: list[Tracker] = []
    if tensorboard is not None:
        found.append(_tensorboard(Path(tensorboard)))
    if mlflow:
        found.append(_mlflow())
    return found


def _tensorboard(folder: Path) -> Tracker:
    try:
        from torch.utils.tensorboard.writer import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard") from error
    writer: Any = None

    def write(row: Mapping[str, float]) -> None:
        nonlocal writer
        writer = writer or SummaryWriter(str(folder))  # at the first row: a refused run leaves no folder
        for name, value in _numbers(row).items():
            writer.add_scalar(name, value, int(row["epoch"]))
        writer.flush()

    return write


def _mlflow() -> Tracker:
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise _missing("mlflow") from error
    client, run = MlflowClient(), ""

    def write(row: Mapping[str, float]) -> None:
        nonlocal run
        if not run:
            known = client.get_experiment_by_name(_EXPERIMENT)
            experiment = client.create_experiment(_EXPERIMENT) if known is None else known.experiment_id
            run = client.create_run(experiment).info.run_id
        for name, value in _numbers(row).items():
            client.log_metric(run, name, value, step=int(row["epoch"]))

    return write


def _numbers(row: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in row.items() if name != "epoch"}


def _missing(package: str) -> InputError:
    return InputError(f"--{package}", f"is not installed: pip install 'bonemonai[{package}]'.")
