"""How many pieces a mask of any size is of, and how many of them it encloses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bonemonai.analysis.lattice_lines import OFFSETS, Offset, pairs


class Pieces(NamedTuple):
    """Pieces of a mask.

    Attributes:
        number: all of them.
        enclosed: those that touch no face of the volume.
    """

    number: int
    enclosed: int


def count_pieces(
    read: Callable[[int, int], NDArray[np.bool_]], slabs: Iterable[slice], depth: int, *, neighbours: Literal[6, 26]
) -> Pieces:
    """Count connected pieces, a slab at a time; one that crosses slabs is counted once.

    Memory holds a slab and a few numbers for each piece of each slab.

    Args:
        read: gives planes of the mask, from first to one before the last.
        slabs: all planes, in order.
        depth: number of planes.
        neighbours: 26 joins voxels that share a corner, 6 those that share a face. Bone is counted by 26, and what it
            encloses by 6.

    Example:
        >>> mask = np.zeros((4, 5, 5), dtype=bool)
        >>> mask[1, 1, 1] = mask[2, 2, 2] = True
        >>> slabs = [slice(0, 2), slice(2, 4)]
        >>> count_pieces(lambda start, stop: mask[start:stop], slabs, 4, neighbours=26)
        Pieces(number=1, enclosed=1)
        >>> count_pieces(lambda start, stop: mask[start:stop], slabs, 4, neighbours=6)
        Pieces(number=2, enclosed=2)
    """
    structure = ndimage.generate_binary_structure(3, 1 if neighbours == 6 else 3)
    across: list[Offset] = [offset for offset in OFFSETS if offset[0] and (neighbours == 26 or not any(offset[1:]))]
    joins, touching = [np.empty((0, 2), np.int64)], [np.empty(0, np.int64)]
    total, last = 0, None
    for slab in slabs:
        labels, count = ndimage.label(read(slab.start, slab.stop), structure=structure)
        numbered = np.where(labels > 0, labels + np.int64(total), 0)
        faces = [numbered[:, i] for i in (0, -1)] + [numbered[:, :, i] for i in (0, -1)]
        faces += [numbered[0]] * (slab.start == 0) + [numbered[-1]] * (slab.stop == depth)
        touching += [np.unique(face) for face in faces]
        if last is not None:
            for offset in across:
                near, far = pairs(np.pad(np.stack([last, numbered[0]]), ((0, 0), (1, 1), (1, 1))), offset)
                both = (near > 0) & (far > 0)
                joins.append(np.unique(np.stack([near[both], far[both]], axis=1), axis=0))
        last, total = numbered[-1].copy(), total + count
    if not total:
        return Pieces(0, 0)
    links = np.concatenate(joins) - 1
    graph = coo_array((np.ones(len(links)), (links[:, 0], links[:, 1])), shape=(total, total))
    number, belongs = connected_components(graph, directed=False)
    reached = np.unique(np.concatenate(touching))
    return Pieces(int(number), int(number) - len(np.unique(belongs[reached[reached > 0] - 1])))
