"""Images that a network makes, scored against what they should be, specimen by specimen (paper 5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from ignite.engine import Engine, Events

from bonemonai.analysis.image_quality import compare_methods, plane_quality, specimen_quality
from bonemonai.analysis.method_morphometry import MORPHOMETRY_FILES
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import write_json
from bonemonai.errors import InputError, OutputError

QUALITY_FILES = ("planes.csv", "specimens.csv", "comparison.csv", "results.json")


class QualityTable:
    """Handler: score each plane that goes through an evaluator, before the network ("lr") and after it ("dl").

    Writes, when the engine ends, ``planes.csv`` and ``specimens.csv`` (see :mod:`bonemonai.analysis.image_quality`),
    ``comparison.csv`` (paired tests) and ``results.json``.

    Args:
        output_dir: of the four files.
        about: provenance; JSON values.
        restore: from the network's output to values scaled as the images are; a sigmoid by default.
        further: keys of the batch that are methods, too, (B, 1, H, W), such as "bicubic".
        overwrite: replace an earlier evaluation, its morphometry too.

    Raises:
        OutputError: if there is one already; at construction.
        InputError: if nothing went through.

    Attach to MONAI's evaluator with ``decollate=False``; a batch has ``image``, ``high``, ``specimen`` and ``plane``.
    """

    def __init__(
        self,
        output_dir: str | Path,
        about: Mapping[str, Any],
        *,
        restore: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid,
        further: Sequence[str] = (),
        overwrite: bool = False,
    ) -> None:
        self.output_dir, self.about, self.restore = Path(output_dir), dict(about), restore
        self.further = tuple(further)
        for name in (*QUALITY_FILES, *MORPHOMETRY_FILES):
            if (self.output_dir / name).exists() and not overwrite:
                raise OutputError(
                    self.output_dir / name, "exists already; say --overwrite True, or choose another --output_dir."
                )
        self._parts: list[pd.DataFrame] = []

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._write)

    def _start(self, engine: Any) -> None:
        # of an evaluation that is overwritten nothing may stand beside this one
        for name in (*QUALITY_FILES, *MORPHOMETRY_FILES):
            (self.output_dir / name).unlink(missing_ok=True)
        self._parts = []

    def _add(self, engine: Any) -> None:
        batch, output = engine.state.batch, engine.state.output
        images = {"lr": batch["image"], "dl": self.restore(output["pred"].detach().float())}
        images |= {name: batch[name] for name in self.further}
        planes = torch.as_tensor(batch["plane"]).tolist()
        for index, specimen in enumerate(batch["specimen"]):
            one = {name: [torch.as_tensor(values)[index, 0].cpu().numpy()] for name, values in images.items()}
            table = plane_quality(str(specimen), [torch.as_tensor(batch["high"])[index, 0].cpu().numpy()], one)
            self._parts.append(table.assign(plane=planes[index]))

    def _write(self, engine: Any) -> None:
        if not self._parts:
            raise InputError("evaluation", "no plane went through the network.")
        planes = pd.concat(self._parts, ignore_index=True)
        specimens = specimen_quality(planes)
        compared = [
            compare_methods(specimens, other, "dl").assign(first=other, second="dl") for other in ("lr", *self.further)
        ]
        tables = {"planes": planes, "specimens": specimens, "comparison": pd.concat(compared, ignore_index=True)}
        for name, table in tables.items():
            with atomic_path(self.output_dir / f"{name}.csv") as partial:
                table.to_csv(partial, index=False, float_format="%.6g")
        counts = {"specimens": int(specimens["specimen"].nunique()), "planes": int((planes["method"] == "dl").sum())}
        write_json(self.output_dir / "results.json", {"note": NOT_A_DEVICE, "scored": counts, **self.about})
