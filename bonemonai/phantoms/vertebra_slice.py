"""A vertebra drawn into a slice: its shell and trabecular bone, the disc above, the canal behind, and the labels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.lumbar_organs import DISC, FAT, THECAL_SAC, Tissue
from bonemonai.phantoms.lumbar_spine import LABELS, Rod, Vertebra
from bonemonai.phantoms.slice_waves import SliceWaves
from bonemonai.phantoms.tissue_slice import Box, TissueSlice

Array = NDArray[np.float32]

_FRONT_MM, _BACK_MM, _SIDE_MM = 34.0, 75.0, 52.0  # how far round a body's centre anything of it is drawn


def draw_surroundings(into: TissueSlice, vertebra: Vertebra) -> None:
    """Draw the disc above a vertebra and, along both, the canal: fat, and within it the thecal sac.

    Args:
        into: the slice.
        vertebra: all are drawn before the first bone is.
    """
    box = _box(into, vertebra)
    if box is None:
        return
    columns, rows = into.grid(box)
    u, v, w = vertebra.local(columns, rows, np.array([[into.z]], dtype=np.float32))
    k = np.float32(vertebra.half_width / 22)
    behind = v - np.float32(vertebra.half_depth) - 9 * k
    along = np.clip(np.float32(vertebra.height / 2 + vertebra.disc + 2) - np.abs(w), 0, 1)
    for a, b, tissue in ((17, 11, FAT), (8.5, 7.0, THECAL_SAC)):
        share = np.sqrt(np.square(u / (a * k)) + np.square(behind / (b * k)))
        into.fill(box, into.coverage((1 - share) * (np.float32(b) * k)) * along, tissue)
    side, _, _ = vertebra.body(u, v, w)
    above = np.clip(np.minimum(w, np.float32(vertebra.height / 2 + vertebra.disc) - w) + 2, 0, 1)
    into.fill(box, into.coverage(side + 1) * above, DISC)


def draw_vertebra(
    into: TissueSlice, vertebra: Vertebra, rods: Sequence[Rod], marrow: Tissue, struts: SliceWaves
) -> None:
    """Draw a vertebra and label it.

    Args:
        into: the slice.
        vertebra: what is drawn.
        rods: its posterior elements.
        marrow: between its trabeculae.
        struts: its trabecular structure, mg/cm3 about its mean.
    """
    box = _box(into, vertebra)
    if box is None:
        return
    columns, rows = into.grid(box)
    u, v, w = vertebra.local(columns[None], rows[None], into.heights)
    side, end, share = vertebra.body(u, v, w)
    # across an endplate a voxel is as high as the slice is thick; depths in units of a voxel from here
    high = np.float32(into.step * math.cos(vertebra.tilt) + into.pixel * abs(math.sin(vertebra.tilt)))
    pixel = np.float32(into.pixel)
    body = np.minimum(side / pixel, end / high)
    inner = np.minimum((side - vertebra.side_cortex) / pixel, (end - vertebra.end_cortex) / high)
    outer = body
    mirrored = np.abs(u)
    for rod in rods:
        depth = rod.depth(mirrored, v, w)
        outer = np.maximum(outer, depth / pixel)
        inner = np.maximum(inner, (depth - np.float32(rod.cortex)) / pixel)
    covered = into.coverage(outer, 1).mean(axis=0)
    mineral = _trabecular(into, box, vertebra, (u, v, w), struts)
    into.bone(box, covered, into.coverage(inner, 1).mean(axis=0), mineral, marrow)
    label = LABELS.get(vertebra.name)
    if label is None:
        return
    into.labels["vertebrae"][box][covered > np.maximum(into.most[box], 0.5)] = label
    into.most[box] = np.maximum(into.most[box], covered)
    into.labels["body"][box][into.coverage(body, 1).mean(axis=0) > 0.5] = label
    middle = (share < 0.65) & (v < 0.3 * vertebra.half_depth) & (np.abs(w) < 0.25 * vertebra.height)
    into.labels["trabecular"][box][middle.all(axis=0)] = label


def _box(into: TissueSlice, vertebra: Vertebra) -> Box | None:
    x, y, z = vertebra.centre
    if abs(into.z - z) > vertebra.height / 2 + vertebra.disc + 30:
        return None
    y += (z - into.z) * math.tan(vertebra.tilt) + (_BACK_MM - _FRONT_MM) / 2
    wide = _SIDE_MM if vertebra.name != "S1" else 66.0
    return into.box(x, y, wide, (_BACK_MM + _FRONT_MM) / 2)


def _trabecular(
    into: TissueSlice, box: Box, vertebra: Vertebra, local: tuple[Array, Array, Array], struts: SliceWaves
) -> Array:
    """Mineral of trabecular bone, mg/cm3: denser near the endplates, cleft by the basivertebral veins."""
    u, v, w = (a.mean(axis=0) for a in local)
    q2 = np.minimum(np.square(w * np.float32(2 / vertebra.height)), 1)
    mineral = np.float32(vertebra.vbmd) * (np.float32(0.97) + np.float32(0.25) * np.square(q2))
    mineral = mineral + np.float32(vertebra.sclerosis) * q2**4
    vein = np.square(u / 4) + np.square(w / 3) + np.square((v - np.float32(0.7 * vertebra.half_depth)) / 8)
    mineral = mineral * (1 - np.float32(0.75) * np.exp(-vein))
    columns, _ = into.grid(box)
    field = struts.field(columns[0] - np.float32(vertebra.centre[0]), v[:, 0], w[:, 0])
    return np.asarray(np.maximum(mineral + field, 0), dtype=np.float32)
