"""Zarr (version 2 or 3) and OME-Zarr (0.4 or 0.5) volumes."""

from __future__ import annotations

import asyncio
import math
import threading
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync

from bonemonai.data.volume import Volume, scaling_affine_lps
from bonemonai.errors import InputError

_MOST_CHUNKS = 5_000_000
_UM_PER_UNIT = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}
_one_waits = threading.Lock()


class ZarrVolume(Volume):
    """A Zarr array, or the full-resolution image of an OME-Zarr group.

    Args:
        path: the folder. Axes before the last three (time, channel) must have size 1.
        part: path of an array or image in the folder, where there are several.

    Raises:
        InputError: if the folder holds no 3-D image, or chunks are missing: a missing chunk reads as the
            fill value, which is indistinguishable from data.
    """

    format = "Zarr"

    def __init__(self, path: Path, part: str = "") -> None:
        node = zarr.open(path, mode="r", path=part)
        affine = None
        self.part, self._array_name = part, part
        if isinstance(node, zarr.Group):
            self.format = "OME-Zarr"
            multiscale = _only_multiscale(node, path)
            dataset = multiscale["datasets"][0]
            name = str(dataset["path"])
            _check_first_is_largest(node, multiscale, path)
            self._array_name = f"{part}/{name}" if part else name
            node = node[name]
            _check_axes(multiscale, getattr(node, "ndim", 0), path)
            affine = _affine_lps(multiscale, dataset, path)
            kept = _kept_by_bonemonai(path, part)
            restored = _restored(affine, kept.get("affine_lps"))
            self.oriented, affine, self.units = restored is not affine, restored, kept.get("units", "raw")
        if not isinstance(node, zarr.Array) or node.ndim < 3 or any(n != 1 for n in node.shape[:-3]):
            raise InputError(path, f"has shape {getattr(node, 'shape', None)}; one 3-D image is needed.")
        _check_chunks(node, path)
        depth, height, width = node.shape[-3:]
        self.planes_at_once = (node.shards or node.chunks)[-3]
        super().__init__(
            path,
            shape=(depth, height, width),
            dtype=node.dtype,
            affine_lps=affine,
            warnings=[] if affine is not None else ["voxel size is not stated; say --voxel-size-um."],
        )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        array: Any = zarr.open(self.path, mode="r", path=self._array_name)
        try:
            block: NDArray[Any] = array[(0,) * (array.ndim - 3) + (slice(start, stop),)]
        except Exception:
            _await_other_chunks()
            raise
        return block


def _await_other_chunks() -> None:
    """Let the chunks end that were being read when one failed; at exit Python would report each that is pending."""

    async def others() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*tasks, return_exceptions=True)

    with _one_waits:  # two at once would await each other
        sync(others())


def _kept_by_bonemonai(path: Path, part: str) -> dict[str, Any]:
    """What this package's writer keeps beside OME's metadata, which have no orientation and no units of values."""
    kept = zarr.open_group(path, mode="r", path=part).attrs.asdict().get("bonemonai")
    found = kept if isinstance(kept, dict) else {}
    return {name: found[name] for name in ("affine_lps", "units") if found.get(name) is not None}


def _restored(affine: NDArray[np.float64] | None, kept: Any) -> NDArray[np.float64] | None:
    """The affine that was kept, if it still fits the voxel size, which another program may have changed."""
    if affine is None or kept is None:
        return affine
    whole = np.asarray(kept, dtype=np.float64)
    stated, found = (np.linalg.norm(matrix[:3, :3], axis=0) for matrix in (affine, whole))
    return whole if np.allclose(stated, found, rtol=1e-6) else affine


def _only_multiscale(group: zarr.Group, path: Path) -> dict[str, Any]:
    attributes: Any = group.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales", [])
    if len(multiscales) != 1:
        raise InputError(path, f"holds {len(multiscales)} OME-Zarr images; name an array inside it, PATH::NAME.")
    multiscale: dict[str, Any] = multiscales[0]
    return multiscale


def _check_first_is_largest(group: zarr.Group, multiscale: dict[str, Any], path: Path) -> None:
    """Levels are listed from the largest down; a reader that takes the first relies on it."""
    sizes = []
    for level in multiscale["datasets"]:
        array = group.get(str(level["path"]))
        if not isinstance(array, zarr.Array):
            raise InputError(path, f"lacks its level {level['path']}.")
        sizes.append(math.prod(array.shape))
    if sizes[0] < max(sizes):
        raise InputError(path, "does not list its full-resolution level first, as OME-Zarr requires.")


def _check_axes(multiscale: dict[str, Any], ndim: int, path: Path) -> None:
    names = [str(axis.get("name", "")).lower() for axis in multiscale["axes"]]
    if len(names) != ndim or names[-3:] != ["z", "y", "x"]:
        raise InputError(path, f"has axes {', '.join(names)}; the last three of {ndim} must be z, y, x.")


def _check_chunks(array: zarr.Array[Any], path: Path) -> None:
    """Refuse an array that lacks a file: a chunk, or the shard that holds several."""
    stored = array.shards or array.chunks
    expected = math.prod(-(-n // step) for n, step in zip(array.shape, stored, strict=True))
    if expected > _MOST_CHUNKS:
        raise InputError(path, f"claims {expected} chunks of {stored}; at most {_MOST_CHUNKS} are looked for.")
    a_file = math.prod(outer // inner for outer, inner in zip(stored, array.chunks, strict=True))
    missing = expected - array.nchunks_initialized // a_file
    if missing:
        raise InputError(
            path, f"lacks {missing} of {expected} chunks, which would read as fill values. If its writer left out what "
            "is empty (zarr does unless told otherwise), copy it with write_empty_chunks=True."
        )  # fmt: skip


def _affine_lps(multiscale: dict[str, Any], dataset: dict[str, Any], path: Path) -> NDArray[np.float64] | None:
    """Scale and translation of the (z, y, x) axes as an affine; None unless all three name a unit of length."""
    axes = multiscale["axes"][-3:]
    units = [_UM_PER_UNIT.get(axis.get("unit", "")) for axis in axes]
    scale, translation = np.ones(3), np.zeros(3)  # along z, y, x
    for transform in dataset["coordinateTransformations"] + multiscale.get("coordinateTransformations", []):
        if transform["type"] == "scale":
            factor = np.asarray(transform["scale"][-3:], dtype=float)
            scale, translation = scale * factor, translation * factor
        elif transform["type"] == "translation":
            translation = translation + np.asarray(transform["translation"][-3:], dtype=float)
        elif transform["type"] != "identity":
            return None
    if not (np.isfinite(scale).all() and (scale > 0).all() and np.isfinite(translation).all()):
        raise InputError(
            path, f"states a voxel size of {scale.tolist()} at {translation.tolist()}; numbers > 0 are due."
        )
    if any(unit is None for unit in units):
        return None
    um = np.asarray(units, dtype=float)
    return scaling_affine_lps(list(scale * um), origin_mm=list((translation * um / 1000.0)[::-1]))
