"""Scans in memory, for tests of what views them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.volume import Volume, scaling_affine_lps


class ArrayVolume(Volume):
    """An array as a scan."""

    format = "array"

    def __init__(
        self,
        values: NDArray[Any],
        voxel_size_um: Sequence[float] | None = (2.0, 1.5, 1.25),
        origin_mm: Sequence[float] = (0.0, 0.0, 0.0),
    ) -> None:
        planes, rows, columns = values.shape
        affine = scaling_affine_lps(voxel_size_um, origin_mm)
        super().__init__(Path("array"), shape=(planes, rows, columns), dtype=values.dtype, affine_lps=affine)
        self.values = values

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        return self.values[start:stop]


def in_blocks(volume: Volume, planes: int) -> NDArray[Any]:
    """A whole scan, read a few planes at a time."""
    return np.concatenate([block for _, block in volume.blocks(planes)])
