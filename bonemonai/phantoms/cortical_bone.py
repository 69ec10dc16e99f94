"""Synthetic cortical bone: canals in their osteons, and the one longitudinal crack that opens under load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.plane_waves import PlaneWaves, surface_waves
from bonemonai.phantoms.scan_grid import ScanGrid, slab_share
from bonemonai.phantoms.specimen import Draw, Specimen

POROSITY_RANGE = (0.028, 0.035)  # BV/TV 96.5 to 97.2 %

_WIDTH_VARIATION = 0.2  # of the crack's opening along it
_CANAL_RADIUS_UM = (14.0, 30.0)
_OSTEON_RADIUS_UM = (75.0, 115.0)
_REACH_UM = 120.0  # how far round a canal's axis anything is drawn
_PLANES = 32  # of a canal drawn at a time


class _Canal(NamedTuple):
    """A Haversian canal along z, tilted and slightly wavy, and its osteon; lengths in um, pairs are (y, x)."""

    origin: NDArray[np.float64]
    slope: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    wavelength: float
    radius: float
    osteon_radius: float
    mineral: float  # grey value of the osteon less that of the bone round it

    def centre(self, z: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        wave = np.sin(np.float32(2 * math.pi / self.wavelength) * z + np.float32(self.phase[axis]))
        line = np.float32(self.slope[axis]) * z + np.float32(self.origin[axis])
        return np.asarray(line + np.float32(self.amplitude[axis]) * wave, dtype=np.float32)


class _Segment(NamedTuple):
    """A Volkmann canal: a straight piece from one point to another (z, y, x), um."""

    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    radius: float


class CorticalBone:
    """Solid bone crossed by Haversian canals along z, each within its osteon, and a few transverse Volkmann canals.

    Args:
        specimen: the sample.
    """

    def __init__(self, specimen: Specimen) -> None:
        self.specimen = specimen

    def coverage(self, grid: ScanGrid) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Share of a voxel that is bone, and the osteons' mineral, as difference of grey value.

        Args:
            grid: of the scan.
        """
        depth = np.full(self.specimen.shape, np.float32(_REACH_UM))  # outside canals, um
        mineral = np.zeros(self.specimen.shape, dtype=np.float32)
        haversian, volkmann = self._canals
        for canal in haversian:
            for box, distance in self._near_canal(canal, grid):
                view = mineral[box]
                view[distance < canal.osteon_radius] = canal.mineral
                view[np.abs(distance - canal.osteon_radius) < 3] += np.float32(0.02)  # cement line
                np.minimum(depth[box], distance - np.float32(self._canal_scale * canal.radius), out=depth[box])
        for segment in volkmann:
            for box, distance in self._near_segment(segment, grid):
                np.minimum(depth[box], distance - np.float32(self._canal_scale * segment.radius), out=depth[box])
        depth /= np.float32(self.specimen.voxel_size_um)
        depth += np.float32(0.5)
        return np.clip(depth, 0, 1, out=depth), mineral

    def crack(self, grid: ScanGrid, opening_voxels: Callable[[int], float]) -> NDArray[np.float32]:
        """Share of a voxel that is open, were all of it bone: one wavy surface that holds the load axis.

        Args:
            grid: of the scan.
            opening_voxels: from the state at which a crack is first seen to how wide it is now.
        """
        crack = np.empty(self.specimen.shape, dtype=np.float32)
        opening = opening_voxels(self.specimen.visible_from)
        rng = self.specimen.rng(Draw.CRACK)
        around, tilt = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(-6, 6))
        normal = np.array([math.sin(tilt), math.cos(tilt) * math.sin(around), math.cos(tilt) * math.cos(around)])
        middle = (np.array(self.specimen.shape) - 1) / 2 * self.specimen.voxel_size_um
        middle[1:] += rng.uniform(-0.1, 0.1, 2) * self.specimen.extent_um[1:]
        shape = surface_waves(rng, normal, wavelengths_um=(500.0, 1100.0), height_um=22.0)
        rough = surface_waves(rng, normal, wavelengths_um=(110.0, 260.0), height_um=4.0)
        surface = PlaneWaves(*(np.concatenate(pair) for pair in zip(shape, rough, strict=True)))
        width = surface_waves(rng, normal, wavelengths_um=(200.0, 500.0), height_um=0.5 * _WIDTH_VARIATION)
        vector = (normal @ grid.matrix / grid.voxel_size_um).astype(np.float32)
        through = float(surface.at(middle[None])[0])  # so that the crack passes the middle, however small the volume
        constant = np.float32((normal @ (grid.offset - middle) + through) / grid.voxel_size_um)
        rows, columns = (np.arange(size, dtype=np.float32) for size in self.specimen.shape[1:])
        flat = vector[1] * rows[:, None] + vector[2] * columns + constant
        planes = zip(surface.planes(grid), width.planes(grid), strict=True)
        for z, (height, variation) in enumerate(planes):
            distance = flat + vector[0] * np.float32(z) - height / np.float32(grid.voxel_size_um)
            wide = 1 + np.clip(variation, -_WIDTH_VARIATION, _WIDTH_VARIATION)
            crack[z] = slab_share(distance, np.float32(opening) * wide)
        return crack

    @cached_property
    def _canals(self) -> tuple[list[_Canal], list[_Segment]]:
        """Haversian canals, one a cell of a grid and one of them near the middle, and Volkmann canals between them."""
        low, high = _CANAL_RADIUS_UM
        mean_area = math.pi * (high**3 - low**3) / (3 * (high - low))
        # Volkmann canals take the rest
        spacing = math.sqrt(0.85 * mean_area / (1 - self.specimen.bone_volume_fraction))
        extent = self.specimen.extent_um
        margin = _REACH_UM + 0.08 * extent[0] + 3 * self.specimen.motion_voxels * self.specimen.voxel_size_um
        count = np.ceil((extent[1:] / 2 + margin) / spacing).astype(int) + 1
        cells = product(range(-count[0], count[0] + 1), range(-count[1], count[1] + 1))
        canals = {cell: self._draw_canal(cell, spacing) for cell in cells}
        segments = [segment for cell in canals for segment in self._draw_segments(cell, canals)]
        # a later osteon overlies an earlier one
        return sorted(canals.values(), key=lambda canal: canal.radius), segments

    def _draw_canal(self, cell: tuple[int, int], spacing: float) -> _Canal:
        rng = self._cell_rng(cell)
        extent = self.specimen.extent_um
        jitter = np.minimum(0.36 * spacing, 0.2 * extent[1:] if cell == (0, 0) else np.inf)
        middle = extent[1:] / 2 + np.array(cell) * spacing + rng.uniform(-1, 1, 2) * jitter
        slope = rng.uniform(-0.08, 0.08, 2)
        return _Canal(
            origin=middle - slope * extent[0] / 2,
            slope=slope,
            amplitude=rng.uniform(3, 10, 2),
            phase=rng.uniform(0, 2 * math.pi, 2),
            wavelength=rng.uniform(400, 900),
            radius=rng.uniform(*_CANAL_RADIUS_UM),
            osteon_radius=rng.uniform(*_OSTEON_RADIUS_UM),
            mineral=rng.uniform(-0.05, 0.015),
        )

    def _draw_segments(self, cell: tuple[int, int], canals: dict[tuple[int, int], _Canal]) -> Iterator[_Segment]:
        """Volkmann canals from one cell's canal to the next along rows or columns."""
        rng = self._cell_rng(cell, 1)
        for z in rng.uniform(0, self.specimen.extent_um[0], rng.poisson(self.specimen.extent_um[0] / 700)):
            along_rows, rise, radius = int(rng.integers(2)), rng.uniform(-100, 100), rng.uniform(8, 14)
            other = canals.get((cell[0] + along_rows, cell[1] + 1 - along_rows))
            if other is not None:
                heights = np.array([z, z + rise], dtype=np.float32)
                ends = [
                    np.array([height, who.centre(height, 0), who.centre(height, 1)], dtype=np.float64)
                    for height, who in zip(heights, (canals[cell], other), strict=True)
                ]
                yield _Segment(ends[0], ends[1], radius)

    def _cell_rng(self, cell: tuple[int, int], *key: int) -> np.random.Generator:
        # a cell draws its own numbers, so that how many cells there are changes nothing
        return self.specimen.rng(Draw.CANALS, *(place + 2**31 for place in cell), *key)

    def _near_canal(self, canal: _Canal, grid: ScanGrid) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
        """Boxes along a canal, and every voxel's distance from its axis in um."""
        reach = np.array([0, 1, 1]) * (_REACH_UM / self.specimen.voxel_size_um + 1)
        beyond = 3 * self.specimen.motion_voxels + 4
        z = (np.arange(-beyond, self.specimen.shape[0] + beyond) * self.specimen.voxel_size_um).astype(np.float32)
        line = grid.indices(np.column_stack([z, canal.centre(z, 0), canal.centre(z, 1)]).astype(np.float64))
        cosine = np.float32(1 / math.sqrt(1 + float(canal.slope @ canal.slope)))
        for first in range(0, self.specimen.shape[0], _PLANES):
            last = min(first + _PLANES, self.specimen.shape[0]) - 1
            piece = line[(line[:, 0] > first - 2) & (line[:, 0] < last + 2)]
            if not len(piece):
                continue
            low, high = piece.min(axis=0) - reach, piece.max(axis=0) + reach
            low[0], high[0] = first, last
            box = grid.box(low, high)
            if box is not None:
                z, y, x = grid.points(box)
                distance = np.hypot(y - canal.centre(z, 0), x - canal.centre(z, 1))
                yield box, distance * cosine

    def _near_segment(
        self, segment: _Segment, grid: ScanGrid
    ) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
        ends = grid.indices(np.stack([segment.start, segment.stop]))
        reach = 5 * segment.radius / self.specimen.voxel_size_um + 1
        box = grid.box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
        if box is None:
            return
        direction = segment.stop - segment.start
        length = float(np.linalg.norm(direction))
        offset = [p - np.float32(s) for p, s in zip(grid.points(box), segment.start, strict=True)]
        along = sum(o * np.float32(d / length) for o, d in zip(offset, direction, strict=True))
        beyond = along - np.clip(along, 0, np.float32(length))
        square = sum(o * o for o in offset)
        yield box, np.sqrt(np.maximum(square - along * along + beyond * beyond, 0))

    @cached_property
    def _canal_scale(self) -> float:
        """By how much all radii are multiplied to give the porosity wanted."""
        grid = self.specimen.grid()
        relative = np.full(self.specimen.shape, np.inf, dtype=np.float32)
        haversian, volkmann = self._canals
        for canal in haversian:
            for box, distance in self._near_canal(canal, grid):
                np.minimum(relative[box], distance / np.float32(canal.radius), out=relative[box])
        for segment in volkmann:
            for box, distance in self._near_segment(segment, grid):
                np.minimum(relative[box], distance / np.float32(segment.radius), out=relative[box])
        rank = round((1 - self.specimen.bone_volume_fraction) * (relative.size - 1))
        return float(np.partition(relative, rank, axis=None)[rank])
