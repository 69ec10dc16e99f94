"""A scan brought onto another one's grid by a rigid transform."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.registration import image_of
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

Interpolation = Literal["bspline", "linear", "nearest"]
# voxels beyond those asked for: a spline's coefficients depend on all voxels, by 0.27 to the power of the distance
_MODES = {
    "bspline": (SimpleITK.sitkBSpline, 16),
    "linear": (SimpleITK.sitkLinear, 2),
    "nearest": (SimpleITK.sitkNearestNeighbor, 2),
}


_THINNEST = 4  # voxels along an axis, for a cubic spline


class ResampledVolume(DerivedVolume):
    """A box of a fixed scan's grid, filled with the values of a moving scan.

    Each read takes the planes of the moving scan that the transform leads to, no others.

    Args:
        base: the moving scan.
        transform: from points of the fixed scan to points of the moving one, see
            :class:`bonemonai.data.registration.Registration`.
        start: first (plane, row, column) of the box in the fixed scan.
        size: (planes, rows, columns) of the box.
        interpolation: "bspline" (cubic) keeps noise nearly as it is; "linear" smooths it, and a network may then
            tell a resampled scan from one that was not; "nearest" for masks.

    Attributes:
        outside: share of the box's voxels that lie outside the moving scan: they repeat its outermost voxels.

    Shape:
        read() returns float32, for "nearest" the base's type. The affine leads to where the moving scan has those
        voxels.

    Raises:
        InputError: if the interpolation is none of those or needs a thicker scan, or the box lies outside.
    """

    def __init__(
        self,
        base: Volume,
        transform: SimpleITK.Transform,
        start: Sequence[int],
        size: Sequence[int],
        interpolation: Interpolation = "bspline",
    ) -> None:
        refuse_interpolation(interpolation)
        if interpolation == "bspline" and min(base.shape) < _THINNEST:
            raise InputError(
                base.path, f"is {base.shape} voxels, too thin for cubic splines; choose linear interpolation."
            )
        planes, rows, columns = (int(n) for n in size)
        self.start, self.interpolation = tuple(int(n) for n in start), interpolation
        self._matrix = _index_matrix(transform, base.voxel_size_um or (1.0, 1.0, 1.0))
        affine = None
        if base.affine_lps is not None:
            affine = base.affine_lps @ self._matrix
            affine[:3, 3] += affine[:3, :3] @ np.asarray(self.start, dtype=np.float64)
        dtype = base.dtype if interpolation == "nearest" else np.float32
        super().__init__(base, shape=(planes, rows, columns), dtype=dtype, affine_lps=affine)
        self.outside = self._share_outside()
        if self.outside > 0.9:
            raise InputError(base.path, f"lies elsewhere: {self.outside:.0%} of the box to cut out are outside it.")

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        interpolator, margin = _MODES[self.interpolation]
        first = (self.start[0] + start, *self.start[1:])
        size = (stop - start, *self.shape[1:])
        corners = self._moved(_corners(first, size))
        limits = np.asarray(self.base.shape)
        # where the box is outside, what is repeated is resampled too: from as much of the scan as elsewhere
        low = np.clip(np.floor(corners.min(axis=0)).astype(int) - margin, 0, np.maximum(limits - 2 * margin, 0))
        high = np.clip(np.ceil(corners.max(axis=0)).astype(int) + margin + 1, np.minimum(2 * margin, limits), limits)
        block = self.base.read(int(low[0]), int(high[0]))[:, low[1] : high[1], low[2] : high[2]]
        if self.interpolation != "nearest":
            block = block.astype(np.float32, copy=False)
        # in voxels: grids of both scans have steps of 1
        image = image_of(np.ascontiguousarray(block), (1000.0,) * 3, low)
        grid = SimpleITK.Image([int(n) for n in reversed(size)], SimpleITK.sitkUInt8)
        grid.SetOrigin([float(n) for n in reversed(first)])
        affine = SimpleITK.AffineTransform(3)
        affine.SetMatrix(self._matrix[::-1, ::-1][1:, 1:].ravel().tolist())
        affine.SetTranslation(self._matrix[:3, 3][::-1].tolist())
        filled = SimpleITK.Resample(image, grid, affine, interpolator, 0.0, image.GetPixelID(), True)
        return SimpleITK.GetArrayFromImage(filled)

    def _moved(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(points @ self._matrix[:3, :3].T + self._matrix[:3, 3])

    def _share_outside(self) -> float:
        """Exact: of each row of the box, the run of columns that falls into the scan is counted."""
        planes, rows = (np.arange(first, first + n) for first, n in zip(self.start[:2], self.shape[:2], strict=True))
        low = np.full((len(planes), len(rows)), float(self.start[2]))
        high = low + self.shape[2] - 1
        for axis, extent in enumerate(self.base.shape):
            by_plane, by_row, by_column, offset = self._matrix[axis]
            rest = by_plane * planes[:, None] + by_row * rows[None] + offset
            if abs(by_column) < 1e-12:
                high = np.where((rest < -0.5) | (rest > extent - 0.5), low - 1, high)
                continue
            ends = np.sort([(-0.5 - rest) / by_column, (extent - 0.5 - rest) / by_column], axis=0)
            # a hair's breadth is rounding
            low, high = np.maximum(low, np.ceil(ends[0] - 1e-9)), np.minimum(high, np.floor(ends[1] + 1e-9))
        inside = np.clip(high - low + 1, 0, None).sum()
        return 1 - float(inside) / (len(planes) * len(rows) * self.shape[2])


def refuse_interpolation(interpolation: str) -> None:
    """Refuse what is no interpolation.

    Args:
        interpolation: see :class:`ResampledVolume`.

    Raises:
        InputError: if there is none of that name.
    """
    if interpolation not in _MODES:
        raise InputError("interpolation", f"must be one of {', '.join(_MODES)}, got {interpolation!r}.")


def _index_matrix(transform: SimpleITK.Transform, voxel_size_um: Sequence[float]) -> NDArray[np.float64]:
    """4 x 4, from (plane, row, column) of the fixed scan to that of the moving one."""
    edge = np.asarray(voxel_size_um, dtype=np.float64) / 1000

    def moved(index: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(transform.TransformPoint((index * edge)[::-1].tolist()))[::-1] / edge

    origin = moved(np.zeros(3))
    matrix = np.eye(4)
    matrix[:3, 3] = origin
    # from points far apart: digits are lost in differences
    matrix[:3, :3] = np.stack([(moved(1000.0 * axis) - origin) / 1000 for axis in np.eye(3)], axis=1)
    return matrix


def _corners(start: Sequence[int], size: Sequence[int]) -> NDArray[np.float64]:
    ends = [(first, first + n - 1) for first, n in zip(start, size, strict=True)]
    return np.asarray(list(itertools.product(*ends)), dtype=np.float64)
