"""Shape of each lacuna: size, form, direction and distance to the next, in a mask of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from bonemonai.analysis.labelled_slabs import LabelledSlab, measure_pieces, number_pieces
from bonemonai.analysis.lattice_lines import OFFSETS, direction_weights, pairs, step_lengths
from bonemonai.analysis.slab_arrays import Arrays, SlabArrays
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_PRODUCTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
_CROSSINGS = 1 + 3 + len(_PRODUCTS)  # where they begin, after volume, first and second moments
_TOUCHES = _CROSSINGS + len(OFFSETS)
_BYTES_A_VOXEL = 40


def measure_lacuna_objects(
    mask: Volume,
    *,
    least_volume_um3: float = 20.0,
    memory: float = 256e6,
    planes: int | None = None,
    kept: SlabArrays | None = None,
) -> pd.DataFrame:
    """Measure the shape of every lacuna, a slab at a time.

    Voxels that share a corner are one lacuna. One that crosses slabs is counted once: sums of each slab's pieces are
    added, and sums of whole numbers do not depend on where slabs end. Memory holds a slab and a row for each piece.

    Args:
        mask: non-zero in lacunae, voxel size known.
        least_volume_um3: smaller objects are noise (a lacuna measures 54 um3 and more), and are no neighbours either.
        memory: bytes of a slab, about.
        planes: of a slab; as many as fit by default.
        kept: of finished slabs, which are not read again, of this mask as their source; None keeps none.

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
        ResumeError: if what was kept is of another mask, or damaged.

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

    def measure(slab: LabelledSlab) -> Arrays:
        sums = _sums(slab.labels, slab.pieces, slab.planes.start, mask.shape[0])
        if slab.above is None:
            return {"sums": sums}
        above, below = _crossings_between(slab.above, slab.labels[0], slab.pieces)
        sums[:, _CROSSINGS:_TOUCHES] += below
        return {"sums": sums, "crossings above": above}

    found = measure_pieces(
        lambda start, stop: mask.read(start, stop) != 0, mask.slabs(planes), measure, neighbours=26, kept=kept
    )
    merged = _merged(found)
    return _table(merged[merged[:, 0] * math.prod(size) >= least_volume_um3], size)


def _sums(labels: NDArray[Any], count: int, start: int, depth: int) -> NDArray[np.float64]:
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


def _crossings_between(
    above: NDArray[Any], below: NDArray[Any], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps between two planes that leave a piece of the one above, and that enter one of so many below."""
    planes = np.pad(np.stack([above, below]), ((0, 0), (1, 1), (1, 1)))
    leaving = np.zeros((int(above.max()), len(OFFSETS)), np.int64)
    entering = np.zeros((count, len(OFFSETS)), np.int64)
    for number, offset in enumerate(OFFSETS):
        if offset[0]:
            near, far = pairs(planes, offset)
            leaving[:, number] = np.bincount(near[far == 0], minlength=len(leaving) + 1)[1:]
            entering[:, number] = np.bincount(far[near == 0], minlength=count + 1)[1:]
    return leaving, entering


def _merged(found: Sequence[Arrays]) -> NDArray[np.float64]:
    """Sums of each piece of the whole volume."""
    sums = [arrays["sums"] for arrays in found]
    for before, arrays in zip(sums, found[1:], strict=False):
        crossings = arrays["crossings above"]
        before[: len(crossings), _CROSSINGS:_TOUCHES] += crossings
    count, belongs = number_pieces(found)
    pieces, columns = np.concatenate(belongs), np.concatenate(sums).T
    return np.stack([np.bincount(pieces, weights=column, minlength=count) for column in columns], axis=1)


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
