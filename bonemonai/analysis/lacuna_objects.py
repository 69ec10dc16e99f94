"""Shape of each lacuna: size, form, direction and distance to the next, in a mask of any size."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from bonemonai.analysis.lattice_lines import OFFSETS, direction_weights, pairs, step_lengths
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_TOUCHING = np.ones((3, 3, 3), dtype=bool)  # faces, edges and corners: 26 neighbours
_PRODUCTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_CROSSINGS = 1 + 3 + len(_PRODUCTS)  # where they begin, after volume, first and second moments
_TOUCHES = _CROSSINGS + len(OFFSETS)
_BYTES_A_VOXEL = 40


def measure_lacuna_objects(
    mask: Volume, *, least_volume_um3: float = 20.0, memory: float = 256e6, planes: int | None = None
) -> pd.DataFrame:
    """Measure the shape of every lacuna, a slab at a time.

    Voxels that share a corner are one lacuna. One that crosses slabs is counted once: sums of each slab's pieces are
    added, and sums of whole numbers do not depend on where slabs end. Memory holds a slab and a row for each piece.

    Args:
        mask: non-zero in lacunae, voxel size known.
        least_volume_um3: smaller objects are noise (a lacuna measures 54 um3 and more), and are no neighbours either.
        memory: bytes of a slab, about.
        planes: of a slab; as many as fit by default.

    Returns:
        One row a lacuna, ordered by its centre: ``volume_um3``; ``surface_um2``, by Crofton's formula over 13
        directions; ``sphericity``, the surface of a ball of this volume over its surface (1 of a ball; of fewer than
        some 50 voxels good to 5 %, and then above 1 at times); ``length_um``, ``width_um``, ``depth_um``, axes of the
        ellipsoid of the same moments; ``elongation``, 1 - width / length; ``flatness``, 1 - depth / width;
        ``axis_plane``, ``axis_row``, ``axis_column``, a unit vector along the length, of which the first that is not 0
        is positive; ``plane_um``, ``row_um``, ``column_um``, the centre, from the centre of the first voxel;
        ``spacing_um``, from centre to nearest centre, nan of a lone one; ``touches_first``, ``touches_last``, whether
        it lies at the first or last plane, row or column: such a one is cut, and its shape is not its own.

    Raises:
        InputError: if the voxel size is unknown.

    Source:
        Sphericity: Wadell, J Geol 43:250 (1935). Axes by moments, as of
        ``skimage.measure.regionprops``. Number density: :func:`bonemonai.analysis.summarise_lacunae`.

    Example:
        >>> from bonemonai.data import open_volume
        >>> measure_lacuna_objects(open_volume("lacunae.ome.zarr")).median()  # doctest: +SKIP
    """
    size = mask.voxel_size_um
    if size is None:
        raise InputError(mask.path, "does not state its voxel size; say --voxel-size-um.")
    if planes is None:
        planes = max(1, int(memory / (_BYTES_A_VOXEL * mask.shape[1] * mask.shape[2])))
    sums: list[NDArray[np.float64]] = []
    joins: list[NDArray[np.int64]] = []
    total, last = 0, None
    for slab in mask.slabs(planes):
        labels, count = ndimage.label(mask.read(slab.start, slab.stop) != 0, structure=_TOUCHING)
        numbered = np.where(labels > 0, labels + np.int64(total), 0)
        found = _sums(labels, count, slab.start, mask.shape[0])
        if last is not None:
            joins.append(_joins(last, numbered[0]))
            before = len(sums[-1])  # what crosses here is of the last slab's pieces and of this one's
            crossings = _crossings_between(last, numbered[0], total - before, before + count)
            sums[-1][:, _CROSSINGS:_TOUCHES] += crossings[:before]
            found[:, _CROSSINGS:_TOUCHES] += crossings[before:]
        sums.append(found)
        last, total = numbered[-1].copy(), total + count
    merged = _merged(np.concatenate(sums), np.concatenate([*joins, np.empty((0, 2), np.int64)]))
    return _table(merged[merged[:, 0] * math.prod(size) >= least_volume_um3], size)


def _sums(labels: NDArray[np.int32], count: int, start: int, depth: int) -> NDArray[np.float64]:
    """For each piece: voxels, moments, crossings of lattice lines, and which borders it touches; all whole numbers."""
    where = np.argwhere(labels)
    label = labels[tuple(where.T)] - 1
    place = where.astype(np.float64)
    place[:, 0] += start
    weights = [place[:, axis] for axis in range(3)] + [place[:, a] * place[:, b] for a, b in _PRODUCTS]
    columns = [np.bincount(label, minlength=count).astype(np.float64)]
    columns += [np.bincount(label, weights=weight, minlength=count).astype(np.float64) for weight in weights]
    padded = np.pad(labels, ((0, 0), (1, 1), (1, 1)))  # what the sides of the volume cut ends there
    for offset in OFFSETS:
        near, far = pairs(padded, offset)
        differ = near != far
        columns.append(np.bincount((near + far)[differ], minlength=count + 1)[1:].astype(np.float64))
    for index, end in ((0, start == 0), (-1, start + len(labels) == depth)):
        touched = np.zeros(count + 1)
        for face in (labels[:, index], labels[:, :, index], *([labels[index]] if end else [])):
            touched[np.unique(face)] = 1
        columns.append(touched[1:])
        if end:  # the plane beyond the volume is empty
            for number, offset in enumerate(OFFSETS):
                if offset[0]:
                    columns[_CROSSINGS + number] += np.bincount(labels[index].reshape(-1), minlength=count + 1)[1:]
    return np.stack(columns, axis=1)


def _joins(above: NDArray[np.int64], below: NDArray[np.int64]) -> NDArray[np.int64]:
    """Numbers of pieces that meet across two planes."""
    met = []
    for offset in OFFSETS:
        if offset[0]:
            near, far = pairs(np.pad(np.stack([above, below]), ((0, 0), (1, 1), (1, 1))), offset)
            both = (near > 0) & (far > 0)
            met.append(np.stack([near[both], far[both]], axis=1))
    return np.unique(np.concatenate(met), axis=0)


def _crossings_between(
    above: NDArray[np.int64], below: NDArray[np.int64], first: int, count: int
) -> NDArray[np.float64]:
    """For each of so many pieces from the first on, steps between two planes that leave or enter it."""
    planes = np.stack([above, below])
    planes = np.pad(np.where(planes > 0, planes - first, 0), ((0, 0), (1, 1), (1, 1)))
    columns = np.zeros((count, len(OFFSETS)))
    for number, offset in enumerate(OFFSETS):
        if offset[0]:
            near, far = pairs(planes, offset)
            differ = (near > 0) != (far > 0)
            columns[:, number] = np.bincount((near + far)[differ], minlength=count + 1)[1:]
    return columns


def _merged(sums: NDArray[np.float64], joins: NDArray[np.int64]) -> NDArray[np.float64]:
    if not len(sums):
        return sums
    links = coo_array((np.ones(len(joins)), (joins[:, 0] - 1, joins[:, 1] - 1)), shape=(len(sums), len(sums)))
    count, belongs = connected_components(links, directed=False)
    return np.stack([np.bincount(belongs, weights=column, minlength=count) for column in sums.T], axis=1)


def _table(sums: NDArray[np.float64], size: tuple[float, float, float]) -> pd.DataFrame:
    edges, count = np.array(size), sums[:, 0]
    centres = sums[:, 1:4] / count[:, None]
    order = np.lexsort(centres.T[::-1])
    sums, count, centres = sums[order], count[order], centres[order]
    volume = count * edges.prod()
    lengths, vectors = _axes(sums, centres, edges)
    steps = 2 * edges.prod() * direction_weights(size) / step_lengths(size)
    surface = sums[:, _CROSSINGS:_TOUCHES] @ steps
    places = centres * edges
    spacing = np.full(len(places), np.nan)
    if len(places) > 1:
        spacing = KDTree(places).query(places, k=2)[0][:, 1]
    return pd.DataFrame(
        {
            "volume_um3": volume,
            "surface_um2": surface,
            "sphericity": np.pi ** (1 / 3) * (6 * volume) ** (2 / 3) / surface,
            **{name: lengths[:, axis] for axis, name in enumerate(("length_um", "width_um", "depth_um"))},
            "elongation": 1 - lengths[:, 1] / lengths[:, 0],
            "flatness": 1 - lengths[:, 2] / lengths[:, 1],
            **{f"axis_{name}": vectors[:, axis] for axis, name in enumerate(("plane", "row", "column"))},
            **{f"{name}_um": places[:, axis] for axis, name in enumerate(("plane", "row", "column"))},
            "spacing_um": spacing,
            "touches_first": sums[:, _TOUCHES] > 0,
            "touches_last": sums[:, _TOUCHES + 1] > 0,
        }
    )


def _axes(
    sums: NDArray[np.float64], centres: NDArray[np.float64], edges: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Axes of the ellipsoid of the same second moments, longest first, and the direction of the longest."""
    spread = np.zeros((len(sums), 3, 3))
    for column, (a, b) in enumerate(_PRODUCTS, start=4):
        moment = (sums[:, column] / sums[:, 0] - centres[:, a] * centres[:, b]) * edges[a] * edges[b]
        # a voxel is a box, not a point
        spread[:, a, b] = spread[:, b, a] = moment + (edges[a] ** 2 / 12 if a == b else 0)
    values, vectors = np.linalg.eigh(spread)
    longest = vectors[:, :, -1]
    if len(longest):
        tidy = np.where(np.abs(longest) < 1e-9, 0, longest)
        first = np.take_along_axis(tidy, (tidy != 0).argmax(axis=1)[:, None], axis=1)
        longest = tidy * np.sign(first)
    return np.sqrt(20 * values[:, ::-1]), longest
