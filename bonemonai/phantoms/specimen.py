"""What all parts of a compressed sample share: its size, how much of it is bone, when it fails, its random numbers."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.scan_grid import ScanGrid


class Draw(IntEnum):
    """What random numbers are drawn for: each has its own, so that one drawn more here changes nothing there."""

    ANATOMY = 0
    CANALS = 1
    FIELD = 2
    MINERAL = 3
    CRACK = 4
    MOTION = 5
    SCANNER = 6
    NOISE = 7
    IMPULSES = 8
    RINGS = 9
    RESCAN = 10


class Specimen(NamedTuple):
    """A bone sample, whatever its kind.

    Attributes:
        shape: of its scans, (planes, rows, columns).
        seed: of its random numbers.
        voxel_size_um: edge length of a voxel.
        bone_volume_fraction: BV/TV of the intact sample, in (0, 1).
        motion_voxels: how far it moves between states, at most.
        states: number of loading states.
        visible_from: first state at which a crack is clearly seen.
    """

    shape: tuple[int, int, int]
    seed: int
    voxel_size_um: float
    bone_volume_fraction: float
    motion_voxels: float
    states: int
    visible_from: int

    @property
    def extent_um(self) -> NDArray[np.float64]:
        """Lengths of the scan's edges."""
        return np.array(self.shape) * self.voxel_size_um

    def grid(self, to_first: NDArray[np.float64] | None = None) -> ScanGrid:
        """Where the voxels of a scan lie in the sample.

        Args:
            to_first: 4 x 4, voxel indices of the scan to those of state 1; None if nothing moved.
        """
        matrix = np.eye(4) if to_first is None else to_first
        return ScanGrid(self.shape, self.voxel_size_um, matrix[:3, :3] * self.voxel_size_um,
                        matrix[:3, 3] * self.voxel_size_um)  # fmt: skip

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers of their own.

        Args:
            key: a :class:`Draw`, and what tells its uses apart, such as the state; each at least 0.
        """
        return random_numbers(self.seed, *key)


def random_numbers(seed: int, *key: int) -> np.random.Generator:
    """Random numbers that depend on a seed and what they are for alone.

    Args:
        seed: of the sample, at least 0.
        key: a :class:`Draw`, and what tells its uses apart; each at least 0.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, *key]))
