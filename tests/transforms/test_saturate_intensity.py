from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from skimage.exposure import rescale_intensity

from bonemonai.data import StreamingHistogram, open_volume, volume_histogram
from bonemonai.transforms import SaturateIntensity, SaturateIntensityd
from tests.contracts import TransformContract


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_agrees_with_scikit_image(dtype: type) -> None:
    image = np.random.default_rng(0).normal(100, 30, (1, 600, 700)).clip(0, 255).astype(dtype)
    low, high = np.percentile(image, (1, 99))
    expected = rescale_intensity(image.astype(np.float64), in_range=(low, high), out_range=(0.0, 1.0))
    found = SaturateIntensity()(image)
    assert found.dtype == torch.float32
    # integers lie in steps, and the histogram's percentile between two of them; one step is 1 / (high - low)
    tolerance = 1.0 / (high - low) if np.issubdtype(dtype, np.integer) else 2e-4
    np.testing.assert_allclose(found, expected, atol=tolerance)


def test_min_max_before_makes_no_difference() -> None:
    image = np.random.default_rng(0).normal(-0.5, 0.1, (1, 64, 64))
    scaled = (image - image.min()) / np.ptp(image)
    np.testing.assert_allclose(SaturateIntensity()(image), SaturateIntensity()(scaled), atol=1e-4)


@pytest.mark.parametrize("split", ["train", "test"])
def test_planes_of_a_volume_are_scaled_alike(study: Path, split: str) -> None:
    """Plane by plane with the volume's histogram, in both grey ranges, equals the volume scaled at once."""
    for folder in sorted(study.glob("*/image")):
        volume = open_volume(folder)
        histogram = volume_histogram(volume)
        whole = SaturateIntensity()(volume.read(), histogram)
        planes = [SaturateIntensity()(volume.read(z, z + 1), histogram) for z in range(volume.shape[0])]
        np.testing.assert_array_equal(np.concatenate(planes), whole)
        low, high = np.percentile(volume.read(), (1, 99))
        np.testing.assert_allclose(whole, np.clip((volume.read() - low) / (high - low), 0, 1), atol=1e-3)


def test_dictionary_takes_the_volumes_histogram() -> None:
    histogram = StreamingHistogram()
    histogram.update(np.arange(101))
    item = {"image": np.array([[[0.0, 50.0, 200.0]]]), "other": 1, "histogram": histogram}
    found = SaturateIntensityd("image", 0, 100)(item)
    np.testing.assert_allclose(found["image"], [[[0, 0.5, 1]]], atol=0.01)
    assert found["other"] == 1
    assert item["image"].max() == 200  # the item that came is left as it was


def test_dictionary_falls_back_on_the_image() -> None:
    found = SaturateIntensityd(["image", "missing"], 0, 100, allow_missing_keys=True)({"image": np.arange(5.0)[None]})
    np.testing.assert_allclose(found["image"], [[0, 0.25, 0.5, 0.75, 1]])


def test_meta_tensor_keeps_its_affine() -> None:
    image = MetaTensor(torch.rand(1, 8, 8), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0])))
    assert torch.equal(SaturateIntensity()(image).affine, image.affine)


def test_refusals() -> None:
    with pytest.raises(ValueError, match=r"0 <= lower < upper <= 100 \(percent\), got 5, 5"):
        SaturateIntensity(5, 5)
    with pytest.raises(ValueError, match="constant"):
        SaturateIntensity()(np.ones((1, 4, 4)))


class TestSaturateIntensityd(TransformContract):
    def make(self) -> Any:
        return SaturateIntensityd("image")
