"""A training's loss and scores, epoch by epoch, as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events
from torch import distributed

from bonemonai.data.atomic import atomic_path
from bonemonai.inferers.ranks import rank, world_size


class LearningCurve:
    """Handler: write ``epoch``, ``loss`` (mean over the epoch's batches) and the validation's metrics to a CSV file.

    The file is replaced whole after each epoch, so that a run that dies leaves the epochs it had. Of several processes
    the first writes.

    Args:
        path: the file.
        validator: MONAI's evaluator, if there is one. Attach this handler after the one that runs it.
        terms: called after each batch, gives further numbers by name, as the losses that the loss is made of; their
            means over the batches that have them become columns.
        trackers: called with each row as it comes, see :func:`bonemonai.engines.trackers`.

    Attributes:
        rows: an entry an epoch.
    """

    def __init__(
        self,
        path: str | Path,
        validator: Any = None,
        *,
        terms: Callable[[], Mapping[str, float]] | None = None,
        trackers: Sequence[Callable[[Mapping[str, float]], None]] = (),
    ) -> None:
        self.path, self.validator, self.terms, self.trackers = Path(path), validator, terms, list(trackers)
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

    @contextmanager
    def rehearsed(self, folder: Path) -> Iterator[None]:
        """While this context is open, write to a folder that is thrown away."""
        path, trackers = self.path, self.trackers
        self.path, self.trackers = folder / path.name, []
        try:
            yield
        finally:
            self.path, self.trackers = path, trackers

    def _add(self, engine: Any) -> None:
        output = engine.state.output
        loss = output["loss"] if isinstance(output, dict) else output[0]["loss"]
        terms = {} if self.terms is None else self.terms()
        self._batches.append({"loss": float(torch.as_tensor(loss).detach()), **terms})

    def _write(self, engine: Any) -> None:
        means = _of_all_processes(pd.DataFrame(self._batches).mean().to_dict())
        row = {"epoch": engine.state.epoch, **{str(name): float(value) for name, value in means.items()}}
        if self.validator is not None and self.validator.state.epoch == engine.state.epoch:
            row |= {name: float(value) for name, value in self.validator.state.metrics.items()}
        self._batches = []
        self.rows.append(row)
        if rank() > 0:
            return
        with atomic_path(self.path) as partial:
            pd.DataFrame(self.rows).to_csv(partial, index=False)
        for tracker in self.trackers:
            tracker(row)


def _of_all_processes(means: dict[Any, float]) -> dict[Any, float]:
    """Mean over processes, each with its own part of every batch."""
    if world_size() == 1:
        return means
    gathered: list[Any] = [None] * world_size()
    distributed.all_gather_object(gathered, means)
    return {name: float(value) for name, value in pd.DataFrame(gathered).mean().items()}
