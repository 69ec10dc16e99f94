from __future__ import annotations

import numpy as np
import pytest

from bonemonai.phantoms.lumbar_organs import Tissue
from bonemonai.phantoms.lumbar_spine import build_spine, posterior_rods
from bonemonai.phantoms.lumbar_subject import draw_subject
from bonemonai.phantoms.slice_waves import SliceWaves
from bonemonai.phantoms.tissue_slice import CORTICAL_MG_CM3, TissuePlane, TissueSlice
from bonemonai.phantoms.vertebra_slice import draw_surroundings, draw_vertebra

EVEN = SliceWaves(np.zeros((1, 3)), np.zeros(1), 0.0)
SPINE = build_spine(draw_subject("normal", 5))
L3 = SPINE[3]


def drawn(z: float, pixel: float = 0.7, thickness: float = 2.0) -> TissuePlane:
    columns, rows = np.arange(-60, 60, pixel), L3.centre[1] + np.arange(-45, 85, pixel)
    into = TissueSlice(z, thickness, rows, columns, EVEN)
    draw_surroundings(into, L3)
    draw_vertebra(into, L3, posterior_rods(L3), Tissue(0.7, 0.3), EVEN)
    return into.result()


def test_labels_are_nested() -> None:
    plane = drawn(0.0)
    assert set(np.unique(plane.body)) == {0, 22}
    assert (plane.vertebrae[plane.body > 0] == 22).all()
    assert (plane.body[plane.trabecular > 0] == 22).all()
    assert (plane.vertebrae > 0).sum() > 1.2 * (plane.body > 0).sum()


def test_trabecular_bone_holds_the_subjects_density_within_a_bright_shell() -> None:
    plane = drawn(4.0, pixel=0.3, thickness=1.0)
    assert plane.mineral[plane.trabecular > 0].mean() == pytest.approx(L3.vbmd, rel=0.06)
    middle = plane.mineral[plane.body.any(axis=1)][:, plane.mineral.shape[1] // 2]
    assert middle[:12].max() > 0.9 * CORTICAL_MG_CM3


def test_canal_is_soft_and_the_disc_holds_no_mineral() -> None:
    plane = drawn(0.0)
    row = round((45 + L3.half_depth + 9) / 0.7)
    column = plane.mineral.shape[1] // 2
    assert plane.mineral[row, column] == 0
    assert plane.water[row, column] == pytest.approx(1.022, abs=1e-3)
    disc = drawn(L3.height / 2 + L3.disc / 2)
    assert disc.water[round(45 / 0.7), column] == pytest.approx(1.085, abs=1e-3)
    assert disc.mineral[round(45 / 0.7), column] == 0
    assert (disc.body == 0).all()


def test_labelled_volume_hardly_depends_on_the_grid() -> None:
    volumes = []
    for pixel, step in ((0.5, 1.0), (1.1, 2.0)):
        heights = np.arange(-20, 20, step)
        volumes.append(sum((drawn(float(z), pixel, step).body > 0).sum() for z in heights) * pixel**2 * step)
    assert volumes[0] == pytest.approx(volumes[1], rel=0.04)
    assert 18_000 < volumes[0] < 40_000  # mm3


def test_far_away_nothing_is_drawn() -> None:
    assert not drawn(300.0).mineral.any()
