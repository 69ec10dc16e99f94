"""Bone surface, the plate model that rests on it, and the mean intercept lengths of bone."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.analysis.lattice_lines import OFFSETS, count_crossings, step_lengths, surface_per_volume
from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class BoneSurface(NamedTuple):
    """Surface of bone within tissue.

    Attributes:
        bs_bv_per_mm: BS/BV, 1/mm; nan of no bone.
        intercepts_mm: mean length of bone along each of the 13 lattice directions of
            :data:`bonemonai.analysis.lattice_lines.OFFSETS`; infinite where nothing is crossed.
        spacing_mm: of voxels, (plane, row, column).
    """

    bs_bv_per_mm: float
    intercepts_mm: NDArray[np.float64]
    spacing_mm: tuple[float, float, float]

    @property
    def thickness_plate_mm(self) -> float:
        """2 BV/BS, which is the thickness if bone is plates; about half of the sphere-fitted one if it is rods."""
        return 2 / self.bs_bv_per_mm if self.bs_bv_per_mm else math.inf

    @property
    def anisotropy(self) -> float:
        """DA: longest over shortest axis of the ellipsoid fitted to the mean intercept lengths; 1 is isotropic.

        Nan where bone is not crossed in some direction, or no ellipsoid fits.

        Source:
            Harrigan & Mann, J Mater Sci 19:761 (1984): 1 / MIL(n)^2 = n H n, here by least squares over 13 directions.
        """
        directions = np.array(OFFSETS) * np.asarray(self.spacing_mm)
        x, y, z = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
        terms = np.stack([x * x, y * y, z * z, 2 * x * y, 2 * x * z, 2 * y * z], axis=1)
        if not (np.isfinite(self.intercepts_mm) & (self.intercepts_mm > 0)).all():
            return math.nan
        xx, yy, zz, xy, xz, yz = np.linalg.lstsq(terms, self.intercepts_mm**-2.0, rcond=None)[0]
        values = np.linalg.eigvalsh([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        return float(np.sqrt(values[-1] / values[0])) if values[0] > 0 else math.nan


def measure_bone_surface(
    bone: Volume, tissue: Volume | None = None, *, memory: float = 64e6, record: SlabRecord | None = None
) -> BoneSurface:
    """Estimate bone surface and mean intercept lengths from 13 directions of lattice lines, a few planes at a time.

    Faces of the volume, and of the tissue, are no surface of bone: bone is taken to go on there. A ball's
    surface comes out within 2 %, that of flat plates along the voxels 7 % too small (in all other positions less). A
    triangulation of voxels that are not smoothed gives some 8 % more than a ball has.

    Args:
        bone: mask, non-zero in bone, voxel size known.
        tissue: mask of the same voxels; None takes the whole volume.
        memory: bytes of a slab, about.
        record: of finished slabs.

    Raises:
        InputError: if the voxel size is unknown, or the tissue mask lies on other voxels.

    Source:
        Crofton's formula, see :func:`bonemonai.analysis.lattice_lines.direction_weights`. Plate model: Parfitt et al.,
        J Clin Invest 72:1396 (1983).
    """
    if bone.voxel_size_um is None:
        raise InputError(bone.path, "does not state its voxel size; say --voxel-size-um.")
    if tissue is not None:
        refuse_other_grid(tissue, bone)

    def count(start: int, stop: int) -> dict[str, int]:
        first = min(start, 1)  # the plane before, for steps that lead from it
        marked = bone.read(start - first, stop) != 0
        inside = None if tissue is None else tissue.read(start - first, stop) != 0
        return dict(count_crossings(marked, inside, first))

    planes = bone.planes_within(memory / 8)
    total = sum_over_slabs("surface", bone.slabs(planes), count, record)
    crossings, ends = (
        np.array([total[f"{name} {number}"] for number in range(len(OFFSETS))]) for name in ("crossings", "ends")
    )
    plane, row, column = (edge / 1000 for edge in bone.voxel_size_um)
    spacing = plane, row, column
    # a stretch of bone has two ends
    intercepts = np.divide(ends * step_lengths(spacing), crossings, out=np.full(13, np.inf), where=crossings > 0)
    return BoneSurface(surface_per_volume(crossings, ends, spacing), intercepts, spacing)
