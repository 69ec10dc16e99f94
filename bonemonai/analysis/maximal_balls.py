"""Balls that fit into a phase: their radii, those of them that no other one holds, and the largest over each voxel."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_AT_ONCE = 500_000  # voxels painted together
_LARGE = 300  # voxels of a ball that is painted as a box
_PAINTED_A_VOXEL = 30  # as long as a distance transform takes


class RankedRadii(NamedTuple):
    """Squared radii, of which voxels hold the rank: equal radii are one rank, and comparing is fast.

    Attributes:
        ranks: int32, (planes, rows, columns); 0 outside the phase.
        squares: squared radius of each rank; that of rank 0 is 0.
    """

    ranks: NDArray[np.int32]
    squares: NDArray[np.float64]


def squared_distances(phase: NDArray[np.bool_], spacing: Sequence[float]) -> NDArray[np.float64]:
    """Squared distance of each voxel of a phase to the nearest one outside, centre to centre; 0 outside.

    What lies beyond the array is not known, and stops no ball; a phase without an outside has infinite distances.

    Args:
        phase: (planes, rows, columns).
        spacing: of voxels; of (1, 1, 1), squares are whole numbers.

    Example:
        >>> squared_distances(np.array([[[False, True, True]]]), (1, 1, 2)).tolist()
        [[[0.0, 4.0, 16.0]]]
    """
    if phase.all():
        return np.full(phase.shape, np.inf)
    nearest = ndimage.distance_transform_edt(phase, spacing, return_distances=False, return_indices=True)
    total = np.zeros(phase.shape)
    for axis, (indices, edge) in enumerate(zip(nearest, spacing, strict=True)):
        indices -= np.arange(phase.shape[axis], dtype=np.int32).reshape(-1, *(1,) * (2 - axis))
        total += np.square(indices * float(edge))
    return total


def rank_radii(squares: NDArray[np.float64]) -> RankedRadii:
    """Number the radii that occur.

    Args:
        squares: of :func:`squared_distances`, finite.

    Example:
        >>> rank_radii(np.array([[[0.0, 1.0, 5.0, 1.0]]])).ranks.tolist()
        [[[0, 1, 2, 1]]]
    """
    known = np.union1d(0.0, np.unique(squares))
    return RankedRadii(np.searchsorted(known, squares).astype(np.int32), known)


def undominated(radii: RankedRadii, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Centres whose ball none of the 26 neighbours' balls holds wholly; the union of these is that of all.

    A ball holds the voxels whose centre is nearer than the radius.

    Args:
        radii: of :func:`rank_radii`.
        spacing: of voxels.
    """
    ranks = radii.ranks
    kept = ranks > 0
    needed = {
        step: _holding_ranks(radii.squares, step, spacing) for step in itertools.product((0, 1), repeat=3) if any(step)
    }
    for offset in itertools.product((-1, 0, 1), repeat=3):
        if not any(offset):
            continue
        here = tuple(slice(max(0, -d), n - max(0, d)) for d, n in zip(offset, ranks.shape, strict=True))
        there = tuple(slice(max(0, d), n - max(0, -d)) for d, n in zip(offset, ranks.shape, strict=True))
        step = tuple(abs(d) for d in offset)
        kept[here] &= ranks[there] < needed[step][ranks[here]]
    return kept


def largest_balls(
    radii: RankedRadii, centres: NDArray[np.bool_], spacing: Sequence[float], wanted: NDArray[np.bool_]
) -> NDArray[np.int32]:
    """For each voxel that is wanted, the rank of the largest ball that holds it; 0 where none does.

    Large balls come first; what they cover all of is looked for now and then, and smaller balls in there are left out.

    Args:
        radii: of :func:`rank_radii`.
        centres: of balls to use.
        spacing: of voxels.
        wanted: voxels to cover.
    """
    largest = np.zeros(centres.shape, np.int32)
    flat_ranks = radii.ranks.reshape(-1)
    places = np.flatnonzero(centres)
    places = places[np.argsort(flat_ranks[places], kind="stable")]
    while places.size:
        taken = _affordable(radii.squares[flat_ranks[places]], spacing, _PAINTED_A_VOXEL * largest.size)
        places, level = places[:-taken], places[-taken:]
        np.copyto(largest, _paint(level, radii, spacing), where=(largest == 0) & wanted)
        if places.size:
            bare = squared_distances((largest > 0) | ~wanted, spacing).reshape(-1)
            places = places[bare[places] < radii.squares[flat_ranks[places]]]
    return largest


def _affordable(squares: NDArray[np.float64], spacing: Sequence[float], voxels: int) -> int:
    """How many of the last balls hold so many voxels together, at least those of the last one's radius."""
    volume = 4.19 * np.sqrt(squares[::-1]) ** 3 / np.prod(spacing) + 1
    enough = int(np.searchsorted(np.cumsum(volume), voxels)) + 1
    alike = int(np.count_nonzero(squares == squares[-1]))
    return min(max(enough, alike), len(squares))


def _paint(places: NDArray[np.int64], radii: RankedRadii, spacing: Sequence[float]) -> NDArray[np.int32]:
    """Ranks of balls, the largest over each voxel; places ascend by rank."""
    shape = radii.ranks.shape
    painted = np.zeros(shape, np.int32)
    ranks, starts = np.unique(radii.ranks.reshape(-1)[places], return_index=True)
    for rank, group in zip(ranks, np.split(places, starts[1:]), strict=True):  # larger ones overwrite smaller ones
        ball = _ball(radii.squares[rank], spacing)
        centres = np.stack(np.unravel_index(group, shape), axis=1)
        paint = _paint_one_by_one if np.count_nonzero(ball) > _LARGE else _paint_together
        paint(painted, centres, ball, rank)
    return painted


def _paint_one_by_one(
    painted: NDArray[np.int32], centres: NDArray[np.int64], ball: NDArray[np.bool_], rank: np.int32
) -> None:
    reach = np.array(ball.shape) // 2
    firsts, lasts = np.maximum(centres - reach, 0), np.minimum(centres + reach + 1, painted.shape)
    for corner, first, last in zip((centres - reach).tolist(), firsts.tolist(), lasts.tolist(), strict=True):
        box = tuple(slice(low, high) for low, high in zip(first, last, strict=True))
        part = tuple(slice(low - c, high - c) for low, high, c in zip(first, last, corner, strict=True))
        np.copyto(painted[box], rank, where=ball[part])


def _paint_together(
    painted: NDArray[np.int32], centres: NDArray[np.int64], ball: NDArray[np.bool_], rank: np.int32
) -> None:
    offsets = np.argwhere(ball) - np.array(ball.shape) // 2
    together = max(1, _AT_ONCE // len(offsets))
    for start in range(0, len(centres), together):
        voxels = (centres[start : start + together, None] + offsets).reshape(-1, 3)
        voxels = voxels[((voxels >= 0) & (voxels < painted.shape)).all(axis=1)]
        painted[tuple(voxels.T)] = rank


def _ball(square: float, spacing: Sequence[float]) -> NDArray[np.bool_]:
    """Voxels nearer than a radius to the one in the middle."""
    axes = [np.arange(-n, n + 1) * edge for n, edge in ((int(np.sqrt(square) / edge), edge) for edge in spacing)]
    total = np.square(axes[0])[:, None, None] + np.square(axes[1])[:, None] + np.square(axes[2])
    return np.asarray(total < square)


def _holding_ranks(squares: NDArray[np.float64], step: tuple[int, ...], spacing: Sequence[float]) -> NDArray[Any]:
    """For each rank, the least rank whose ball, ``step`` away, holds its ball."""
    edges = np.asarray(spacing, float)
    reach = np.sqrt(squares[-1]) / edges
    # the farthest voxel lies on the side away from the step: one octant is enough
    axes = [np.arange(int(n) + 1) for n in reach]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    own = np.square(grid * edges).sum(axis=1)
    order = np.argsort(own, kind="stable")
    farthest = np.maximum.accumulate(np.square((grid + step) * edges).sum(axis=1)[order])
    within = np.searchsorted(own[order], squares, side="left")
    needed = np.searchsorted(squares, farthest[np.maximum(within, 1) - 1], side="right")
    return np.asarray(np.maximum(needed, np.arange(len(squares)) + 1))
