"""How many pieces a mask of any size is of, and how many of them it encloses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from bonemonai.analysis.labelled_slabs import LabelledSlab, Neighbours, Read, measure_pieces, number_pieces
from bonemonai.analysis.slab_arrays import Arrays, SlabArrays


class Pieces(NamedTuple):
    """Pieces of a mask.

    Attributes:
        number: all of them.
        enclosed: those that touch no face of the volume.
    """

    number: int
    enclosed: int


def count_pieces(
    read: Read, slabs: Iterable[slice], depth: int, *, neighbours: Neighbours, kept: SlabArrays | None = None
) -> Pieces:
    """Count connected pieces, a slab at a time; one that crosses slabs is counted once.

    Memory holds a slab and a few numbers for each piece of each slab.

    Args:
        read: gives planes of the mask, from first to one before the last.
        slabs: all planes, in order.
        depth: number of planes.
        neighbours: 26 joins voxels that share a corner, 6 those that share a face. Bone is counted by 26, and what it
            encloses by 6.
        kept: of finished slabs, which are not read again; None keeps none.

    Raises:
        ResumeError: if what was kept is of another source, or damaged.

    Example:
        >>> mask = np.zeros((4, 5, 5), dtype=bool)
        >>> mask[1, 1, 1] = mask[2, 2, 2] = True
        >>> slabs = [slice(0, 2), slice(2, 4)]
        >>> count_pieces(lambda start, stop: mask[start:stop], slabs, 4, neighbours=26)
        Pieces(number=1, enclosed=1)
        >>> count_pieces(lambda start, stop: mask[start:stop], slabs, 4, neighbours=6)
        Pieces(number=2, enclosed=2)
    """

    def touching(slab: LabelledSlab) -> Arrays:
        labels = slab.labels
        faces = [labels[:, i] for i in (0, -1)] + [labels[:, :, i] for i in (0, -1)]
        faces += [labels[0]] * (slab.planes.start == 0) + [labels[-1]] * (slab.planes.stop == depth)
        reached = np.unique(np.concatenate([np.unique(face) for face in faces]))
        return {"touching": reached[reached > 0]}

    found = measure_pieces(read, slabs, touching, neighbours=neighbours, kept=kept)
    number, belongs = number_pieces(found)
    reached = [pieces[arrays["touching"] - 1] for pieces, arrays in zip(belongs, found, strict=True)]
    return Pieces(number, number - len(np.unique(np.concatenate(reached))))
