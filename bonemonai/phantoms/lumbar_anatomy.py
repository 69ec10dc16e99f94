"""A lumbar trunk cut at any height onto any grid: how much water, fat, iodine and bone mineral, and which vertebra."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bonemonai.errors import InputError
from bonemonai.phantoms.lumbar_organs import FAT, SKIN, LumbarOrgans, Tissue
from bonemonai.phantoms.lumbar_spine import Rod, Vertebra, build_spine, other_bones, posterior_rods
from bonemonai.phantoms.lumbar_subject import LumbarSubject
from bonemonai.phantoms.slice_waves import isotropic_waves, upright_waves
from bonemonai.phantoms.tissue_slice import TissuePlane, TissueSlice
from bonemonai.phantoms.vertebra_slice import draw_surroundings, draw_vertebra

_RED_MARROW, _MARROW_IODINE = 1.045, 1.3  # relative to water; mg/ml
_KEY, _STRUTS_KEY = 23, 30


class LumbarAnatomy:
    """A subject's trunk from T12 to the sacrum, lying on a table, in patient coordinates (LPS), mm.

    x points to the left, y backwards, z upwards; the body of L3 is at z = 0, the trunk's axis at x = y = 0. Bones are
    signed distances, so that shells thinner than a pixel lose contrast by partial volume, as in a scan.

    What it is not: no measured anatomy. Organs are ellipsoids, vertebrae symmetric but for rotation and sway, and the
    trabecular structure is a random field of the subject's spacing and contrast, drawn out along the spine.

    Args:
        subject: see :func:`bonemonai.phantoms.draw_subject`.

    Example:
        >>> from bonemonai.phantoms.lumbar_subject import draw_subject
        >>> anatomy = LumbarAnatomy(draw_subject("normal", seed=1))
        >>> side = np.arange(-160.0, 160.0, 2.0)
        >>> plane = anatomy.plane(0.0, 3.0, side, side)
        >>> sorted(int(value) for value in np.unique(plane.body))
        [0, 22]
    """

    def __init__(self, subject: LumbarSubject) -> None:
        self.subject = subject
        self.spine = build_spine(subject)
        self.organs = LumbarOrgans(subject, self.spine)
        self._rods = {v.name: posterior_rods(v) for v in self.spine}
        self._other = other_bones(subject, self.spine)
        rng = np.random.default_rng([subject.seed, _KEY])
        self._lumps, self._streaks = isotropic_waves(rng, 24, (28, 90), 0.05), isotropic_waves(rng, 48, (4, 14), 0.008)
        rng = np.random.default_rng([subject.seed, _STRUTS_KEY])
        self._struts = {
            v.name: upright_waves(rng, 96, subject.strut_spacing_mm, subject.strut_contrast) for v in self.spine
        }

    def vertebra(self, name: str) -> Vertebra:
        """One vertebra.

        Args:
            name: "T12", "L1" to "L5" or "S1".

        Raises:
            InputError: if there is none of the name.
        """
        for vertebra in self.spine:
            if vertebra.name == name:
                return vertebra
        raise InputError("level", f"must be one of {', '.join(v.name for v in self.spine)}, got {name!r}.")

    def plane(
        self, z_mm: float, thickness_mm: float, rows_mm: NDArray[np.float64], columns_mm: NDArray[np.float64]
    ) -> TissuePlane:
        """Cut a slice.

        Args:
            z_mm: height of its middle.
            thickness_mm: over which bone is averaged, > 0; soft tissue is that of the middle.
            rows_mm: y of each row, evenly spaced, at least 2.
            columns_mm: x of each column, spaced as the rows.
        """
        into = TissueSlice(z_mm, thickness_mm, rows_mm, columns_mm, self._lumps)
        self._draw_trunk(into)
        for vertebra in self.spine:
            draw_surroundings(into, vertebra)
        calcium = [Rod((x, y, z_mm - 2), (x, y, z_mm + 2), r, r, r) for x, y, r in self.organs.calcifications(z_mm)]
        into.rods(calcium, 0, FAT)
        into.rods(self._other, 0.6 * self.subject.vbmd_mg_cm3 + 60, self._marrow)
        for vertebra in self.spine:
            draw_vertebra(into, vertebra, self._rods[vertebra.name], self._marrow, self._struts[vertebra.name])
        return into.result()

    @property
    def _marrow(self) -> Tissue:
        fat = self.subject.marrow_fat
        return Tissue(_RED_MARROW * (1 - fat), fat, _MARROW_IODINE * (1 - fat))

    def _draw_trunk(self, into: TissueSlice) -> None:
        subject = self.subject
        a, b, back = subject.half_width_mm, subject.half_depth_mm, subject.back_fat_mm
        front, side = 0.9 * back + 4, 0.8 * back + 5
        into.table(b + 1.5)
        into.outline(0, a, b, SKIN)
        into.outline(0, a - 2, b - 2, FAT)
        into.outline((front - back) / 2, a - side, b - (front + back) / 2, self.organs.muscle, bound="trunk")
        _, spine, _, _ = self.organs.follow(into.z)
        ends = self.organs.front, spine + 14
        into.outline(sum(ends) / 2, a - side - 13, (ends[1] - ends[0]) / 2, FAT, bound="cavity")
        for ellipse in self.organs.ellipses(into.z):
            into.ellipse(ellipse)
        into.streak(self._streaks)
