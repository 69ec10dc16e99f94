"""Zarr (version 2 or 3) and OME-Zarr (0.4 or 0.5) volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bonemonai.data.volume import Volume, scaling_affine_lps
from bonemonai.errors import InputError

_UM_PER_UNIT = {"nanometer": 1e-3, "micrometer": 1.0, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


class ZarrVolume(Volume):
    """A Zarr array, or the full-resolution image of an OME-Zarr group.

    Args:
        path: the folder. Axes before the last three (time, channel) must have size 1.

    Raises:
        InputError: if the folder holds no 3-D image, or chunks are missing: a missing chunk reads as the
            fill value, which is indistinguishable from data.
    """

    format = "Zarr"

    def __init__(self, path: Path) -> None:
        node = zarr.open(path, mode="r")
        affine = None
        self._array_name = ""
        if isinstance(node, zarr.Group):
            self.format = "OME-Zarr"
            multiscale = _only_multiscale(node, path)
            dataset = multiscale["datasets"][0]
            self._array_name = str(dataset["path"])
            affine = _affine_lps(multiscale, dataset)
            node = node[self._array_name]
        if not isinstance(node, zarr.Array) or node.ndim < 3 or any(n != 1 for n in node.shape[:-3]):
            raise InputError(path, f"has shape {getattr(node, 'shape', None)}; one 3-D image is needed.")
        missing = node.nchunks - node.nchunks_initialized
        if missing:
            raise InputError(path, f"lacks {missing} of {node.nchunks} chunks, which would read as fill values.")
        depth, height, width = node.shape[-3:]
        super().__init__(
            path,
            shape=(depth, height, width),
            dtype=node.dtype,
            affine_lps=affine,
            warnings=[] if affine is not None else ["voxel size is not stated; say --voxel-size-um."],
        )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        array: Any = zarr.open(self.path, mode="r", path=self._array_name)
        block: NDArray[Any] = array[(0,) * (array.ndim - 3) + (slice(start, stop),)]
        return block


def _only_multiscale(group: zarr.Group, path: Path) -> dict[str, Any]:
    attributes: Any = group.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales", [])
    if len(multiscales) != 1:
        raise InputError(path, f"holds {len(multiscales)} OME-Zarr images; name the array inside it.")
    multiscale: dict[str, Any] = multiscales[0]
    return multiscale


def _affine_lps(multiscale: dict[str, Any], dataset: dict[str, Any]) -> NDArray[np.float64] | None:
    """Scale and translation of the (z, y, x) axes as an affine; None unless all three name a unit of length."""
    axes = multiscale["axes"][-3:]
    units = [_UM_PER_UNIT.get(axis.get("unit", "")) for axis in axes]
    scale, translation = np.ones(3), np.zeros(3)
    for transform in dataset["coordinateTransformations"] + multiscale.get("coordinateTransformations", []):
        if transform["type"] == "scale":
            factor = np.asarray(transform["scale"][-3:], dtype=float)
            scale, translation = scale * factor, translation * factor
        elif transform["type"] == "translation":
            translation = translation + np.asarray(transform["translation"][-3:], dtype=float)
        elif transform["type"] != "identity":
            return None
    if any(unit is None for unit in units) or not (np.isfinite(scale).all() and (scale > 0).all()):
        return None
    um = np.asarray(units, dtype=float)
    return scaling_affine_lps(list(scale * um), origin_mm=list((translation * um / 1000.0)[::-1]))
