from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk
from sklearn.cluster import KMeans

from bonemonai.data import StreamingHistogram, manifest_items, open_volume, read_manifest, volume_histogram
from bonemonai.transforms import BoneMask, BoneMaskd, bone_threshold
from tests.contracts import TransformContract


def two_materials(low: float, high: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = np.where(rng.random((1, 120, 110)) < 0.6, high, low)
    return (values + rng.normal(0, 0.05, values.shape)).astype(np.float32)


def histogram_of(values: np.ndarray) -> StreamingHistogram:
    histogram = StreamingHistogram()
    histogram.update(values)
    return histogram


def test_positive_range_takes_otsu() -> None:
    image = two_materials(0.2, 0.7)
    expected = threshold_otsu(image, nbins=4096)
    assert bone_threshold(histogram_of(image)) == pytest.approx(expected, abs=0.01)
    assert bone_threshold(histogram_of(image)) == bone_threshold(histogram_of(image), "otsu")


def test_negative_range_takes_k_means() -> None:
    image = two_materials(-0.8, -0.3).clip(-1, 0)
    centres = KMeans(2, n_init=5, random_state=0).fit(image.reshape(-1, 1)).cluster_centers_
    assert bone_threshold(histogram_of(image)) == pytest.approx(centres.mean(), abs=1e-4)
    assert bone_threshold(histogram_of(image)) == bone_threshold(histogram_of(image), "kmeans")


def test_the_two_methods_differ_so_the_choice_is_seen() -> None:
    """Otsu and two-means part the same classes, but Otsu cuts at a bin, k-means half-way between the centres."""
    image = np.concatenate([np.full(900, -1.0), np.linspace(-0.4, 0, 100)])[None, None]
    histogram = histogram_of(image)
    assert bone_threshold(histogram, "otsu") != bone_threshold(histogram, "kmeans")
    assert bone_threshold(histogram) == bone_threshold(histogram, "kmeans")
    assert bone_threshold(histogram_of(image + 1)) == bone_threshold(histogram_of(image + 1), "otsu")


def test_morphology_is_scipys_away_from_the_border() -> None:
    raw = np.random.default_rng(1).random((80, 90)) < 0.7
    raw[20:60, 20:60] = True
    image = raw.astype(np.float32)[None]
    expected = ndimage.binary_closing(ndimage.binary_opening(raw, np.ones((3, 3))), disk(4))
    found = np.asarray(BoneMask(opening=3, closing=4)(image))[0]
    np.testing.assert_array_equal(found[12:-12, 12:-12], expected[12:-12, 12:-12])


def test_closing_fills_a_lacuna_and_leaves_a_vessel() -> None:
    y, x = np.mgrid[:120, :120]
    image = np.ones((1, 120, 120), np.float32)
    image[0][(y - 30) ** 2 + (x - 30) ** 2 <= 4**2] = 0  # 4 pixels: 6.4 um
    image[0][(y - 80) ** 2 + (x - 80) ** 2 <= 9**2] = 0
    mask = np.asarray(BoneMask()(image))[0]
    assert mask[30, 30] == 1
    assert mask[80, 80] == 0


def test_bone_that_leaves_the_image_is_kept_to_the_border() -> None:
    image = np.zeros((1, 60, 60), np.float32)
    image[:, :, 20:] = 1
    mask = np.asarray(BoneMask()(image))[0]
    assert mask[:, 20:].all()
    assert not mask[:, :20].any()


def test_phantoms_of_both_ranges(study: Path) -> None:
    for row in manifest_items(read_manifest(study / "manifest.csv")):
        image, bone = open_volume(row["image"]), open_volume(row["mask"]).read()
        histogram = volume_histogram(image)
        mask = np.concatenate([np.asarray(BoneMask()(image.read(z, z + 1), histogram)) for z in range(6)])
        dice = 2 * np.count_nonzero(mask & bone) / (np.count_nonzero(mask) + np.count_nonzero(bone))
        assert dice > 0.98, row["grey_range"]


def test_dictionary_adds_the_mask_beside_the_raw_image() -> None:
    image = torch.from_numpy(two_materials(0.2, 0.7))
    item = BoneMaskd("image", "bone")({"image": image, "histogram": histogram_of(image.numpy())})
    assert item["bone"].dtype == torch.uint8
    assert item["bone"].shape == image.shape
    assert torch.equal(item["image"], image)
    assert np.array_equal(item["bone"], BoneMask()(image.numpy()))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="no bone to find"):
        BoneMask()(np.ones((1, 8, 8)))
    with pytest.raises(ValueError, match="channel first"):
        BoneMask()(np.ones((8, 8)))
    with pytest.raises(ValueError, match=r"must be >= 0 \(pixels\), got -1"):
        BoneMask(opening=-1)


class TestBoneMaskd(TransformContract):
    keys = ("mask",)

    def make(self) -> Any:
        return BoneMaskd("image")
