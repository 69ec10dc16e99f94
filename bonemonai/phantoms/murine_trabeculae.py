"""Trabeculae of a mouse: rods and plates of a given thickness, fewer where the outline says so."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.murine_outline import FemurOutline, VertebraOutline
from bonemonai.phantoms.plane_waves import PlaneWaves
from bonemonai.phantoms.scan_grid import ScanGrid
from bonemonai.phantoms.specimen import Draw, random_numbers

_WAVES = 40
_WAVELENGTHS = 1.8  # of the structure, in Tb.Sp + Tb.Th: measured by spheres, Tb.Sp is then about what was drawn
_LOSS_WAVELENGTH_UM = 700.0  # of where trabeculae are lost
_BY_THE_SHELL_UM = 150.0  # where they are lost last


class MurineTrabeculae:
    """Bone near where three random fields vanish, two at once (rods) or one (plates), or something between.

    As :class:`bonemonai.phantoms.trabecular_bone.TrabecularBone`, but as thick as the specimen says rather than as
    dense, and known on any grid without a pass over all of it. A fourth field takes some of it away; pieces without
    a hold can be left, as in any random structure.

    Args:
        outline: of the bone that they are in.
    """

    def __init__(self, outline: FemurOutline | VertebraOutline) -> None:
        self.outline, has = outline, outline.specimen
        self._half_um, self._plateness = np.float32(has.tb_th_um / 2), np.float32(has.plateness)
        length = _WAVELENGTHS * (has.tb_sp_um + has.tb_th_um)
        # along z longer than across
        self._fields = [_draw_field(has.seed, number, length, 0.7) for number in range(3)]
        self._loss = _draw_field(has.seed, 3, _LOSS_WAVELENGTH_UM, 0.8)

    def distance(self, grid: ScanGrid, inner: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance from trabeculae's surfaces, to first order, um; negative in bone.

        Args:
            grid: on whose voxels; its planes must lie across z.
            inner: there, the distance from the marrow space's surface, um.
        """
        heights = grid.matrix[0, 0] * np.arange(grid.shape[0]) + grid.offset[0]
        scale = np.float32(_LOSS_WAVELENGTH_UM / (2 * math.pi))  # um a unit of the field, about
        distance = np.empty(grid.shape, dtype=np.float32)
        planes = zip(*(field.distance_planes(grid) for field in self._fields), self._loss.planes(grid), strict=True)
        for z, (*fields, lost) in enumerate(planes):
            kept = lost + np.float32(self.outline.abundance(heights[z]))
            kept += np.clip(1 + inner[z] / np.float32(_BY_THE_SHELL_UM), 0, 1)
            distance[z] = np.maximum(self._structure(fields) - self._half_um, -scale * kept)
        return distance

    def _structure(self, fields: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Distance from the middles of rods or plates.

        Between the two, a rod is as wide as 1 / sqrt(1 - plateness) times its thickness.

        Args:
            fields: three arrays of (4, ...), see :meth:`PlaneWaves.distance_at`.
        """
        rod = np.full(fields[0].shape[1:], np.inf, dtype=np.float32)
        for one, other in combinations(fields, 2):
            cosine = (one[1:] * other[1:]).sum(axis=0)
            square = one[0] * one[0] + other[0] * other[0] - 2 * cosine * one[0] * other[0]
            square /= np.maximum(1 - cosine * cosine, np.float32(0.05))
            np.minimum(rod, square, out=rod)
        plate = np.min([field[0] * field[0] for field in fields], axis=0)
        mixed = self._plateness * plate + (1 - self._plateness) * rod
        return np.asarray(np.sqrt(np.maximum(mixed, 0)), dtype=np.float32)


def _draw_field(seed: int, number: int, wavelength_um: float, stretch: float) -> PlaneWaves:
    rng = random_numbers(seed, Draw.FIELD, number)
    direction = rng.standard_normal((_WAVES, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction[:, 0] *= stretch
    amplitudes = np.full(_WAVES, math.sqrt(2 / _WAVES))
    return PlaneWaves(direction * (2 * math.pi / wavelength_um), rng.uniform(0, 2 * math.pi, _WAVES), amplitudes)
