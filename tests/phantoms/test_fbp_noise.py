from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import normaltest

from bonemonai.phantoms import fbp_noise


def planes(shape: tuple[int, int], count: int = 24) -> np.ndarray:
    return np.stack([fbp_noise(shape, np.random.default_rng([seed, 5])) for seed in range(count)])


@pytest.mark.parametrize("shape", [(64, 64), (61, 67), (50, 83), (101, 40)])
def test_has_unit_variance_whatever_the_shape(shape: tuple[int, int]) -> None:
    noise = planes(shape)
    assert (noise.dtype, noise.shape[1:]) == (np.float32, shape)
    assert noise.std() == pytest.approx(1, abs=0.02)
    assert abs(noise.mean()) < 0.02
    assert normaltest(noise[0].ravel()[::7]).pvalue > 1e-3


def test_power_goes_with_frequency_then_rolls_off() -> None:
    power = np.mean(np.abs(np.fft.fft2(planes((128, 128)))) ** 2, axis=0)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
    bands = [power[np.abs(frequency - f) < 0.01].mean() for f in (0.03, 0.06, 0.12)]
    # a ramp times cos(pi f)^4
    expected = [f * np.cos(np.pi * f) ** 4 for f in (0.03, 0.06, 0.12)]
    np.testing.assert_allclose(np.array(bands) / bands[0], np.array(expected) / expected[0], rtol=0.12)
    assert power[frequency >= 0.5].mean() < 1e-3 * bands[2]
    assert power[0, 0] < 1e-3 * bands[2]


def test_neighbours_are_correlated_and_planes_are_not() -> None:
    noise = planes((96, 96))
    assert np.corrcoef(noise[:, :, 1:].ravel(), noise[:, :, :-1].ravel())[0, 1] > 0.2
    assert abs(np.corrcoef(noise[1:].ravel(), noise[:-1].ravel())[0, 1]) < 0.02
