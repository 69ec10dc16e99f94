from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt, label

from bonemonai.phantoms import draw_murine_specimen
from bonemonai.phantoms.murine_outline import FemurOutline, VertebraOutline, inside_share, murine_outline
from bonemonai.phantoms.murine_specimen import SITES, MurineSite

AXIS = np.arange(-2200, 2600, 20.0)


def planes(outline: FemurOutline | VertebraOutline, z: float) -> tuple[np.ndarray, np.ndarray]:
    surfaces = outline.surfaces(z, AXIS[:, None], AXIS[None])
    return surfaces.outer, surfaces.inner


@pytest.mark.parametrize("seed", range(4))
def test_femur_narrows_while_its_shell_thickens(seed: int) -> None:
    outline = FemurOutline(draw_murine_specimen("femur", seed))
    areas, shells = [], []
    for z in (0, 1000, 2000, 3900):
        outer, inner = planes(outline, z)
        assert label(outer < 0)[1] == label(inner < 0)[1] == 1
        areas.append((outer < 0).sum())
        # the shell's mean thickness: twice the mean depth along its middle is less exact than area by length
        shells.append(((outer < 0) & (inner > 0)).sum() * 20.0**2 / (2 * np.sqrt(np.pi * (outer < 0).sum()) * 20.0))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > 1.5 * areas[-1]
    assert shells[-1] > 1.2 * shells[0]
    assert 80 < shells[0] < shells[-1] < 250


@pytest.mark.parametrize("site", SITES)
def test_distances_are_those_of_the_surface(site: MurineSite) -> None:
    """Near the surface to 10 %, against the distance transform of the finely sampled inside."""
    outline = murine_outline(draw_murine_specimen(site, 3))
    axis = np.arange(-400, 1600, 5.0)
    outer = outline.surfaces(400.0 if site == "spine" else 1500.0, axis[:, None] * 0.5, axis[None]).outer[0:]
    grid = np.argwhere(np.abs(outer) < 120)
    sampling = (2.5, 5.0)
    exact = distance_transform_edt(outer > 0, sampling=sampling) - distance_transform_edt(outer <= 0, sampling=sampling)
    inner = grid[(grid > 40).all(axis=1) & (grid < len(axis) - 40).all(axis=1)]
    off = np.abs(outer - exact)[tuple(inner.T)]
    assert len(inner) > 1000
    # a plane's own distance exceeds the distance in space where the surface leans
    assert np.quantile(off, 0.9) < 16


@pytest.mark.parametrize("seed", range(3))
def test_vertebra_has_body_canal_arch_and_ends(seed: int) -> None:
    outline = VertebraOutline(draw_murine_specimen("spine", seed))
    outer, _ = planes(outline, 0)
    background, parts = label(outer > 0)
    assert parts == 2, "a canal and what is outside"
    canal = (background == background[np.searchsorted(AXIS, outline._canal_centre), np.searchsorted(AXIS, 0)]).sum()
    assert 0.4 < canal * 0.02**2 < 1.1  # mm2
    outer, _ = planes(outline, 0.8 * outline._half_height)
    assert label(outer > 0)[1] == 1, "beside the arch the canal is open"
    low, high = outline.box_um
    for z in (low[0], high[0]):
        assert (planes(outline, z)[0] > 0).all()


@pytest.mark.parametrize("site", SITES)
def test_bone_lies_in_its_box(site: MurineSite) -> None:
    outline = murine_outline(draw_murine_specimen(site, 1))
    low, high = outline.box_um
    for z in np.linspace(low[0], high[0], 9):
        outer, _ = planes(outline, z)
        y, x = AXIS[np.argwhere(outer < 0)].T
        if len(y):
            assert low[1] < y.min() < y.max() < high[1]
            assert low[2] < x.min() < x.max() < high[2]


def test_fields_are_single_precision_and_defined_in_the_middle() -> None:
    for site in SITES:
        outline = murine_outline(draw_murine_specimen(site, 0))
        for field in outline.surfaces(0.0, np.zeros((1, 1)), np.zeros((1, 1))):
            assert field.dtype == np.float32
            assert field[0, 0] < -100


def test_fewer_trabeculae_up_the_shaft() -> None:
    outline = FemurOutline(draw_murine_specimen("femur", 0))
    assert outline.abundance(0) > 2 > outline.abundance(2000) > -1 > outline.abundance(3900)


def test_inside_share() -> None:
    shares = inside_share(np.array([-9.0, -5.0, 0.0, 4.0, 5.0], np.float32), 10.0)
    np.testing.assert_allclose(shares, [1, 1, 0.5, 0.1, 0], atol=1e-6)
