"""Voxels of a scan and the places in the sample that they show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ScanGrid(NamedTuple):
    """From voxel indices of a scan to micrometres in the sample: ``matrix @ index + offset``.

    Attributes:
        shape: of the scan, (planes, rows, columns).
        voxel_size_um: edge length of a voxel.
        matrix: (3, 3), um.
        offset: (3,), um.
    """

    shape: tuple[int, int, int]
    voxel_size_um: float
    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def points(self, box: tuple[slice, ...]) -> list[NDArray[np.float32]]:
        """z, y and x in um of every voxel of a box."""
        index = [axis.astype(np.float32) for axis in np.ogrid[box]]
        return [
            np.asarray(sum((np.float32(a) * i for a, i in zip(row, index, strict=True)), np.float32(shift)))
            for row, shift in zip(self.matrix, self.offset, strict=True)
        ]

    def indices(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Voxel indices, (n, 3), of places in the sample."""
        return np.asarray(np.linalg.solve(self.matrix, (points_um - self.offset).T).T)

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, ...] | None:
        """Voxels between two corners (indices); None if there are none."""
        start = np.clip(np.floor(low), 0, self.shape).astype(int)
        stop = np.clip(np.ceil(high) + 1, 0, self.shape).astype(int)
        if (stop <= start).any():
            return None
        return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))


def slab_share(distance: NDArray[np.float32], width: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Share of a voxel within a slab: overlap of one voxel's length round ``distance`` with it.

    Args:
        distance: of the voxel's centre from the slab's middle, voxels.
        width: of the slab, voxels.
    """
    half = np.float32(0.5)
    share = np.minimum(np.abs(distance) + half, half * width) - np.maximum(np.abs(distance) - half, -half * width)
    return np.asarray(np.maximum(share, 0), dtype=np.float32)
