"""Synthetic trabecular bone: rods or plates, and the gaps across struts that open under load."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bonemonai.phantoms.plane_waves import PlaneWaves, surface_waves
from bonemonai.phantoms.scan_grid import ScanGrid, slab_share
from bonemonai.phantoms.specimen import Draw, Specimen

TRABECULAR_BV_TV_RANGE = (0.128, 0.309)
ROD_BELOW, PLATE_ABOVE = 0.17, 0.25  # BV/TV

_FIELD_WAVELENGTH_UM = 480.0  # of the structure; struts are about half as far apart
_SMOOTH_UM = 13.0  # standard deviation of the filter that rounds the structure
_GAP_RADIUS_UM = 80.0
# ours: times a gap's area and the 26 um it opens, about 5 % of a line through the bone; the paper's samples were
# compressed by 6 to 7 %, of which some is elastic
_GAPS_PER_MM3 = 100.0


class _Gap(NamedTuple):
    """A failed strut: a disk across it that opens from its onset on; um."""

    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    radius: float
    onset: int
    roughness: PlaneWaves


class TrabecularBone:
    """Bone where three random fields nearly vanish, two at once (rods) or one (plates), or something between.

    Args:
        specimen: the sample; its BV/TV says whether rods or plates.
    """

    def __init__(self, specimen: Specimen) -> None:
        self.specimen = specimen

    def coverage(self, grid: ScanGrid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Share of a voxel that is bone, the level's distance to first order; and 0, for its mineral is the same.

        Args:
            grid: of the scan.
        """
        level = np.float32(self._level)
        volume = self._structure_volume(grid)
        slope = np.zeros(self.specimen.shape, dtype=np.float32)
        for axis in range(3):
            gradient = np.gradient(volume, axis=axis)
            gradient *= gradient
            slope += gradient
            del gradient
        np.sqrt(slope, out=slope)
        np.maximum(slope, np.float32(1e-6), out=slope)
        np.subtract(level, volume, out=volume)
        volume /= slope
        volume += np.float32(0.5)
        return np.clip(volume, 0, 1, out=volume), np.zeros(self.specimen.shape, dtype=np.float32)

    def crack(self, grid: ScanGrid, opening_voxels: Callable[[int], float]) -> NDArray[np.float32]:
        """Share of a voxel that is open, were all of it bone: scattered gaps, each from its own state on.

        Args:
            grid: of the scan.
            opening_voxels: from the state at which a gap is first seen to how wide it is now.
        """
        crack = np.zeros(self.specimen.shape, dtype=np.float32)
        for gap in self._gaps:
            self._open_gap(crack, gap, opening_voxels(gap.onset), grid)
        return crack

    @cached_property
    def _fields(self) -> list[PlaneWaves]:
        rng = self.specimen.rng(Draw.FIELD)
        fields = []
        for _ in range(3):
            direction = rng.standard_normal((48, 3))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            direction[:, 0] *= 0.7  # longer along the load
            fields.append(
                PlaneWaves(
                    direction * (2 * math.pi / _FIELD_WAVELENGTH_UM),
                    rng.uniform(0, 2 * math.pi, 48),
                    np.full(48, math.sqrt(2 / 48)),
                )
            )
        return fields

    @property
    def _plateness(self) -> float:
        """0 gives rods, 1 plates."""
        return float(np.clip((self.specimen.bone_volume_fraction - ROD_BELOW) / (PLATE_ABOVE - ROD_BELOW), 0, 1))

    def _structure(self, fields: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Bone is where this is small: the distance from where two fields vanish, or one, um.

        Args:
            fields: three arrays of (4, ...), see :meth:`PlaneWaves.distance_at`.
        """
        rod = np.full(fields[0].shape[1:], np.inf, dtype=np.float32)
        for one, other in combinations(fields, 2):
            cosine = (one[1:] * other[1:]).sum(axis=0)
            square = one[0] * one[0] + other[0] * other[0] - 2 * cosine * one[0] * other[0]
            square /= np.maximum(1 - cosine * cosine, np.float32(0.02))
            np.minimum(rod, square, out=rod)
        np.sqrt(np.maximum(rod, 0), out=rod)
        plate = np.min([np.abs(field[0]) for field in fields], axis=0)
        weight = np.float32(0.93 * self._plateness)
        return np.asarray(weight * plate + (1 - weight) * rod, dtype=np.float32)

    def _structure_volume(self, grid: ScanGrid) -> NDArray[np.float32]:
        volume = np.empty(self.specimen.shape, dtype=np.float32)
        planes = zip(*(field.distance_planes(grid) for field in self._fields), strict=True)
        for z, values in enumerate(planes):
            volume[z] = self._structure(list(values))
        # without this, slits stay where two sheets or lines pass each other, and look like cracks
        sigma = _SMOOTH_UM / self.specimen.voxel_size_um
        return np.asarray(gaussian_filter(volume, sigma, truncate=3.0, output=volume))

    def _structure_at(self, points_um: NDArray[np.float64]) -> NDArray[np.float32]:
        return self._structure([field.distance_at(points_um) for field in self._fields])

    @cached_property
    def _level(self) -> float:
        volume = self._structure_volume(self.specimen.grid())
        rank = round(self.specimen.bone_volume_fraction * (volume.size - 1))
        return float(np.partition(volume, rank, axis=None)[rank])

    @cached_property
    def _gaps(self) -> list[_Gap]:
        """Failed struts: each gap across the strut it breaks, whichever way that runs, no two near each other.

        Shen et al., 3.4: trabecular failure has no dominant direction; "overall structural collapse following bending
        of transversally oriented rods and buckling of longitudinally oriented plates".
        """
        rng = self.specimen.rng(Draw.CRACK)
        extent = self.specimen.extent_um
        count = max(6, round(_GAPS_PER_MM3 * float(np.prod(extent)) * 1e-9))
        places = rng.uniform(0.06, 0.94, (60 * count + 2000, 3)) * extent
        along = rng.standard_normal(places.shape)
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        row = np.cross(along, np.eye(3)[np.argmin(np.abs(along), axis=1)])
        row /= np.linalg.norm(row, axis=1, keepdims=True)
        column, side = np.cross(along, row), 1.2 * _GAP_RADIUS_UM
        # bone that goes on both ways along an axis, with marrow on the four sides of it, is a strut of that direction
        strut = np.max([self._structure_at(places + step * 50.0 * along) for step in (-1, 0, 1)], axis=0)
        beside = np.mean([self._structure_at(places + s * side * v) for v in (row, column) for s in (-1, 1)], axis=0)
        deep = np.argsort(strut - 0.5 * beside)[: max(8 * count, 200)]
        gaps: list[_Gap] = []
        for place in rng.permutation(deep):
            if len(gaps) == count:
                break
            centre, normal = places[place], along[place]
            if any(np.linalg.norm(centre - gap.centre) < _GAP_RADIUS_UM for gap in gaps):
                continue
            late = rng.integers(self.specimen.visible_from, self.specimen.states + 1)
            onset = self.specimen.visible_from if len(gaps) % 2 == 0 else int(late)
            rough = surface_waves(rng, normal, wavelengths_um=(80.0, 240.0), height_um=6.0)
            gaps.append(_Gap(centre, normal, _GAP_RADIUS_UM * rng.uniform(0.8, 1.1), onset, rough))
        return gaps

    def _open_gap(self, crack: NDArray[np.float32], gap: _Gap, opening: float, grid: ScanGrid) -> None:
        centre = grid.indices(gap.centre[None])[0]
        reach = gap.radius / self.specimen.voxel_size_um + 3
        box = grid.box(centre - reach, centre + reach)
        if box is None:
            return
        points = grid.points(box)
        offset = [p - np.float32(c) for p, c in zip(points, gap.centre, strict=True)]
        along = np.asarray(sum(o * np.float32(n) for o, n in zip(offset, gap.normal, strict=True)), dtype=np.float32)
        square = sum(o * o for o in offset) - along * along
        lateral = np.sqrt(np.maximum(square, 0))
        stacked = np.stack(points, axis=-1).reshape(-1, 3).astype(np.float64)
        along -= gap.roughness.at(stacked).reshape(along.shape).astype(np.float32)
        v = np.float32(self.specimen.voxel_size_um)
        share = slab_share(along / v, np.float32(opening))
        share *= np.clip((np.float32(gap.radius) - lateral) / v + np.float32(0.5), 0, 1)
        np.maximum(crack[box], share, out=crack[box])
