"""Mid-axes of bone: the middle of its plates and rods, whose distance gives the trabecular number."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.analysis.maximal_balls import squared_distances
from bonemonai.analysis.volume_boxes import Box, Edges, beyond_box, read_box
from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_ADVANTAGE = 0.5  # voxels
_TILE = 512  # rows and columns
_FIRST_HALO = 12  # voxels; grows where bone is thicker
_BYTES_A_VOXEL = 48


class MidAxes(DerivedVolume):
    """A mask, uint8 with 1 where no neighbour is deeper in bone by half a voxel.

    Planes are computed as they are read, with so much round them that depths are exact, which is checked.

    Args:
        bone: mask, non-zero in bone, voxel size known.
        memory: bytes to work in, about; where bone is thick, less is looked at together.

    Raises:
        InputError: if the voxel size is unknown; on reading, if bone fills the volume, or is too thick for the memory.

    Source:
        Hildebrand & Ruegsegger, J Microsc 185:67 (1997): Tb.N from the distance of mid-axes. Which voxels those are is
        the rule of bone-microarchitecture 0.3: an advantage of half a voxel among 26 neighbours.
    """

    def __init__(self, bone: Volume, *, memory: float = 1e9) -> None:
        super().__init__(bone, dtype=np.uint8)
        self.planes_at_once = bone.planes_at_once
        if bone.voxel_size_um is None:
            raise InputError(bone.path, "does not state its voxel size; say --voxel-size-um.")
        self._edges = Edges(bone.shape, bone.voxel_size_um)
        self._halo = _FIRST_HALO
        self._most_voxels = int(memory / _BYTES_A_VOXEL)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        axes = np.zeros((stop - start, *self.shape[1:]), np.uint8)
        for row, column in itertools.product(*(range(0, n, _TILE) for n in self.shape[1:])):
            rows, columns = (
                slice(row, min(row + _TILE, self.shape[1])),
                slice(column, min(column + _TILE, self.shape[2])),
            )
            axes[:, rows, columns] = self._axes((slice(start, stop), rows, columns))
        return axes

    def _axes(self, core: Box) -> NDArray[np.bool_]:
        wide = self._grown(core, 1)
        depth = None
        while depth is None:
            box = self._grown(wide, self._halo)
            if math.prod(_shape(box)) > self._most_voxels:
                return self._in_halves(core)
            depth = self._depth(wide, box)
        here = tuple(slice(c.start - w.start, c.stop - w.start) for c, w in zip(core, wide, strict=True))
        padded = np.pad(depth, 1)
        advantage = _ADVANTAGE * min(self._edges.spacing)
        highest = np.zeros_like(depth)
        for offset in itertools.product((0, 1, 2), repeat=3):  # the middle one is no deeper than itself
            shifted = tuple(slice(d, d + n) for d, n in zip(offset, depth.shape, strict=True))
            np.maximum(highest, padded[shifted], out=highest)
        return np.asarray(((depth > 0) & (highest < depth + advantage))[here])

    def _in_halves(self, core: Box) -> NDArray[np.bool_]:
        axis = max(range(3), key=lambda each: core[each].stop - core[each].start)
        start, stop = core[axis].start, core[axis].stop
        if stop - start < max(8, self._halo // 2):  # would be read many times over
            raise InputError(
                self.path, f"has bone so thick that {self._halo} voxels are needed round each box, more than memory "
                "holds; give more (--memory-budget), or leave thickness out of --measures."
            )  # fmt: skip
        halves = (slice(start, (start + stop) // 2), slice((start + stop) // 2, stop))
        return np.concatenate([self._axes((*core[:axis], half, *core[axis + 1 :])) for half in halves], axis=axis)

    def _depth(self, wide: Box, box: Box) -> NDArray[np.float64] | None:
        """Distance to the nearest voxel outside bone, exact; None, and a larger halo, if the box does not show it."""
        inner = tuple(slice(w.start - b.start, w.stop - b.start) for w, b in zip(wide, box, strict=True))
        depth: NDArray[np.float64] = np.sqrt(squared_distances(read_box(self.base, box), self._edges.spacing))[inner]
        whole = self._edges.sees_all(box)
        known = np.inf if whole else np.broadcast_to(beyond_box(box, self._edges), _shape(box))[inner]
        if whole and not np.isfinite(depth).all():
            raise InputError(self.path, "is bone throughout: nothing ends it, so that it has no mid-axes.")
        if (depth <= known).all():
            return depth
        self._halo *= 2
        return None

    def _grown(self, box: Box, by: int) -> Box:
        return tuple(slice(max(0, b.start - by), min(n, b.stop + by)) for b, n in zip(box, self.shape, strict=True))


def _shape(box: Box) -> tuple[int, ...]:
    return tuple(side.stop - side.start for side in box)
