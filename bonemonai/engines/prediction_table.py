"""What a classifier says of each patch or slice, as a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events

from bonemonai.data.atomic import atomic_path
from bonemonai.transforms.bone_patches import PATCH_PLACE


class PredictionTable:
    """Handler: write the logits of every image to a CSV file, from which scores and decisions are computed.

    A row is an image: by default, for a patch, ``subject``, ``diagnosis`` (the true class), ``plane``, ``row`` and
    ``column`` of its upper left pixel; and ``logit_<class>`` for each class. No patient is named.

    Args:
        path: the file, replaced whole when the engine ends.
        classes: names, in the order of the network's outputs.
        class_key: entry of a batch that holds the true class.
        entries: of a batch, which become the columns before the logits, in place of those of a patch.

    Attributes:
        table: of the last run.

    Attach to MONAI's evaluator, with ``decollate=False``.
    """

    def __init__(
        self,
        path: str | Path,
        classes: Sequence[str],
        class_key: str = "diagnosis",
        entries: Sequence[str] | None = None,
    ) -> None:
        self.path, self.classes = Path(path), list(classes)
        patch = {"subject": "subject", class_key: "diagnosis", **PATCH_PLACE}
        self.columns = patch if entries is None else {name: name for name in entries}
        self.table = pd.DataFrame()
        self._parts: list[pd.DataFrame] = []

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Any) -> None:
        self._parts = []

    def _add(self, engine: Any) -> None:
        batch, logits = engine.state.batch, engine.state.output["pred"].detach().float().cpu()
        columns: dict[str, Any] = {name: _values(batch[entry]) for entry, name in self.columns.items()}
        # nine digits give back the same float32
        columns |= {f"logit_{name}": logits[:, index].tolist() for index, name in enumerate(self.classes)}
        self._parts.append(pd.DataFrame(columns))

    def _write(self, engine: Any) -> None:
        self.table = pd.concat(self._parts, ignore_index=True)
        with atomic_path(self.path) as partial:
            self.table.to_csv(partial, index=False, float_format="%.9g")


def _values(entry: Any) -> list[Any]:
    return list(entry.tolist()) if isinstance(entry, torch.Tensor) else list(entry)
