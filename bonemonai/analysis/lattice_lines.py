"""Where a mask begins and ends along the lines of the voxel lattice: the stereology of surface and direction."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import SphericalVoronoi

Offset = tuple[int, int, int]

# one of each pair of opposite directions to the 26 neighbours, none of which leads to an earlier plane
OFFSETS: tuple[Offset, ...] = tuple(
    offset for offset in itertools.product((0, 1), (-1, 0, 1), (-1, 0, 1)) if offset > (0, 0, 0)
)


def step_lengths(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Length of a step in each of the 13 directions.

    Args:
        spacing: of voxels.
    """
    return np.asarray(np.linalg.norm(np.array(OFFSETS) * np.asarray(spacing, float), axis=1))


def direction_weights(spacing: Sequence[float]) -> NDArray[np.float64]:
    """Share of all directions in space that is nearest to each of the 13; they add up to 1.

    Args:
        spacing: of voxels.

    Source:
        Ohser & Muecklich, Statistical Analysis of Microstructures in Materials Science (2000), 4.2: Crofton's formula
        with the cells of directions; of cubes 0.0458, 0.0370 and 0.0352 for either sign of an axis and the diagonals.

    Example:
        >>> (direction_weights((1, 1, 1)) / 2).round(4)[:4].tolist()
        [0.0458, 0.037, 0.0458, 0.037]
    """
    steps = np.array(OFFSETS) * np.asarray(spacing, float)
    units = steps / np.linalg.norm(steps, axis=1, keepdims=True)
    # scipy's stubs know no such class
    areas: Any = SphericalVoronoi(np.concatenate([units, -units])).calculate_areas()
    return np.asarray((areas[: len(units)] + areas[len(units) :]) / areas.sum())


def pairs(array: NDArray[Any], offset: Offset) -> tuple[NDArray[Any], NDArray[Any]]:
    """Views of an array's voxels and of those that lie an offset from them.

    Args:
        array: three axes.
        offset: none negative along the first.

    Example:
        >>> near, far = pairs(np.arange(3).reshape(1, 1, 3), (0, 0, 1))
        >>> near.tolist(), far.tolist()
        ([[[0, 1]]], [[[1, 2]]])
    """
    near = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, array.shape, strict=True))
    far = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(offset, array.shape, strict=True))
    return array[near], array[far]


def count_crossings(bone: NDArray[np.bool_], tissue: NDArray[np.bool_] | None, first: int = 0) -> Counter[str]:
    """Count, along each of the 13 directions, steps that enter or leave bone, and ends of steps in bone.

    Args:
        bone: (planes, rows, columns).
        tissue: steps count of which both ends lie in it; None takes all.
        first: steps from an earlier plane, and within it, belong to the slab before; the number of planes that are
            looked at for the sake of steps to the next one only, 0 or 1.

    Returns:
        ``crossings`` and ``ends`` with the number of the direction in :data:`OFFSETS`.
    """
    counts: Counter[str] = Counter()
    for number, offset in enumerate(OFFSETS):
        start = 0 if offset[0] else first
        near, far = pairs(bone[start:], offset)
        differ, both = near ^ far, np.asarray(near & far)
        if tissue is not None:
            near_tissue, far_tissue = pairs(tissue[start:], offset)
            inside = near_tissue & far_tissue
            differ, both = differ & inside, both & inside
        crossings = int(np.count_nonzero(differ))
        counts[f"crossings {number}"] = crossings
        counts[f"ends {number}"] = crossings + 2 * int(np.count_nonzero(both))
    return counts


def surface_per_volume(crossings: NDArray[Any], ends: NDArray[Any], spacing: Sequence[float]) -> float:
    """Surface over volume of what was counted, by Crofton's formula.

    Steps at bone count, not all: bone that lies within the volume is measured as it is, and bone that is cut by its
    faces as if it went on, because neither steps nor voxels beyond are counted.

    Args:
        crossings: of each direction.
        ends: of each direction; halves are voxels.
        spacing: of voxels.

    Returns:
        In one over the unit of ``spacing``; nan where nothing was counted.
    """
    if not np.all(ends):
        return math.nan
    per_length = crossings / (ends / 2) / step_lengths(spacing)
    return float(2 * (direction_weights(spacing) * per_length).sum())
