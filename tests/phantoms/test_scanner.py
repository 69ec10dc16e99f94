from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import kurtosis
from skimage.exposure import match_histograms

from bonemonai.phantoms import CompressionPhantom
from bonemonai.phantoms.scanner import scan_sample
from bonemonai.phantoms.specimen import Draw, Specimen

KINDS = ["cortical", "trabecular"]


@pytest.mark.parametrize("bone", KINDS)
def test_state_1_is_told_by_its_noise_until_matching_and_median(bone: str) -> None:
    states, bv_tv = (20, None) if bone == "cortical" else (15, 0.25)
    sample = CompressionPhantom(bone, (40, 56, 60), 1, states, bv_tv=bv_tv)
    first, *others = (sample.state(number).image[:32] for number in (1, 2, 5))
    contrast = [np.ptp(np.percentile(image, [5, 95])) for image in (first, *others)]
    assert first.mean() > max(image.mean() for image in others) + 0.05
    assert contrast[0] > 1.08 * max(contrast[1:])
    noise = [image - ndimage.median_filter(image, 3) for image in (first, *others)]
    assert noise[0].std() > 1.2 * max(residual.std() for residual in noise[1:])
    assert kurtosis(noise[0], axis=None) > 4 > 0.6 > max(abs(kurtosis(residual, axis=None)) for residual in noise[1:])

    matched = [first, *(match_histograms(image, first) for image in others)]
    clean = [ndimage.median_filter(image, 3) for image in matched]
    assert np.ptp([image.mean() for image in clean]) < 0.01
    assert np.ptp([image.std() for image in clean]) < 0.01
    residuals = [(image - ndimage.median_filter(image, 3)).std() for image in clean]
    assert max(residuals) < 1.04 * min(residuals)


def test_impulses_are_half_a_percent_of_state_1() -> None:
    with_artefacts = CompressionPhantom("cortical", (32, 32, 32), 3).state(1).image
    residual = with_artefacts - ndimage.median_filter(with_artefacts, 3)
    assert (np.abs(residual) > 0.45).mean() == pytest.approx(0.005, rel=0.15)


@pytest.mark.parametrize("bone", KINDS)
def test_rings_differ_and_lie_where_their_mask_says(bone: str) -> None:
    arguments = {"bone": bone, "shape": (24, 64, 64), "seed": 6}
    rings = []
    for number in (2, 3):
        ring = CompressionPhantom(**arguments).state(number).ring
        rings.append(ring)
        image = CompressionPhantom(**arguments).state(number).image
        plain = CompressionPhantom(**arguments, artefacts=False).state(number)
        assert not plain.ring.any()
        slope, offset = np.polyfit(plain.image[ring == 0], image[ring == 0], 1)  # drift of contrast and brightness
        added = (image - offset) / slope - plain.image
        assert np.abs(added[ring == 0]).max() < 1e-4
        assert 0.5 * 0.06 - 1e-3 < np.abs(added[ring == 1]).min() <= np.abs(added[ring == 1]).max() < 0.06 + 1e-3
    assert 0.03 < rings[0].mean() < 0.6
    assert not np.array_equal(rings[0], rings[1])
    np.testing.assert_array_equal(rings[0], rings[0][:, ::-1, ::-1])  # round the volume's axis
    np.testing.assert_array_equal(rings[0], rings[0].transpose(0, 2, 1))


def test_a_scan_without_artefacts_is_blurred_and_noisy() -> None:
    specimen = Specimen((20, 24, 28), 5, 6.5, 0.9, 0.0, 4, 3)
    grey = np.random.default_rng(0).random(specimen.shape, dtype=np.float32)
    image, ring = scan_sample(grey, specimen, 2, artefacts=False)
    assert not ring.any()
    noise = specimen.rng(Draw.NOISE, 2).standard_normal(specimen.shape, dtype=np.float32)
    blurred = ndimage.gaussian_filter(grey.astype(np.float64), 0.55)
    np.testing.assert_allclose(image, blurred + 0.06 * noise, atol=1e-5)
