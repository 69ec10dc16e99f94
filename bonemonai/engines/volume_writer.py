"""Results of slice-wise inference, written as they come."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import convert_to_numpy

from bonemonai.data.atomic import atomic_path
from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError, OutputError

logger = logging.getLogger(__name__)


class VolumeWriter:
    """Handler: write an evaluator's output planes as volumes; no more than a slab of them is held.

    Attach to an evaluator whose dataset is a :class:`bonemonai.data.PlaneDataset` of one volume, unshuffled. A result
    takes its final name when the last plane is written; a run that fails leaves none.

    Args:
        volume: the scan that is inferred on; gives shape and voxel size.
        output_dir: folder for the results.
        outputs: key of an item in the engine's output to the name of its file. ``name.ome.zarr`` makes an OME-Zarr,
            a name without suffix a folder of TIFF files.
        overwrite: replace earlier results.
        attributes: provenance, put into OME-Zarr files and into ``run.json`` beside the results.

    Raises:
        InputError: if the voxel size of the scan is unknown, for its results would have none either.
        OutputError: if a result exists already or cannot be written; at construction, before any inference.
    """

    def __init__(
        self,
        volume: Volume,
        output_dir: str | Path,
        outputs: Mapping[str, str],
        *,
        overwrite: bool = False,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        if volume.voxel_size_um is None:
            raise InputError(volume.path, "does not state its voxel size; say --voxel_size_um.")
        self.record = Path(output_dir) / "run.json"
        # what had to be assumed of the scan stays with what was made from it
        about = {"voxel_size_um": list(volume.voxel_size_um), "input_warnings": volume.warnings}
        self.attributes = None if attributes is None else {**attributes, **about}
        for warning in volume.warnings:
            logger.warning("input: %s", warning)
        self.writers: dict[str, StackWriter] = {}
        for key, name in outputs.items():
            common: dict[str, Any] = {
                "shape": volume.shape,
                "dtype": np.uint8,
                "voxel_size_um": volume.voxel_size_um,
                "overwrite": overwrite,
            }
            path = Path(output_dir) / name
            if name.endswith(".zarr"):
                self.writers[key] = OmeZarrWriter(path, **common, attributes=self.attributes)
            else:
                self.writers[key] = TiffStackWriter(path, **common)
            if path.exists() and not overwrite:
                raise OutputError(path, "exists already; say --overwrite True, or choose another --output_dir.")
        self._next = 0
        self._stack = ExitStack()

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._write)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._abandon)

    def _start(self, engine: Engine) -> None:
        self._next = 0
        with ExitStack() as stack:
            for writer in self.writers.values():
                stack.enter_context(writer)
            self._stack = stack.pop_all()

    def _write(self, engine: Any) -> None:
        for batch, output in zip(engine.state.batch, engine.state.output, strict=True):
            item = {**batch, **output}
            plane = int(item["plane"])
            if plane != self._next:
                raise ValueError(f"planes must come in order: {self._next} was due, {plane} came.")
            for key, writer in self.writers.items():
                writer.write(convert_to_numpy(item[key]).astype(np.uint8)[0])
            self._next += 1

    def _finish(self, engine: Engine) -> None:
        self._stack.close()
        if self.attributes is not None:
            with atomic_path(self.record) as partial:
                partial.write_text(json.dumps(self.attributes, indent=2) + "\n", encoding="utf-8")

    def _abandon(self, engine: Engine, error: BaseException) -> None:
        self._stack.__exit__(type(error), error, error.__traceback__)
        raise error
