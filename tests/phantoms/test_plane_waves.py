from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from bonemonai.phantoms.plane_waves import PlaneWaves, surface_waves
from bonemonai.phantoms.scan_grid import ScanGrid

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
GRID = ScanGrid((5, 7, 6), 6.5, 6.5 * TURN, np.array([10.0, -20.0, 30.0]))


@pytest.fixture
def waves() -> PlaneWaves:
    rng = np.random.default_rng(0)
    return PlaneWaves(rng.normal(0, 0.02, (30, 3)), rng.uniform(0, 6, 30), rng.uniform(0.5, 1.5, 30))


def places() -> np.ndarray:
    return np.stack(np.mgrid[:5, :7, :6], axis=-1).reshape(-1, 3) @ GRID.matrix.T + GRID.offset


def test_planes_are_the_sum_of_cosines(waves: PlaneWaves) -> None:
    terms = list(zip(*waves, strict=True))
    expected = [sum(a * np.cos(k @ place + phase) for k, phase, a in terms) for place in places()]
    np.testing.assert_allclose(waves.at(places()), expected, atol=1e-12)
    np.testing.assert_allclose(np.stack(list(waves.planes(GRID))).ravel(), expected, atol=1e-4)


def test_distance_is_the_field_over_its_slope(waves: PlaneWaves) -> None:
    found = waves.distance_at(places())
    on_grid = np.stack(list(waves.distance_planes(GRID)), axis=1)
    assert on_grid.shape == (4, *GRID.shape)
    np.testing.assert_allclose(on_grid.reshape(4, -1), found, atol=5e-3)
    for number in (0, 50, 200):
        place = places()[number]
        slope = approx_fprime(place, lambda point: float(waves.at(point[None])[0]), 1e-6)
        length = np.linalg.norm(slope)
        np.testing.assert_allclose(found[:, number], [waves.at(place[None])[0] / length, *slope / length], rtol=1e-3)


def test_surface_waves_run_along_the_surface_as_high_as_said() -> None:
    normal = np.array([0.1, 0.7, np.sqrt(1 - 0.5)])
    rng = np.random.default_rng(1)
    heights = []
    for _ in range(200):
        waves = surface_waves(rng, normal, wavelengths_um=(100.0, 300.0), height_um=5.0)
        np.testing.assert_allclose(waves.vectors @ normal, 0, atol=1e-12)
        lengths = 2 * np.pi / np.linalg.norm(waves.vectors, axis=1)
        assert 99 < lengths.min() <= lengths.max() < 301
        heights.append(waves.at(np.zeros((1, 3)))[0])
    assert np.std(heights) == pytest.approx(5, rel=0.15)
