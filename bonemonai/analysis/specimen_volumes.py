"""What a network makes of each specimen, plane by plane, as a volume in the scan's own units (paper 5)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.errors import InputError, OutputError


class SpecimenVolumes:
    """Handler: write what goes through an evaluator as one OME-Zarr volume a specimen, float32.

    Args:
        folder: of the volumes, see :func:`specimen_path`.
        rows: see :func:`bonemonai.data.resolution_rows`; the fine scans say size, place and units.
        grey_range: (least, most) of what was scaled to [0, 1], in the scans' units.
        restore: from the network's output to values in [0, 1]; a sigmoid by default.
        overwrite: replace volumes that are there.

    Raises:
        OutputError: if one is there already, at construction.
        InputError: if two specimens' names make one file name, or a specimen's planes do not all come, in order.

    Attach to MONAI's evaluator with ``decollate=False``; a batch has ``specimen`` and ``plane``.
    """

    def __init__(
        self,
        folder: str | Path,
        rows: Sequence[Mapping[Hashable, Any]],
        grey_range: Sequence[float],
        *,
        restore: Callable[[torch.Tensor], torch.Tensor] = torch.sigmoid,
        overwrite: bool = False,
    ) -> None:
        self.folder, self.restore, self.overwrite = Path(folder), restore, overwrite
        self.least, self.most = (float(end) for end in grey_range)
        self._like = {str(row["specimen"]): row["high"] for row in rows}
        names = Counter(specimen_path("", name).name.casefold() for name in self._like)
        if twice := [name for name in self._like if names[specimen_path("", name).name.casefold()] > 1]:
            raise InputError(twice[0], f"and {twice[1]} would be one file; give parts and sites other names.")
        self._writer: OmeZarrWriter | None = None
        self._specimen, self._came = "", 0
        for specimen in self._like:
            if specimen_path(self.folder, specimen).exists() and not overwrite:
                raise OutputError(
                    specimen_path(self.folder, specimen),
                    "exists already; say --overwrite True, or choose another --output_dir.",
                )

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._add)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abort)

    def _start(self, engine: Any) -> None:
        self._writer, self._specimen, self._came = None, "", 0

    def _add(self, engine: Any) -> None:
        batch = engine.state.batch
        values = self.restore(engine.state.output["pred"].detach().float()).cpu().numpy()[:, 0]
        values = values.astype(np.float64) * (self.most - self.least) + self.least
        planes = torch.as_tensor(batch["plane"]).tolist()
        for specimen, plane, image in zip(batch["specimen"], planes, values, strict=True):
            writer = self._writer
            if writer is None or specimen != self._specimen:
                self._finish(engine)
                writer = self._begin(str(specimen))
            if plane != self._came:
                raise InputError(
                    specimen, f"has its plane {plane} come where {self._came} is due; say --step 1, and do not shuffle."
                )
            writer.write(image.astype(np.float32))
            self._came += 1

    def _begin(self, specimen: str) -> OmeZarrWriter:
        like = self._like[specimen]
        place = {} if like.affine_lps is None else {"affine_lps": like.affine_lps.tolist()}
        writer = OmeZarrWriter(
            specimen_path(self.folder, specimen), shape=like.shape, dtype="float32", voxel_size_um=like.voxel_size_um,
            kind="image", overwrite=self.overwrite, attributes={"units": like.units, **place},
        ).__enter__()  # fmt: skip
        self._writer, self._specimen, self._came = writer, specimen, 0
        return writer

    def _finish(self, engine: Any) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        if self._came < writer.shape[0]:
            error = InputError(
                self._specimen, f"sent {self._came} of {writer.shape[0]} planes; say --step 1, and do not shuffle."
            )
            writer.__exit__(InputError, error, None)
            raise error
        writer.__exit__(None, None, None)

    def _abort(self, engine: Any, error: BaseException) -> None:
        if self._writer is not None:
            self._writer.__exit__(type(error), error, None)
            self._writer = None
        raise error


def specimen_path(folder: str | Path, specimen: str) -> Path:
    """Where a specimen's volume stands.

    Args:
        folder: of all volumes.
        specimen: its name, see :func:`bonemonai.data.resolution_rows`.

    Example:
        >>> specimen_path("volumes", "subject_00 femur 1 frames").name
        'subject_00_femur_1_frames.ome.zarr'
    """
    return Path(folder) / (re.sub(r"[^\w.-]+", "_", specimen) + ".ome.zarr")
