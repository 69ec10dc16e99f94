from __future__ import annotations

import numpy as np
import pytest

from bonemonai.phantoms.lumbar_organs import FAT, Ellipse, Tissue
from bonemonai.phantoms.lumbar_spine import Rod
from bonemonai.phantoms.slice_waves import SliceWaves
from bonemonai.phantoms.tissue_slice import CORTICAL_MG_CM3, TissueSlice

EVEN = SliceWaves(np.zeros((1, 3)), np.zeros(1), 0.0)
SIDE = np.arange(-30, 30, 0.5)


def blank(thickness: float = 1.0) -> TissueSlice:
    into = TissueSlice(0.0, thickness, SIDE, SIDE, EVEN)
    into.outline(0, 100, 100, Tissue(1.0), bound="trunk")
    into.outline(0, 100, 100, Tissue(1.0), bound="cavity")
    return into


def test_areas_are_right_by_partial_volume() -> None:
    into = blank()
    into.ellipse(Ellipse(3, -2, 12, 7, FAT))
    assert (into.result().fat / FAT.fat).sum() * 0.25 == pytest.approx(np.pi * 12 * 7, rel=0.01)


def test_gas_rises() -> None:
    into = blank()
    into.ellipse(Ellipse(0, 0, 15, 15, Tissue(1.03), gas=0.5))
    water = into.result().water
    assert water[50, 60] == pytest.approx(0, abs=1e-3)  # in front of the middle
    assert water[70, 60] == pytest.approx(1.03, abs=1e-3)


def test_ellipses_stay_within_the_cavity() -> None:
    into = TissueSlice(0.0, 1.0, SIDE, SIDE, EVEN)
    into.outline(0, 10, 10, Tissue(1.0), bound="cavity")
    into.ellipse(Ellipse(10, 0, 12, 5, FAT))
    assert into.result().fat[:, 84:].max() == 0


@pytest.mark.parametrize("shell", [0.3, 0.6, 1.5])
def test_thin_shells_keep_their_mineral(shell: float) -> None:
    into = blank()
    into.rods([Rod((0, 0, -50), (0, 0, 50), 10, 10, shell)], 0.0, FAT)
    expected = CORTICAL_MG_CM3 * np.pi * (10**2 - (10 - shell) ** 2)
    found = into.result()
    assert found.mineral.sum() * 0.25 == pytest.approx(expected, rel=0.03)
    # no pixel of a shell thinner than itself is all bone
    assert (found.mineral.max() > 0.99 * CORTICAL_MG_CM3) == (shell > 0.5)


def test_thick_slices_average_bone_over_their_height() -> None:
    rod = Rod((0, 0, 1), (0, 0, 51), 8, 0.2, 9)  # begins 1 mm above the slice's middle
    thin, thick = blank(1.0), blank(5.0)
    for into in (thin, thick):
        into.rods([rod], 0.0, FAT)
    assert thin.result().mineral[60, 60] == 0
    assert thick.result().mineral[60, 60] == pytest.approx(CORTICAL_MG_CM3 * 0.4, rel=0.01)


def test_what_lies_outside_the_image_is_left_out() -> None:
    into = blank()
    before = into.result().water.copy()
    into.ellipse(Ellipse(200, 0, 12, 5, FAT))
    into.rods([Rod((200, 0, 0), (220, 0, 0), 4, 4)], 100.0, FAT)
    np.testing.assert_array_equal(into.result().water, before)


def test_table_lies_below_the_back() -> None:
    into = TissueSlice(0.0, 1.0, SIDE, SIDE, EVEN)
    into.table(5.0)
    rows = np.nonzero(into.result().water[:, 60] > 0.3)[0]
    assert SIDE[rows.min()] == pytest.approx(6, abs=1.5)
