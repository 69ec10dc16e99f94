"""Random fields as sums of plane waves, evaluated on the slices of a scan; lengths in mm."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class SliceWaves(NamedTuple):
    """A sum of plane waves, nearly a Gaussian random field if there are many.

    Attributes:
        vectors: (waves, 3), rad/mm along three axes.
        phases: (waves,), rad.
        amplitude: of each.
    """

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]
    amplitude: float

    def field(self, x: NDArray[Any], y: NDArray[Any], z: NDArray[Any] | float) -> NDArray[np.float32]:
        """Values where x changes along columns only, and y and z along rows only.

        Args:
            x: (columns,), mm.
            y: (rows,), mm.
            z: (rows,), or one for all, mm.

        Returns:
            (rows, columns).
        """
        kx, ky, kz = self.vectors.T
        across = np.outer(kx, x)
        down = np.outer(y, ky) + np.multiply.outer(np.asarray(z), kz) + self.phases
        # cos(a + b) by two products of matrices
        field = np.cos(down).astype(np.float32) @ np.cos(across).astype(np.float32)
        field -= np.sin(down).astype(np.float32) @ np.sin(across).astype(np.float32)
        return np.asarray(np.float32(self.amplitude) * field)


def isotropic_waves(
    rng: np.random.Generator, count: int, lengths_mm: tuple[float, float], deviation: float
) -> SliceWaves:
    """Waves in all directions.

    Args:
        rng: draws them.
        count: of waves, at least 1.
        lengths_mm: shortest and longest.
        deviation: standard deviation of the field.
    """
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    vectors = direction * (2 * math.pi / rng.uniform(*lengths_mm, count))[:, None]
    return SliceWaves(vectors, rng.uniform(0, 2 * math.pi, count), deviation * math.sqrt(2 / count))


def upright_waves(rng: np.random.Generator, count: int, spacing_mm: float, deviation: float) -> SliceWaves:
    """Waves that lie nearly in the plane of the first two axes: a structure drawn out along the third.

    Args:
        rng: draws them.
        count: of waves, at least 1.
        spacing_mm: typical distance of ridges; wavelengths are 0.75 to 1.7 times as long.
        deviation: standard deviation of the field.
    """
    angle = rng.uniform(0, 2 * math.pi, count)
    k = 2 * math.pi / (spacing_mm * rng.uniform(0.75, 1.7, count))
    vectors = np.stack([k * np.cos(angle), k * np.sin(angle), k * rng.normal(0, 0.22, count)], axis=1)
    return SliceWaves(vectors, rng.uniform(0, 2 * math.pi, count), deviation * math.sqrt(2 / count))
