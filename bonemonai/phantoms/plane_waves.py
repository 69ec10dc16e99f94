"""Random fields as sums of plane waves: fast on the voxels of a scan, and known anywhere between them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.scan_grid import ScanGrid


class PlaneWaves(NamedTuple):
    """A sum of plane waves, a Gaussian random field if there are many: wave vectors in rad/um, phases, amplitudes."""

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]
    amplitudes: NDArray[np.float64]

    def at(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """The field at places, (n, 3)."""
        return np.asarray(np.cos(points_um @ self.vectors.T + self.phases) @ self.amplitudes)

    def distance_at(self, points_um: NDArray[np.float64]) -> NDArray[np.float32]:
        """(4, n): distance in um, to first order, from where the field is 0, and the unit vector of its gradient."""
        angle = points_um @ self.vectors.T + self.phases
        slopes = (self.vectors * self.amplitudes[:, None]).T @ np.sin(angle).T
        return _over_slope(np.vstack([self.amplitudes @ np.cos(angle).T, -slopes]).astype(np.float32))

    def planes(self, grid: ScanGrid) -> Iterator[NDArray[np.float32]]:
        """The field on the voxels of a scan, by one matrix product a plane."""
        for cosine, sine, right in self._factors(grid):
            yield np.asarray(np.hstack([cosine, -sine]) @ right, dtype=np.float32)

    def distance_planes(self, grid: ScanGrid) -> Iterator[NDArray[np.float32]]:
        """As :meth:`distance_at`, on the voxels of a scan: (4, rows, columns) a plane."""
        for cosine, sine, right in self._factors(grid):
            lefts = [np.hstack([cosine, -sine])]
            lefts += [np.hstack([-sine * k, -cosine * k]) for k in self.vectors.T.astype(np.float32)]
            yield _over_slope(np.stack([left @ right for left in lefts]))

    def _factors(self, grid: ScanGrid) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """Of each plane: amplitude times cos and sin along rows, (rows, waves), and both along columns."""
        vectors = self.vectors @ grid.matrix
        phases = self.phases + self.vectors @ grid.offset
        along_columns = np.outer(vectors[:, 2], np.arange(grid.shape[2]))
        right = np.vstack([np.cos(along_columns), np.sin(along_columns)]).astype(np.float32)
        along_rows = np.outer(np.arange(grid.shape[1]), vectors[:, 1]) + phases
        amplitudes = self.amplitudes.astype(np.float32)
        for z in range(grid.shape[0]):
            angle = along_rows + z * vectors[:, 0]
            angle = np.remainder(angle, 2 * math.pi).astype(np.float32)  # single precision is enough, and faster
            yield np.cos(angle) * amplitudes, np.sin(angle) * amplitudes, right


def surface_waves(
    rng: np.random.Generator, normal: NDArray[np.float64], *, wavelengths_um: tuple[float, float], height_um: float
) -> PlaneWaves:
    """Random waves along a surface; ``height_um`` is their standard deviation."""
    first = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    angle = rng.uniform(0, 2 * math.pi, 12)
    direction = np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second)
    vectors = direction * (2 * math.pi / rng.uniform(*wavelengths_um, 12))[:, None]
    return PlaneWaves(vectors, rng.uniform(0, 2 * math.pi, 12), np.full(12, height_um * math.sqrt(2 / 12)))


def _over_slope(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide a field and its gradient, (4, ...), by the gradient's length."""
    slope = np.sqrt((field[1:] * field[1:]).sum(axis=0))
    return np.asarray(field / np.maximum(slope, np.float32(1e-9)), dtype=np.float32)
