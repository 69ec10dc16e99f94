"""A mask of a fine grid, on voxels several times as large."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume


class CoarsenedMask(DerivedVolume):
    """A mask, uint8 with 1 where half or more of a coarse voxel is marked; made as it is read.

    Args:
        base: mask, non-zero where it marks.
        factor: voxels of the base along a coarse voxel's edge, 2 or more; what does not fill a last coarse voxel is
            cut off.

    Raises:
        ValueError: if the factor is below 2.
    """

    def __init__(self, base: Volume, factor: int) -> None:
        if factor < 2:
            raise ValueError(f"factor must be >= 2 (voxels along an edge), got {factor}.")
        self.factor = factor
        planes, rows, columns = (size // factor for size in base.shape)
        affine = None
        if base.affine_lps is not None:
            coarser = np.diag([factor, factor, factor, 1.0])
            coarser[:3, 3] = (factor - 1) / 2
            affine = base.affine_lps @ coarser
        super().__init__(base, shape=(planes, rows, columns), dtype=np.uint8, affine_lps=affine)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        _, rows, columns = (size * self.factor for size in self.shape)
        marked = self.base.read(start * self.factor, stop * self.factor)[:, :rows, :columns] != 0
        return np.asarray(block_reduce(marked, (self.factor,) * 3, np.mean) >= 0.5).astype(np.uint8)
