"""Lacunae as objects: one row each, found in a mask of any size."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_TOUCHING = np.ones((3, 3, 3), dtype=bool)  # faces, edges and corners: 26 neighbours


class LacunaSummary(NamedTuple):
    """Numbers of a scan, in ASBMR's manner.

    Attributes:
        number: Lc.N, lacunae of at least the least volume in an unbiased frame: those that touch the last plane, row
            or column are left out, those that touch the first are counted, so that each would be counted once in one
            of many adjoining volumes.
        bone_volume_mm3: BV, lacunae included.
        number_density_per_mm3: Lc.N / BV.
        median_volume_um3: median of Lc.V over lacunae that touch no border, for the others are cut.
        porosity: share of bone volume that lies in lacunae of at least the least volume, cut ones included.
    """

    number: int
    bone_volume_mm3: float
    number_density_per_mm3: float
    median_volume_um3: float
    porosity: float


def measure_lacunae(mask: Volume, *, planes: int = 64) -> pd.DataFrame:
    """Measure every connected object of a mask, a block of planes at a time.

    Objects that cross blocks are counted once; memory holds one block and the table, whatever the depth.

    Args:
        mask: non-zero in lacunae; voxel size known.
        planes: how many to hold at once.

    Returns:
        One row an object: ``volume_um3``; ``plane``, ``row``, ``column``, the centre of mass in voxels; and whether it
        ``touches_first`` or ``touches_last`` plane, row or column of the volume.

    Raises:
        InputError: if the voxel size is unknown.
    """
    size = mask.voxel_size_um
    if size is None:
        raise InputError(mask.path, "does not state its voxel size; say --voxel-size-um.")
    voxels: list[NDArray[np.float64]] = []  # count, coordinate sums and border contacts of each block's objects
    joins: list[NDArray[np.int64]] = []
    total, last = 0, None
    for start, block in mask.blocks(planes):
        labels, count = ndimage.label(block != 0, structure=_TOUCHING)
        ends = start == 0, start + len(block) == mask.shape[0]
        voxels.append(np.column_stack([_sums(labels, count, start), _touches(labels, count, *ends)]))
        labels = labels.astype(np.int64)
        labels[labels > 0] += total
        if last is not None:
            joins.append(_touching_pairs(last, labels[0]))
        last, total = labels[-1].copy(), total + count
    return _merge(np.concatenate(voxels), np.concatenate([*joins, np.empty((0, 2), np.int64)]), math.prod(size))


def summarise_lacunae(
    table: pd.DataFrame, bone: Volume, *, least_volume_um3: float = 20.0, planes: int = 64
) -> LacunaSummary:
    """Summarise a table of lacunae over the bone they lie in.

    Args:
        table: from :func:`measure_lacunae`.
        bone: bone mask of the same scan, lacunae included.
        least_volume_um3: smaller objects are noise (a lacuna measures 54 um3 and more) and are left out.
        planes: how many to hold at once.

    Raises:
        InputError: if the voxel size of the bone mask is unknown, or it is empty.
    """
    size = bone.voxel_size_um
    if size is None:
        raise InputError(bone.path, "does not state its voxel size; say --voxel-size-um.")
    volume_mm3 = sum(np.count_nonzero(block) for _, block in bone.blocks(planes)) * math.prod(size) * 1e-9
    if not volume_mm3:
        raise InputError(bone.path, "marks no bone.")
    kept = table[table["volume_um3"] >= least_volume_um3]
    number = int((~kept["touches_last"]).sum())
    whole = kept[~kept["touches_first"] & ~kept["touches_last"]]
    return LacunaSummary(
        number=number,
        bone_volume_mm3=volume_mm3,
        number_density_per_mm3=number / volume_mm3,
        median_volume_um3=float(whole["volume_um3"].median()),
        porosity=float(kept["volume_um3"].sum()) * 1e-9 / volume_mm3,
    )


def _sums(labels: NDArray[np.int32], count: int, start: int) -> NDArray[np.float64]:
    where = np.argwhere(labels)
    label = labels[tuple(where.T)] - 1
    columns = [np.bincount(label, minlength=count)]
    columns += [np.bincount(label, weights=where[:, axis] + (start, 0, 0)[axis], minlength=count) for axis in range(3)]
    return np.stack(columns, axis=1).astype(np.float64)


def _touches(labels: NDArray[np.int32], count: int, first: bool, last: bool) -> NDArray[np.float64]:
    """For each object, whether it touches the first and the last plane, row or column of the volume."""
    touched = np.zeros((count + 1, 2))
    for side, plane in ((0, first), (1, last)):
        index = -side
        faces = [labels[:, index], labels[:, :, index], *([labels[index]] if plane else [])]
        for face in faces:
            touched[np.unique(face), side] = 1
    return touched[1:]


def _touching_pairs(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Labels that meet across the boundary of two blocks, diagonals included."""
    rows, columns = above.shape
    padded = np.pad(below, 1)
    pairs = []
    for dy in range(3):
        for dx in range(3):
            other = padded[dy : dy + rows, dx : dx + columns]
            both = (above > 0) & (other > 0)
            pairs.append(np.stack([above[both], other[both]], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def _merge(sums: NDArray[np.float64], joins: NDArray[np.int64], voxel_um3: float) -> pd.DataFrame:
    links = coo_array((np.ones(len(joins)), (joins[:, 0] - 1, joins[:, 1] - 1)), shape=(len(sums), len(sums)))
    count, belongs = connected_components(links, directed=False) if len(sums) else (0, np.empty(0, np.int64))
    merged = np.stack([np.bincount(belongs, weights=column, minlength=count) for column in sums.T], axis=1)
    centres = merged[:, 1:4] / merged[:, :1]
    return pd.DataFrame(
        {
            "volume_um3": merged[:, 0] * voxel_um3,
            "plane": centres[:, 0],
            "row": centres[:, 1],
            "column": centres[:, 2],
            "touches_first": merged[:, 4] > 0,
            "touches_last": merged[:, 5] > 0,
        }
    )
