from __future__ import annotations

import numpy as np
import pytest

from bonemonai.phantoms.slice_waves import isotropic_waves, upright_waves


def test_field_is_the_sum_of_its_waves() -> None:
    waves = isotropic_waves(np.random.default_rng(0), 7, (3, 9), 2.0)
    x, y, z = np.linspace(-4, 5, 6), np.linspace(0, 3, 5), np.linspace(1, 2, 5)
    found = waves.field(x, y, z)
    for row, column in np.ndindex(found.shape):
        angles = waves.vectors @ (x[column], y[row], z[row]) + waves.phases
        assert found[row, column] == pytest.approx(waves.amplitude * np.cos(angles).sum(), abs=1e-4)


def test_deviation_is_what_was_asked_for() -> None:
    side = np.arange(0, 200, 0.7)
    assert isotropic_waves(np.random.default_rng(1), 60, (4, 8), 3.0).field(side, side, 0).std() == pytest.approx(
        3, rel=0.15
    )


def test_upright_waves_change_little_upwards() -> None:
    waves, side = upright_waves(np.random.default_rng(2), 90, 4.0, 1.0), np.arange(0, 60, 0.5)
    here = waves.field(side, side, 0).ravel()
    above, beside = waves.field(side, side, 2.0).ravel(), waves.field(side + 2.0, side, 0).ravel()
    assert np.corrcoef(here, above)[0, 1] > 0.6 > 0.4 > np.corrcoef(here, beside)[0, 1]
