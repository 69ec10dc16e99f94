"""A volume that is computed as it is read becomes OME-Zarr, a few planes at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_LEAST_PLANES = 16  # a chunk's


def write_blockwise(
    volume: Volume,
    path: Path,
    *,
    kind: Literal["label", "image"] = "image",
    attributes: Mapping[str, Any] | None = None,
    memory: float = 64e6,
    progress: bool = False,
) -> None:
    """Write a volume; what stands in its place is replaced once all of it is there.

    Args:
        volume: to read.
        path: to write, ending in .ome.zarr.
        kind: a "label" has classes, an "image" grey values.
        attributes: kept beside OME's; JSON values.
        memory: bytes of the volume held at once, about; 16 planes at least.
        progress: show a bar on standard error.

    Raises:
        InputError: if it cannot be read, or holds NaN or infinite values.
        OutputError: if it cannot be written.
    """
    writer = OmeZarrWriter(
        path,
        shape=volume.shape,
        dtype=volume.dtype,
        voxel_size_um=volume.voxel_size_um or (),
        kind=kind,
        overwrite=True,
        attributes=dict(attributes or {}),
    )
    planes = max(volume.planes_within(memory), min(_LEAST_PLANES, volume.shape[0]))
    with writer, tqdm(total=volume.shape[0], desc=path.name, disable=not progress, leave=False) as bar:
        for start, block in volume.blocks(planes):
            if block.dtype.kind == "f" and not np.isfinite(block).all():
                raise InputError(
                    volume.path, f"planes {start} to {start + len(block) - 1} of the box hold NaN or infinite values."
                )
            writer.write(block)
            bar.update(len(block))
