from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from bonemonai.phantoms import draw_murine_specimen
from bonemonai.phantoms.murine_outline import murine_outline
from bonemonai.phantoms.murine_trabeculae import MurineTrabeculae
from bonemonai.phantoms.scan_grid import ScanGrid

VOXEL = 12.5
GRID = ScanGrid((64, 64, 64), VOXEL, np.eye(3) * VOXEL, np.array([-400.0, -300.0, -400.0]))
DEEP = np.full(GRID.shape, -1000, np.float32)


def local_thickness(mask: NDArray[np.bool_]) -> float:
    """Mean diameter, in um, of the largest sphere that holds a voxel and fits the mask, by trying all radii."""
    depth, found = distance_transform_edt(mask), np.zeros(mask.shape)
    for radius in np.arange(depth.max(), 0, -0.5):
        covered = distance_transform_edt(depth < radius) < radius
        found[covered & mask & (found == 0)] = 2 * radius
    return float(found[mask].mean()) * VOXEL


@pytest.mark.parametrize("seed", [1, 2])
def test_as_thick_and_as_far_apart_as_built(seed: int) -> None:
    specimen = draw_murine_specimen("spine", seed)
    trabeculae = MurineTrabeculae(murine_outline(specimen))
    trabeculae.outline.abundance = lambda z: 10.0  # type: ignore[method-assign]
    bone = trabeculae.distance(GRID, DEEP) < 0
    assert 0.05 < bone.mean() < 0.32
    # spheres also fit the corners where plates meet, and read more than the plates' own thickness
    thickness = local_thickness(bone)
    assert 0.95 * specimen.tb_th_um < thickness < 1.3 * specimen.tb_th_um
    assert 40 < thickness < 64
    assert local_thickness(~bone) == pytest.approx(specimen.tb_sp_um, rel=0.25)


def test_plates_hold_more_bone_than_rods() -> None:
    fractions = []
    for plateness in (0.0, 0.5, 0.9):
        specimen = replace(draw_murine_specimen("femur", 3), plateness=plateness)
        fractions.append((MurineTrabeculae(murine_outline(specimen)).distance(GRID, DEEP) < 0).mean())
    assert fractions[0] < 0.8 * fractions[1] < 0.64 * fractions[2]


def test_fewer_up_the_shaft_and_last_by_the_shell() -> None:
    trabeculae = MurineTrabeculae(murine_outline(draw_murine_specimen("femur", 2)))
    low, high, top = (GRID._replace(offset=np.array([z, -500.0, -500.0])) for z in (0.0, 2000.0, 3300.0))
    fractions = [(trabeculae.distance(grid, DEEP) < 0).mean() for grid in (low, high, top)]
    assert fractions[0] > 1.3 * fractions[1] > 2 * fractions[2]
    assert (trabeculae.distance(high, DEEP * 0) < 0).mean() > 1.1 * fractions[1]


def test_a_part_of_a_grid_is_what_it_is_in_the_whole() -> None:
    trabeculae = MurineTrabeculae(murine_outline(draw_murine_specimen("spine", 0)))
    part = GRID._replace(shape=(3, 10, 12), offset=GRID.offset + np.array([20, 30, 40]) * VOXEL)
    whole = trabeculae.distance(GRID, DEEP)[20:23, 30:40, 40:52]
    np.testing.assert_allclose(trabeculae.distance(part, DEEP[:3, :10, :12]), whole, atol=0.5)
