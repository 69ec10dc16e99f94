"""A training's loss and scores, epoch by epoch, as a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events

from bonemonai.data.atomic import atomic_path


class LearningCurve:
    """Handler: write ``epoch``, ``loss`` (mean over the epoch's batches) and the validation's metrics to a CSV file.

    The file is replaced whole after each epoch, so that a run that dies leaves the epochs it had.

    Args:
        path: the file.
        validator: MONAI's evaluator, if there is one. Attach this handler after the one that runs it.

    Attributes:
        rows: an entry an epoch.
    """

    def __init__(self, path: str | Path, validator: Any = None) -> None:
        self.path, self.validator = Path(path), validator
        self.rows: list[dict[str, float]] = []
        self._sum, self._count = 0.0, 0

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _add(self, engine: Any) -> None:
        output = engine.state.output
        loss = output["loss"] if isinstance(output, dict) else output[0]["loss"]
        self._sum += float(torch.as_tensor(loss).detach())
        self._count += 1

    def _write(self, engine: Any) -> None:
        row = {"epoch": engine.state.epoch, "loss": self._sum / self._count}
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            row |= {name: float(value) for name, value in self.validator.state.metrics.items()}
        self._sum, self._count = 0.0, 0
        self.rows.append(row)
        with atomic_path(self.path) as partial:
            pd.DataFrame(self.rows).to_csv(partial, index=False)
