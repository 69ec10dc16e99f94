"""What a scan is, before anything is done with it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from bonemonai.data.atomic import atomic_path
from bonemonai.data.volume import Volume
from bonemonai.errors import OutputError

_SAMPLED_BYTES = 256_000_000
_SAMPLED_PLANES = 24  # where each is costly


def inspect_volume(volume: Volume, *, full: bool = False) -> dict[str, str]:
    """Describe a volume in words, for a person.

    Args:
        volume: an open volume.
        full: read every plane for the range of values; by default planes are sampled evenly once the volume
            exceeds 256 MB, or has more than 24 DICOM slices, and the text says so.

    Returns:
        Label and value of each line; warnings are ``warning``, ``warning 2``, ...
    """
    size = volume.voxel_size_um
    lines = {
        "path": str(volume.path),
        "format": volume.format,
        **({"part": volume.part} if volume.part else {}),
        "shape": f"{' x '.join(map(str, volume.shape))} (planes x rows x columns)",
        "planes": str(volume.shape[0]),
        "dtype": str(volume.dtype),
        "voxel size": "unknown" if size is None else f"{' x '.join(f'{edge:g}' for edge in size)} um",
        "extent": "unknown" if size is None else _extent(volume.shape, size),
        "orientation": orientation(volume),
        "units": volume.units,
        "range": _value_range(volume, full=full),
    }
    for number, warning in enumerate(volume.warnings, start=1):
        lines["warning" if number == 1 else f"warning {number}"] = warning
    return lines


def dump_volume(volume: Volume, out: str | Path) -> tuple[Path, Path]:
    """Write a volume as OUT.npy and what is known of it as OUT.json, for any other program to read.

    Args:
        volume: of any size; planes are copied one block at a time.
        out: path without suffix.

    Returns:
        The two files. OUT.npy holds (plane, row, column). OUT.json holds ``affine_lps`` (4 x 4, array index to
        mm), ``spacing_mm`` (along plane, row, column), both null where the voxel size is unknown, ``shape``,
        ``dtype``, ``units`` of the values and ``warnings``.

    Raises:
        OutputError: if the files cannot be written.
    """
    base = Path(out)
    if not base.name or base.name == "..":
        raise OutputError(out, "is no name for a file.")
    array_path, facts_path = (base.with_name(base.name + suffix) for suffix in (".npy", ".json"))
    size = volume.voxel_size_um
    facts = {
        "affine_lps": None if volume.affine_lps is None else volume.affine_lps.tolist(),
        "spacing_mm": None if size is None else [float(f"{edge / 1000:.10g}") for edge in size],
        "shape": list(volume.shape),
        "dtype": str(volume.dtype),
        "units": volume.units,
        "warnings": volume.warnings,
    }
    description = {"descr": np.lib.format.dtype_to_descr(volume.dtype), "fortran_order": False, "shape": volume.shape}
    # written, not mapped: a full disk kills a process that writes to a map
    with atomic_path(array_path) as partial, open(partial, "wb") as stream:
        np.lib.format.write_array_header_2_0(stream, description)
        for _, block in volume.blocks(volume.planes_within(_SAMPLED_BYTES)):
            stream.write(block.data)
    with atomic_path(facts_path) as partial:
        partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return array_path, facts_path


def orientation(volume: Volume) -> str:
    """Name the anatomical directions in which planes, rows and columns run, as far as the file states them.

    Args:
        volume: an open volume.

    Returns:
        For instance "planes to Superior, rows to Posterior, columns to Left"; stacks without orientation give
        "not stated".
    """
    if volume.affine_lps is None or not volume.oriented:
        return "not stated (planes along z, rows along y, columns along x)"
    names = (("Left", "Right"), ("Posterior", "Anterior"), ("Superior", "Inferior"))
    parts = []
    for axis, column in zip(("planes", "rows", "columns"), volume.affine_lps[:3, :3].T, strict=True):
        largest = int(np.argmax(np.abs(column)))
        oblique = np.abs(column[largest]) / np.linalg.norm(column) < math.cos(math.radians(1))
        parts.append(f"{axis} {'roughly ' if oblique else ''}to {names[largest][int(column[largest] < 0)]}")
    return ", ".join(parts)


def _extent(shape: tuple[int, ...], size_um: tuple[float, ...]) -> str:
    return f"{' x '.join(f'{n * edge / 1000:g}' for n, edge in zip(shape, size_um, strict=True))} mm"


def _value_range(volume: Volume, *, full: bool) -> str:
    step = 1 if full else max(1, math.ceil(_bytes(volume) / _SAMPLED_BYTES))
    if volume.costly_planes and not full:
        # a folder of thousands of slices is to answer at once
        step = max(step, math.ceil(volume.shape[0] / _SAMPLED_PLANES))
    low, high, non_finite, constant, read = math.inf, -math.inf, 0, 0, 0
    for block in _blocks(volume, step):
        finite = block[np.isfinite(block)] if block.dtype.kind == "f" else block
        non_finite += block.size - finite.size
        if finite.size:
            low, high = min(low, finite.min()), max(high, finite.max())
        read += len(block)
        constant += sum(bool((plane == plane.flat[0]).all()) for plane in block)
    text = "no finite value" if low > high else f"{low} to {high}"
    if non_finite:
        text += f", and {non_finite} NaN or infinite values"
    if constant:
        text += f"; {constant} plane(s) of one value"
    return text if step == 1 else f"{text} (in {read} of {volume.shape[0]} planes; --full reads all)"


def _blocks(volume: Volume, step: int) -> Any:
    if step == 1:
        return (block for _, block in volume.blocks(volume.planes_within(_SAMPLED_BYTES)))
    return (volume.read(plane, plane + 1) for plane in range(0, volume.shape[0], step))


def _bytes(volume: Volume) -> int:
    return math.prod(volume.shape) * volume.dtype.itemsize
