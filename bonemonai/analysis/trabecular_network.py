"""How trabeculae hang together: the Euler characteristic and connectivity density."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import euler_number

from bonemonai.analysis.connected_pieces import count_pieces
from bonemonai.analysis.slab_arrays import SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class TrabecularNetwork(NamedTuple):
    """Topology of bone within tissue.

    Attributes:
        euler: Euler characteristic, pieces - tunnels + cavities, of the bone as it is cut out.
        euler_edge_corrected: what the volume adds to the Euler characteristic of the bone that it was cut out of; nan
            with a tissue mask.
        pieces: of bone.
        cavities: that bone encloses, within the volume.
        tv_mm3: volume of the tissue, mm3.
    """

    euler: int
    euler_edge_corrected: float
    pieces: int
    cavities: int
    tv_mm3: float

    @property
    def density_per_mm3(self) -> float:
        """Conn.D = (1 - Euler) / TV, 1/mm3, no edge correction."""
        return (1 - self.euler) / self.tv_mm3

    @property
    def density_edge_corrected_per_mm3(self) -> float:
        """Conn.D = (1 - edge-corrected Euler) / TV, 1/mm3; nan with a tissue mask."""
        return (1 - self.euler_edge_corrected) / self.tv_mm3

    @property
    def loops_per_mm3(self) -> float:
        """Tunnels, pieces + cavities - Euler, over TV, 1/mm3: connectivity that islets and cavities do not change."""
        return (self.pieces + self.cavities - self.euler) / self.tv_mm3


def measure_trabecular_network(
    bone: Volume, tissue: Volume | None = None, *, memory: float = 64e6, record: SlabRecord | None = None
) -> TrabecularNetwork:
    """Count pieces, tunnels and cavities of bone, a few planes at a time.

    Voxels that share a corner hang together (26 neighbours). Nothing is cleaned first: an islet of noise takes one from
    Conn.D, and so does a cavity, so that of noisy masks it may be below 0; :attr:`TrabecularNetwork.loops_per_mm3` does
    not change with them. Slabs share a plane, and what it adds is taken off again, so that their sum is exactly the
    Euler characteristic in memory.

    The edge correction takes off half of what lies in each face of the volume, adds a quarter of what lies along each
    edge and takes off an eighth at each corner, so that the numbers of adjoining volumes that share a plane add up.

    Args:
        bone: mask, non-zero in bone, voxel size known.
        tissue: mask of the same voxels; None takes the whole volume, which alone is edge-corrected.
        memory: bytes of a slab, about.
        record: of finished slabs; those of pieces and cavities leave files in the folder beside it.

    Raises:
        InputError: if the voxel size is unknown, or the tissue mask is empty or lies on other voxels.
        ResumeError: if a file beside the record is damaged.

    Source:
        Odgaard & Gundersen, Bone 14:173 (1993): connectivity, and the edge correction. The Euler characteristic is
        ``skimage.measure.euler_number``'s.
    """
    size = bone.voxel_size_um
    if size is None:
        raise InputError(bone.path, "does not state its voxel size; say --voxel-size-um.")
    if tissue is not None:
        refuse_other_grid(tissue, bone)
    depth = bone.shape[0]

    def count(start: int, stop: int) -> dict[str, int]:
        first = min(start, 1)
        marked = bone.read(start - first, stop) != 0
        counts = {"tissue": (stop - start) * bone.shape[1] * bone.shape[2]}
        if tissue is not None:
            inside = tissue.read(start - first, stop) != 0
            marked &= inside
            counts["tissue"] = int(np.count_nonzero(inside[first:]))
        counts["euler"] = _euler(marked) - (_euler(marked[:1]) if first else 0)
        if tissue is None:
            counts["eighths"] = _border_eighths(marked, first, start == 0, stop == depth)
        return counts

    # the Euler characteristic takes about 40 bytes a voxel
    slabs = list(bone.slabs(max(1, bone.planes_within(memory / 40))))
    total = sum_over_slabs("network", slabs, count, record)
    if not total["tissue"]:
        raise InputError(bone.path if tissue is None else tissue.path, "marks no tissue.")

    def marked(start: int, stop: int) -> NDArray[np.bool_]:
        inside = np.asarray(bone.read(start, stop) != 0)
        return inside if tissue is None else inside & (tissue.read(start, stop) != 0)

    def unmarked(start: int, stop: int) -> NDArray[np.bool_]:
        return ~marked(start, stop)

    of_bone, of_holes = (None if record is None else SlabArrays(record, stage) for stage in ("pieces", "cavities"))
    pieces = count_pieces(marked, slabs, depth, neighbours=26, kept=of_bone).number
    cavities = count_pieces(unmarked, slabs, depth, neighbours=6, kept=of_holes).enclosed
    volume = total["tissue"] * math.prod(size) * 1e-9
    corrected = total["euler"] + total["eighths"] / 8 if tissue is None else math.nan
    return TrabecularNetwork(total["euler"], corrected, pieces, cavities, volume)


def _euler(marked: NDArray[np.bool_]) -> int:
    return int(euler_number(marked, connectivity=3)) if marked.any() else 0


def _border_eighths(marked: NDArray[np.bool_], first: int, top: bool, bottom: bool) -> int:
    """Eight times what the edge correction adds for a slab, of whose planes ``first`` were counted before."""
    total = 0
    ends = [0] * top + [len(marked) - 1] * bottom
    for axes in itertools.chain.from_iterable(itertools.combinations(range(3), n) for n in (1, 2, 3)):
        weight = {1: -4, 2: 2, 3: -1}[len(axes)]
        for places in itertools.product(*(ends if axis == 0 else (0, marked.shape[axis] - 1) for axis in axes)):
            part = marked
            for axis, place in zip(axes, places, strict=True):
                part = part.take([place], axis=axis)
            shared = first and 0 not in axes  # runs along planes: the one before was counted with its slab
            total += weight * (_euler(part) - (_euler(part[:1]) if shared else 0))
    return total
