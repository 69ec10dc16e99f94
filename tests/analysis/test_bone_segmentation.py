from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.analysis import BoneSegmentation
from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks
from tests.scanco_files import write_isq


def density(shape: tuple[int, int, int] = (9, 11, 12)) -> ArrayVolume:
    values = np.random.default_rng(4).normal(500, 400, shape).astype(np.float32)
    volume = ArrayVolume(values)
    volume.units = "mg HA/cm3"
    return volume


@pytest.mark.parametrize("planes", [1, 2, 4, 9])
def test_density_is_the_whole_volumes_gaussian_however_it_is_read(planes: int) -> None:
    scan = density()
    bone = BoneSegmentation(scan, density=500)
    smooth = ndimage.gaussian_filter(scan.values, 1.2, mode="nearest", radius=2)
    np.testing.assert_array_equal(in_blocks(bone, planes), smooth >= 500)
    assert bone.rule == ">= 500 mg HA/cm3 after Gaussian of sigma 1.2, support 2 voxels"
    assert bone.voxel_size_um == scan.voxel_size_um


def test_kernel_ends_after_the_support() -> None:
    values = np.zeros((11, 11, 11), np.float32)
    values[5, 5, 5] = 1e6
    scan = ArrayVolume(values)
    scan.units = "mg HA/cm3"
    grown = BoneSegmentation(scan, density=1e-6).read()
    expected = np.zeros_like(grown)
    expected[3:8, 3:8, 3:8] = 1
    np.testing.assert_array_equal(grown, expected)
    np.testing.assert_array_equal(BoneSegmentation(scan, density=1e-6, sigma=0).read(), values > 0)


def test_grey_threshold_is_strict_and_of_any_units() -> None:
    values = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    bone = BoneSegmentation(ArrayVolume(values), threshold=13)
    np.testing.assert_array_equal(bone.read(), values > 13)
    assert bone.rule == "grey > 13"
    assert BoneSegmentation(density(), threshold=13).rule == "density > 13"


def test_mask_is_taken_as_it_is() -> None:
    values = (np.random.default_rng(0).random((4, 5, 6)) < 0.5) * np.uint8(255)
    bone = BoneSegmentation(ArrayVolume(values))
    np.testing.assert_array_equal(in_blocks(bone, 1), values // 255)
    assert bone.rule == "non-zero voxels"
    values[3, 4, 5] = 7
    with pytest.raises(InputError, match=r"is no mask: it has several values besides 0; say --threshold or --density"):
        in_blocks(BoneSegmentation(ArrayVolume(values)), 1)
    # of a run that goes on at the last plane, too, where this other value is the first one met
    values[:3] = values[3, :4] = 0
    values[0, 0, 0] = 255
    values[3] = (values[3] > 0) * np.uint8(7)
    assert values[3].any()
    with pytest.raises(InputError, match="is no mask"):
        BoneSegmentation(ArrayVolume(values)).read(3, 4)


def test_isq_is_calibrated_by_its_header(tmp_path: Path) -> None:
    stored = np.full((6, 8, 9), 1000, np.int16)
    stored[:, :, 4:] = 3000
    scan = open_volume(write_isq(tmp_path / "a.isq", stored))
    bone = BoneSegmentation(scan, density=500, sigma=0)
    assert 3000 * 1603.5 / 4096 - 391.25 > 500 > 1000 * 1603.5 / 4096 - 391.25
    np.testing.assert_array_equal(bone.read(), stored > 2000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"density": 500.0}, r"array: holds raw values, no densities; give a grey threshold \(--threshold\)"),
        ({"density": 500.0, "threshold": 1.0}, "are two ways"),
        ({"threshold": float("nan")}, "must be finite"),
        ({"threshold": 1.0, "sigma": -1.0}, "0 or more"),
    ],
)
def test_refusals(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BoneSegmentation(ArrayVolume(np.zeros((3, 3, 3), np.float32)), **options)  # type: ignore[arg-type]


def test_nan_is_refused() -> None:
    values = np.zeros((3, 3, 3), np.float32)
    values[1, 1, 1] = np.nan
    with pytest.raises(InputError, match="planes 0 to 2 hold NaN"):
        BoneSegmentation(ArrayVolume(values), threshold=1).read()
