"""A training's loss and scores, epoch by epoch, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
        terms: called after each batch, gives further numbers by name, as the losses that the loss is made of; their
            means over the batches that have them become columns.

    Attributes:
        rows: an entry an epoch.
    """

    def __init__(
        self, path: str | Path, validator: Any = None, *, terms: Callable[[], Mapping[str, float]] | None = None
    ) -> None:
        self.path, self.validator, self.terms = Path(path), validator, terms
        self.rows: list[dict[str, float]] = []
        self._batches: list[dict[str, float]] = []

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on must know."""
        return {"rows": [dict(row) for row in self.rows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on.

        Args:
            state: see :meth:`state_dict`.
        """
        self.rows, self._batches = [dict(row) for row in state["rows"]], []

    def _add(self, engine: Any) -> None:
        output = engine.state.output
        loss = output["loss"] if isinstance(output, dict) else output[0]["loss"]
        terms = {} if self.terms is None else self.terms()
        self._batches.append({"loss": float(torch.as_tensor(loss).detach()), **terms})

    def _write(self, engine: Any) -> None:
        means = pd.DataFrame(self._batches).mean()
        row = {"epoch": engine.state.epoch, **{str(name): float(value) for name, value in means.items()}}
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            row |= {name: float(value) for name, value in self.validator.state.metrics.items()}
        self._batches = []
        self.rows.append(row)
        with atomic_path(self.path) as partial:
            pd.DataFrame(self.rows).to_csv(partial, index=False)
