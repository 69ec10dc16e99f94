"""Connected pieces of a mask of any size, a slab at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bonemonai.analysis.lattice_lines import OFFSETS, pairs
from bonemonai.analysis.slab_arrays import Arrays, SlabArrays

Neighbours = Literal[6, 26]
Read = Callable[[int, int], NDArray[np.bool_]]


class LabelledSlab(NamedTuple):
    """Pieces of a slab, numbered from 1 whatever came before.

    Attributes:
        planes: of the volume.
        labels: (planes, rows, columns); 0 outside the mask.
        pieces: how many; the largest label.
        above: (rows, columns), last plane of the slab before, as that one numbers its pieces; None of the first slab.
    """

    planes: slice
    labels: NDArray[Any]
    pieces: int
    above: NDArray[Any] | None


def measure_pieces(
    read: Read,
    slabs: Iterable[slice],
    measure: Callable[[LabelledSlab], Arrays],
    *,
    neighbours: Neighbours,
    kept: SlabArrays | None = None,
) -> list[Arrays]:
    """Label each slab, and keep what is found of its pieces.

    Labels of a slab depend on its voxels only, so that a run that goes on finds what one that was not stopped finds.

    Args:
        read: gives planes of the mask, from first to one before the last.
        slabs: all planes, in order.
        measure: gives arrays of a slab: what is found of its pieces.
        neighbours: 26 joins voxels that share a corner, 6 those that share a face.
        kept: of finished slabs, which are not read again; None keeps none.

    Returns:
        Of each slab what ``measure`` gave, and of its pieces ``count``, and ``joins``: (pairs, 2), a label of the slab
        before and one of this that hang together.

    Raises:
        ResumeError: if what was kept is of another source, or damaged.
    """
    structure = ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3)

    def label(planes: slice) -> tuple[NDArray[Any], int]:
        labels, count = ndimage.label(read(planes.start, planes.stop), structure=structure)
        return labels, count

    def find_last_plane(planes: slice) -> NDArray[Any]:
        plane = None if kept is None else kept.find_last_plane(planes)
        return label(planes)[0][-1].copy() if plane is None else plane

    cut = list(slabs)
    found: list[Arrays] = []
    above: NDArray[Any] | None = None
    for before, planes in zip([None, *cut], cut, strict=False):
        arrays = None if kept is None else kept.find(planes)
        if arrays is not None:
            above = None
        else:
            if above is None and before is not None:
                above = find_last_plane(before)
            slab = LabelledSlab(planes, *label(planes), above)
            arrays = {**measure(slab), "count": np.array(slab.pieces), "joins": _joins(slab, neighbours)}
            above = slab.labels[-1].copy()
            if kept is not None:
                kept.add(planes, arrays, None if planes == cut[-1] else above)
        if kept is not None and before is not None:
            kept.drop_last_plane(before)
        found.append(arrays)
    return found


def number_pieces(found: Sequence[Arrays]) -> tuple[int, list[NDArray[np.int64]]]:
    """Number the pieces of the whole volume.

    Args:
        found: of :func:`measure_pieces`.

    Returns:
        How many there are, and, of each slab, the number, from 0, of the piece that each of its own belongs to.

    Example:
        >>> mask = np.array([[[1, 0, 1]], [[1, 1, 1]]], dtype=bool)
        >>> slabs = [slice(0, 1), slice(1, 2)]
        >>> found = measure_pieces(lambda start, stop: mask[start:stop], slabs, lambda slab: {}, neighbours=6)
        >>> number_pieces(found)
        (1, [array([0, 0]), array([0])])
    """
    ends = np.cumsum([int(arrays["count"]) for arrays in found])
    starts = [0, *ends[:-1].tolist()]
    links = [np.empty((0, 2), np.int64)]
    for above, start, arrays in zip(starts, starts[1:], found[1:], strict=False):
        links.append(arrays["joins"].astype(np.int64) - 1 + (above, start))
    near, far = np.concatenate(links).T
    total = int(ends[-1])
    number, belongs = 0, np.empty(0, np.int64)
    if total:  # there is no graph of nothing
        graph = coo_array((np.ones(len(near)), (near, far)), shape=(total, total))
        number, belongs = connected_components(graph, directed=False)
    return int(number), np.split(belongs.astype(np.int64), ends[:-1])


def _joins(slab: LabelledSlab, neighbours: Neighbours) -> NDArray[np.int64]:
    met = [np.empty(0, np.int64)]
    if slab.above is not None:
        planes = np.stack([slab.above, slab.labels[0]])
        for offset in OFFSETS:
            if offset[0] and (neighbours == 26 or not any(offset[1:])):
                near, far = pairs(planes, offset)
                both = (near > 0) & (far > 0)
                # as one number, which is sorted sooner than two
                met.append(np.unique(near[both].astype(np.int64) * (slab.pieces + 1) + far[both]))
    return np.stack(np.divmod(np.unique(np.concatenate(met)), slab.pieces + 1), axis=1)
