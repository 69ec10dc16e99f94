from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from bonemonai.phantoms import MurineBone, draw_murine_specimen
from bonemonai.phantoms.murine_bone import CANAL, CORTICAL, MARROW, OUTSIDE, TRABECULAR
from bonemonai.phantoms.murine_specimen import AIR_MG_HA_CM3, SITES, MurineSite
from bonemonai.phantoms.scan_grid import ScanGrid


def slab(planes: int, size: int, voxel: float, z: float = 0.0, y: float = 0.0) -> ScanGrid:
    corner = np.array([z, y - size * voxel / 2, -size * voxel / 2]) + voxel / 2
    return ScanGrid((planes, size, size), voxel, np.eye(3) * voxel, corner)


@pytest.mark.parametrize("site", SITES)
def test_each_tissue_has_its_density(site: MurineSite) -> None:
    bone = MurineBone(draw_murine_specimen(site, 1))
    grid = slab(8, 300, 10.0)
    density, tissue = bone.density(grid), bone.tissue(grid)
    assert (density.dtype, density.shape) == (np.float32, (8, 300, 300))
    has = bone.specimen
    for kind, expected in (
        (OUTSIDE, has.medium_mg_ha_cm3),
        (CORTICAL, has.cortical_mg_ha_cm3),
        (TRABECULAR, has.trabecular_mg_ha_cm3),
        (MARROW, has.marrow_mg_ha_cm3),
    ):
        # a voxel away from any surface holds nothing else; canals thinner than half a voxel touch few
        pure = binary_erosion(tissue == kind, np.ones((3, 3, 3)))
        assert pure.sum() > 20
        assert np.median(density[pure]) == pytest.approx(expected, abs=0.01)
        assert np.mean(np.abs(density[pure] - expected) < 0.01) > 0.9
    assert 900 <= has.trabecular_mg_ha_cm3 < has.cortical_mg_ha_cm3 <= 1100
    canals = density[(tissue == CANAL)]
    assert canals.size > 10
    assert canals.mean() < 0.5 * has.cortical_mg_ha_cm3


def test_air_beyond_the_holder() -> None:
    bone = MurineBone(draw_murine_specimen("femur", 1))
    density = bone.density(slab(1, 60, 100.0))
    assert density[0, 0, 0] == density[0, -1, -1] == pytest.approx(AIR_MG_HA_CM3, abs=1e-3)
    assert density.min() == pytest.approx(AIR_MG_HA_CM3, abs=1e-3)
    assert density[0, 30, 4] == pytest.approx(AIR_MG_HA_CM3, abs=1e-3)
    assert density[0, 30, 7] == pytest.approx(bone.specimen.medium_mg_ha_cm3, abs=1e-3)


@pytest.mark.parametrize(("site", "seed"), [(site, seed) for site in SITES for seed in range(4)])
def test_bv_tv_is_a_mouses(site: MurineSite, seed: int) -> None:
    tissue = MurineBone(draw_murine_specimen(site, seed)).tissue(slab(24, 130, 20.0, z=100.0 if site == "femur" else 0))
    bone, marrow = (tissue == TRABECULAR).sum(), (tissue == MARROW).sum()
    assert 0.05 < bone / (bone + marrow) < 0.3


def test_femurs_trabeculae_thin_out_along_it() -> None:
    bone = MurineBone(draw_murine_specimen("femur", 0))
    fractions = []
    for z in (0.0, 2000.0, 3800.0):
        tissue = bone.tissue(slab(10, 130, 20.0, z=z))
        fractions.append((tissue == TRABECULAR).sum() / np.isin(tissue, (TRABECULAR, MARROW)).sum())
    assert fractions[0] > fractions[1] > 3 * fractions[2]


def test_planes_come_out_alike_whichever_are_computed_together() -> None:
    bone = MurineBone(draw_murine_specimen("spine", 2))
    grid = slab(12, 200, 15.0, z=-90.0)
    part = grid._replace(shape=(4, 200, 200), offset=grid.offset + grid.matrix[:, 0] * 5)
    whole = bone.density(grid)[5:9]
    np.testing.assert_allclose(bone.density(part), whole, atol=15)
    assert np.abs(bone.density(part) - whole).mean() < 0.01
    assert (bone.tissue(part) != bone.tissue(grid)[5:9]).mean() < 1e-4


def test_mixed_voxels_keep_the_mass() -> None:
    """Coarse voxels of mixed content hold as much mineral as the fine ones within them, on the whole."""
    bone = MurineBone(draw_murine_specimen("femur", 1))
    fine, coarse = bone.density(slab(16, 500, 5.0, z=100.0)), bone.density(slab(4, 125, 20.0, z=100.0))
    averaged = fine.reshape(4, 4, 125, 4, 125, 4).mean(axis=(1, 3, 5))
    assert coarse.mean() == pytest.approx(averaged.mean(), rel=0.02)
    assert np.corrcoef(coarse.ravel(), averaged.ravel())[0, 1] > 0.99


def test_seed_gives_the_bone() -> None:
    grid = slab(2, 100, 25.0)
    one, again, other = (MurineBone(draw_murine_specimen("femur", seed)).density(grid) for seed in (3, 3, 4))
    assert one.tobytes() == again.tobytes()
    assert np.abs(one - other).mean() > 10
