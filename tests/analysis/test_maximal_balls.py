from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.analysis.maximal_balls import largest_balls, rank_radii, squared_distances, undominated

SPACINGS = [(1.0, 1.0, 1.0), (2.0, 1.0, 1.3)]


@pytest.fixture
def phase() -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(13, 14, 15)), 1.5)
    return np.asarray(field > 0)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_squares_are_scipys(phase: np.ndarray, spacing: tuple[float, ...]) -> None:
    expected = ndimage.distance_transform_edt(phase, sampling=spacing)
    np.testing.assert_allclose(squared_distances(phase, spacing), expected**2)
    assert np.isinf(squared_distances(np.ones_like(phase), spacing)).all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_undominated_balls_cover_what_all_cover_and_others_lie_in_a_neighbour(
    phase: np.ndarray, spacing: tuple[float, ...]
) -> None:
    radii = rank_radii(squared_distances(phase, spacing))
    np.testing.assert_allclose(radii.squares[radii.ranks], squared_distances(phase, spacing))
    kept = undominated(radii, spacing)
    assert 0 < kept.sum() < 0.8 * phase.sum()
    np.testing.assert_array_equal(
        largest_balls(radii, kept, spacing, phase), largest_balls(radii, phase, spacing, phase)
    )
    places = np.moveaxis(np.indices(phase.shape), 0, -1)
    for point in np.argwhere(phase):
        ball = (((places - point) * spacing) ** 2).sum(axis=-1) < radii.squares[radii.ranks[tuple(point)]]
        held = False
        for step in itertools.product((-1, 0, 1), repeat=3):
            other = point + step
            if any(step) and ((other >= 0) & (other < phase.shape)).all() and phase[tuple(other)]:
                wider = (((places - other) * spacing) ** 2).sum(axis=-1) < radii.squares[radii.ranks[tuple(other)]]
                # balls are whole only within the array
                held |= bool((wider | ~ball).all()) and radii.ranks[tuple(other)] > radii.ranks[tuple(point)]
        if not kept[tuple(point)]:
            assert held


def test_only_what_is_wanted_is_covered(phase: np.ndarray) -> None:
    spacing = SPACINGS[0]
    radii = rank_radii(squared_distances(phase, spacing))
    everywhere = largest_balls(radii, phase, spacing, phase)
    wanted = phase.copy()
    wanted[:, :7] = False
    np.testing.assert_array_equal(largest_balls(radii, phase, spacing, wanted), everywhere * wanted)
