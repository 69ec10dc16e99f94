"""Density of a mouse's distal femur or lumbar vertebra on any grid: shell, canals in it, trabeculae, marrow."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.murine_canals import MurineCanals
from bonemonai.phantoms.murine_outline import Surfaces, inside_share, murine_outline
from bonemonai.phantoms.murine_specimen import AIR_MG_HA_CM3, MurineSpecimen
from bonemonai.phantoms.murine_trabeculae import MurineTrabeculae
from bonemonai.phantoms.scan_grid import ScanGrid

OUTSIDE, CORTICAL, TRABECULAR, MARROW, CANAL = range(5)

_HOLDER_RADIUS_UM = 2450.0


class _Shares(NamedTuple):
    """Shares of a voxel: within the outer surface, within the marrow space, of trabeculae there, of canals."""

    within: NDArray[np.float32]
    medullary: NDArray[np.float32]
    trabecular: NDArray[np.float32]
    canal: NDArray[np.float32]


class MurineBone:
    """A mouse bone as it is, before any scanner; deterministic, and of one mineral density a tissue.

    z is the bone's long axis, x medio-lateral, y antero-posterior (a vertebra's spinous process towards +y). A femur's
    z begins just above the growth plate and runs up the shaft; a vertebra's is 0 in the middle of its body.

    Args:
        specimen: see :func:`bonemonai.phantoms.draw_murine_specimen`.

    Example:
        >>> from bonemonai.phantoms import draw_murine_specimen
        >>> bone = MurineBone(draw_murine_specimen("femur", 1))
        >>> grid = ScanGrid((2, 300, 300), 10.0, np.eye(3) * 10.0, np.array([0.0, -1500.0, -1500.0]))
        >>> np.unique(bone.tissue(grid)).tolist()
        [0, 1, 2, 3, 4]
    """

    def __init__(self, specimen: MurineSpecimen) -> None:
        self.specimen = specimen
        self.outline = murine_outline(specimen)
        self._trabeculae = MurineTrabeculae(self.outline)
        self._canals = MurineCanals(self.outline)

    def density(self, grid: ScanGrid) -> NDArray[np.float32]:
        """Density of every voxel, mg HA/cm3; voxels that a surface crosses are mixed, to first order.

        A few planes of a larger grid come out as they do there, up to single precision: bones larger than memory are
        computed so.

        Args:
            grid: whose voxels; its planes must lie across z.

        Returns:
            (planes, rows, columns).
        """
        has, shares = self.specimen, self._shares(grid)
        shell = np.float32(has.cortical_mg_ha_cm3)
        density = (np.float32(has.marrow_mg_ha_cm3) - shell) * shares.canal
        density += shell
        inside = np.float32(has.trabecular_mg_ha_cm3 - has.marrow_mg_ha_cm3) * shares.trabecular
        inside += np.float32(has.marrow_mg_ha_cm3)
        density += shares.medullary * (inside - density)
        around = self._around(grid)
        density -= around
        density *= shares.within
        density += around
        return density

    def tissue(self, grid: ScanGrid) -> NDArray[np.uint8]:
        """What there is in every voxel, mostly.

        Args:
            grid: as of :meth:`density`.

        Returns:
            (planes, rows, columns): 0 outside the bone, 1 shell, 2 trabecula, 3 marrow, 4 canal in the shell.
        """
        shares, half = self._shares(grid), np.float32(0.5)
        medullary = np.where(shares.trabecular >= half, np.uint8(TRABECULAR), np.uint8(MARROW))
        shell = np.where(shares.canal > half, np.uint8(CANAL), np.uint8(CORTICAL))
        tissue = np.where(shares.medullary > half, medullary, shell)
        tissue[shares.within < half] = OUTSIDE
        return np.asarray(tissue)

    def _shares(self, grid: ScanGrid) -> _Shares:
        planes = [self._surfaces(grid, z) for z in range(grid.shape[0])]
        inner = np.stack([plane.inner for plane in planes])
        within = inside_share(np.stack([plane.outer for plane in planes]), grid.voxel_size_um)
        medullary = inside_share(inner, grid.voxel_size_um)
        trabecular = np.zeros(grid.shape, dtype=np.float32)
        box = _bounds(medullary > 0)
        if box is not None:
            distance = self._trabeculae.distance(_part(grid, box), inner[box])
            trabecular[box] = inside_share(distance, grid.voxel_size_um)
        return _Shares(within, medullary, trabecular, self._canals.share(grid))

    def _surfaces(self, grid: ScanGrid, plane: int) -> Surfaces:
        z, y, x = grid.points((slice(plane, plane + 1), slice(0, grid.shape[1]), slice(0, grid.shape[2])))
        outer, inner = self.outline.surfaces(z, y, x)
        return Surfaces(outer[0], inner[0])

    def _around(self, grid: ScanGrid) -> NDArray[np.float32]:
        """Medium in the holder, a tube along z; air beyond it."""
        _, y, x = grid.points((slice(0, 1), slice(0, grid.shape[1]), slice(0, grid.shape[2])))
        middle = np.float32(self.outline.box_um[:, 1].mean())
        filled = inside_share(np.hypot(y - middle, x) - np.float32(_HOLDER_RADIUS_UM), grid.voxel_size_um)
        medium = self.specimen.medium_mg_ha_cm3
        return np.asarray(AIR_MG_HA_CM3 + (medium - AIR_MG_HA_CM3) * filled, dtype=np.float32)


def _bounds(wanted: NDArray[np.bool_]) -> tuple[slice, ...] | None:
    """The least box that holds all that is wanted; None if nothing is."""
    lines = [np.flatnonzero(wanted.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    if any(len(line) == 0 for line in lines):
        return None
    return tuple(slice(int(line[0]), int(line[-1]) + 1) for line in lines)


def _part(grid: ScanGrid, box: tuple[slice, ...]) -> ScanGrid:
    """Of a grid, the voxels of a box."""
    low = np.array([axis.start for axis in box], dtype=float)
    planes, rows, columns = (axis.stop - axis.start for axis in box)
    return grid._replace(shape=(planes, rows, columns), offset=grid.offset + grid.matrix @ low)
