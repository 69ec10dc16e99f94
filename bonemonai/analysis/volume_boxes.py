"""Boxes of a volume: what lies in one, how far its voxels are from what lies outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.volume import Volume

Box = tuple[slice, ...]

_MEMORY = 32e6


class Edges(NamedTuple):
    """A volume that boxes lie in.

    Attributes:
        shape: (planes, rows, columns).
        spacing: of voxels.
    """

    shape: tuple[int, ...]
    spacing: Sequence[float]

    def sees_all(self, box: Box) -> bool:
        """Whether a box is the whole volume."""
        return all(b.start == 0 and b.stop == n for b, n in zip(box, self.shape, strict=True))


def whole_box(volume: Volume) -> Box:
    """The box that is the whole volume."""
    return tuple(slice(0, n) for n in volume.shape)


def read_box(mask: Volume, box: Box) -> NDArray[np.bool_]:
    """Where a mask is non-zero in a box; planes are read a few at a time.

    Args:
        mask: to read.
        box: planes, rows, columns.
    """
    parts = [
        mask.read(slab.start, slab.stop)[:, box[1], box[2]] != 0
        for slab in mask.slabs(mask.planes_within(_MEMORY), box[0])
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def marked_box(mask: Volume, box: Box) -> Box:
    """The smallest box within a box that holds all that a mask marks there; an empty one where it marks nothing.

    Args:
        mask: to read, a few planes at a time.
        box: planes, rows, columns.
    """
    marked = [np.zeros(n, dtype=bool) for n in mask.shape]
    for slab in mask.slabs(mask.planes_within(_MEMORY), box[0]):
        part = np.zeros((slab.stop - slab.start, *mask.shape[1:]), dtype=bool)
        part[:, box[1], box[2]] = mask.read(slab.start, slab.stop)[:, box[1], box[2]] != 0
        marked[0][slab] = part.any(axis=(1, 2))
        marked[1] |= part.any(axis=(0, 2))
        marked[2] |= part.any(axis=(0, 1))
    places = [np.flatnonzero(line) for line in marked]
    return tuple(slice(int(at[0]), int(at[-1]) + 1) if at.size else slice(0, 0) for at in places)


def beyond_core(box: Box, core: Box, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance of each voxel of a box to the nearest voxel of a core within it.

    Args:
        box: planes, rows, columns.
        core: within it.
        spacing: of voxels.

    Example:
        >>> box, core = (slice(0, 1), slice(0, 1), slice(3, 8)), (slice(0, 1), slice(0, 1), slice(4, 6))
        >>> beyond_core(box, core, (1, 1, 2)).tolist()
        [[[2.0, 0.0, 0.0, 2.0, 4.0]]]
    """
    total = np.zeros(())
    for axis, (b, c, edge) in enumerate(zip(box, core, spacing, strict=True)):
        index = np.arange(b.start, b.stop)
        away = np.maximum(np.maximum(c.start - index, index - (c.stop - 1)), 0) * float(edge)
        total = total + np.square(away).reshape(-1, *(1,) * (2 - axis))
    return np.asarray(np.sqrt(total))


def beyond_box(box: Box, edges: Edges) -> NDArray[np.float64]:
    """Distance of each voxel of a box to the nearest voxel of the volume that is outside the box.

    Args:
        box: planes, rows, columns.
        edges: of the volume.

    Example:
        >>> beyond_box((slice(0, 1), slice(0, 1), slice(0, 3)), Edges((1, 1, 5), (1, 1, 2))).tolist()
        [[[6.0, 4.0, 2.0]]]
    """
    nearest = np.full((1, 1, 1), np.inf)
    for axis, (b, n, edge) in enumerate(zip(box, edges.shape, edges.spacing, strict=True)):
        index = np.arange(b.start, b.stop)
        low = (index - b.start + 1) * float(edge) if b.start > 0 else np.full(len(index), np.inf)
        high = (b.stop - index) * float(edge) if b.stop < n else np.full(len(index), np.inf)
        nearest = np.minimum(nearest, np.minimum(low, high).reshape(-1, *(1,) * (2 - axis)))
    return nearest
