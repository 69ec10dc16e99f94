from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.analysis import measure_bone_surface
from bonemonai.analysis.lattice_lines import OFFSETS, count_crossings
from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume


def ball(radius: float, size: tuple[float, float, float], margin: float = 2) -> np.ndarray:
    axes = [np.arange(-radius - margin * edge, radius + margin * edge, edge) + 0.3 * edge for edge in size]
    z, y, x = np.meshgrid(*axes, indexing="ij")
    return np.asarray(z * z + y * y + x * x < radius * radius)


@pytest.mark.parametrize("size", [(10.0, 10.0, 10.0), (20.0, 10.0, 10.0), (25.0, 10.0, 15.0)])
def test_ball(size: tuple[float, float, float]) -> None:
    bone = ball(300, size)
    found = measure_bone_surface(ArrayVolume(bone.astype(np.uint8), size))
    assert found.bs_bv_per_mm == pytest.approx(3 / 0.3, rel=0.02)
    assert found.anisotropy == pytest.approx(1, abs=0.02)
    assert found.thickness_plate_mm == pytest.approx(0.2, rel=0.02)


def test_plates_that_the_volume_cuts() -> None:
    """Flat plates along an axis are the worst case of 13 directions: 7.3 % of their surface is missed."""
    bone = np.zeros((60, 30, 30), np.uint8)
    for start in range(6, 60, 20):
        bone[start : start + 8] = 1
    found = measure_bone_surface(ArrayVolume(bone, (10, 10, 10)))
    assert found.thickness_plate_mm == pytest.approx(0.08 / 0.927, rel=0.001)
    assert np.isnan(found.anisotropy)
    # no more bone is seen at the faces than surface
    again = measure_bone_surface(ArrayVolume(bone[:, :9, :11], (10, 10, 10)))
    assert again.bs_bv_per_mm == pytest.approx(found.bs_bv_per_mm, rel=1e-9)


def test_stretched_texture_has_the_stretch_as_anisotropy() -> None:
    field = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(160, 80, 80)), (8, 4, 4), mode="wrap")
    bone = ArrayVolume((field > np.quantile(field, 0.7)).astype(np.uint8), (10, 10, 10))
    assert measure_bone_surface(bone).anisotropy == pytest.approx(2, rel=0.08)
    # the same voxels, half as deep: no stretch
    flat = ArrayVolume(bone.values, (5, 10, 10))
    assert measure_bone_surface(flat).anisotropy == pytest.approx(1, abs=0.12)


@pytest.mark.parametrize("planes", [1, 2, 5])
def test_slabs_give_what_memory_gives(planes: int) -> None:
    random = np.random.default_rng(planes)
    bone, tissue = (ArrayVolume((random.random((9, 8, 7)) < share).astype(np.uint8)) for share in (0.4, 0.8))
    whole, slabs = (measure_bone_surface(bone, tissue, memory=8 * 56 * n) for n in (9, planes))
    assert whole.bs_bv_per_mm == slabs.bs_bv_per_mm
    np.testing.assert_array_equal(whole.intercepts_mm, slabs.intercepts_mm)


def test_itk_counts_the_three_axes_and_takes_the_volumes_faces_for_surface(sample_data: Path) -> None:
    itk = pytest.importorskip("itk")
    if not hasattr(itk, "BoneMorphometryFeaturesFilter"):
        pytest.skip("itk-bonemorphometry is not installed")
    volume = open_volume(sample_data / "microct-shrew-trabecula-mask" / "Shrew.nrrd")
    bone = volume.read() != 0
    image = itk.GetImageFromArray(bone.astype(np.float32))
    image.SetSpacing([0.0041] * 3)
    measured = itk.BoneMorphometryFeaturesFilter[type(image)].New(image, Threshold=0.5)
    measured.Update()
    counts = count_crossings(np.pad(bone, 1), None)
    crossings = [counts[f"crossings {OFFSETS.index(axis)}"] for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1))]
    per_mm = np.mean(crossings) / (bone.size * 0.0041)
    assert measured.GetTbN() == pytest.approx(per_mm, rel=1e-6)
    assert measured.GetTbTh() == pytest.approx(bone.mean() / per_mm, rel=1e-6)
    # its faces are a fifth of this small volume's surface
    assert measure_bone_surface(volume).thickness_plate_mm == pytest.approx(1.22 * measured.GetTbTh(), rel=0.01)


def test_voxel_size_is_needed() -> None:
    with pytest.raises(InputError, match="does not state its voxel size"):
        measure_bone_surface(ArrayVolume(np.ones((3, 3, 3), np.uint8), None))
