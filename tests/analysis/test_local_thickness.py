from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import tifffile
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from scipy import ndimage

from bonemonai.analysis import BoneSegmentation, measure_local_thickness, thickness_map
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume
from tests.conftest import peak_resident_mb

CUBE = (10.0, 10.0, 10.0)


def by_definition(phase: np.ndarray, size: tuple[float, float, float]) -> np.ndarray:
    """Every ball over every voxel."""
    radius = ndimage.distance_transform_edt(phase, sampling=size)
    points = np.argwhere(phase)
    places = points * np.asarray(size)
    found = np.zeros(phase.shape)
    apart = np.sqrt(((places[:, None] - places[None]) ** 2).sum(axis=-1))
    radii = radius[tuple(points.T)]
    found[tuple(points.T)] = 2 * np.where(apart < radii - 1e-9, radii, 0).max(axis=1)
    return found


def texture(seed: int, shape: tuple[int, int, int], share: float, sigma: float = 1.5) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma, mode="wrap")
    return np.asarray(field > np.quantile(field, 1 - share))


@pytest.mark.parametrize("size", [CUBE, (20.0, 10.0, 15.0)])
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_every_voxel_is_what_the_definition_says(size: tuple[float, float, float], share: float) -> None:
    phase = texture(3, (11, 12, 13), share)
    np.testing.assert_allclose(thickness_map(phase, size), by_definition(phase, size), rtol=1e-12)


@pytest.mark.parametrize("n", [3, 4, 7, 10])
def test_plates_and_the_space_between(n: int) -> None:
    plates = np.zeros((44, 12, 12), bool)
    for start in (2, 16, 30):
        plates[start : start + n] = True
    found = measure_local_thickness(ArrayVolume(plates.astype(np.uint8), CUBE))
    assert found.mean_mm == pytest.approx(n / 100, abs=0.0101)
    assert found.sd_mm == pytest.approx(0, abs=1e-12)
    space = thickness_map(~plates, CUBE)[2 + n : 16]
    assert space.mean() / 1000 == pytest.approx((14 - n) / 100, abs=0.0101)


@pytest.mark.parametrize("diameter", [6.0, 9.0])
def test_rods_and_spheres_within_a_voxel(diameter: float) -> None:
    points = np.moveaxis(np.indices((40, 40, 40)) - 19.7, 0, -1)
    along = np.array([0.48, 0.6, 0.64])
    rod = np.linalg.norm(np.cross(points, along), axis=-1) < diameter / 2
    inner = thickness_map(rod, CUBE)[10:-10, 10:-10, 10:-10]
    assert inner[inner > 0].mean() == pytest.approx(10 * diameter, abs=10)
    ball = np.linalg.norm(points, axis=-1) < diameter / 2
    found = thickness_map(ball, CUBE)
    assert found.max() == pytest.approx(10 * diameter, abs=10)


@settings(max_examples=25)
@given(
    st.integers(0, 10_000),
    st.floats(0.1, 0.8),
    st.integers(1, 14),
    st.sampled_from([CUBE, (20.0, 10.0, 15.0)]),
    st.sampled_from([4_500, 8_000]),
)
def test_boxes_give_what_memory_gives(
    seed: int, share: float, planes: int, size: tuple[float, float, float], voxels: int
) -> None:
    """With a halo that is too small at first, and boxes that are halved."""
    phase, tissue = texture(seed, (14, 27, 16), share), texture(seed + 1, (14, 27, 16), 0.7, 2)
    volumes = [ArrayVolume(mask.astype(np.uint8), size) for mask in (phase, tissue)]
    with mock.patch("bonemonai.analysis.local_thickness._FIRST_HALO", 6):
        try:
            found = measure_local_thickness(*volumes, planes=planes, memory=80 * voxels)
        except InputError:
            reject()  # a ball may be too large for so little memory
    whole = thickness_map(phase, size)[phase & tissue] / 1000
    assert found.voxels == whole.size
    if whole.size:
        assert found.max_mm == pytest.approx(whole.max(), rel=1e-12)
        assert (found.mean_mm, found.sd_mm) == pytest.approx((whole.mean(), whole.std()), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("planes", [1, 8, 30])
def test_thin_structures_in_boxes_of_every_axis(planes: int) -> None:
    """Balls are small here, so that boxes have halos that end within the volume."""
    phase = texture(5, (60, 66, 70), 0.25, 1.2)
    volume = ArrayVolume(phase.astype(np.uint8), CUBE)
    found = measure_local_thickness(volume, planes=planes, memory=80 * 60**3)
    whole = thickness_map(phase, CUBE)[phase] / 1000
    assert found.mean_mm == pytest.approx(whole.mean(), rel=1e-12)
    assert found.voxels == whole.size


def test_halo_grows_until_no_ball_is_cut() -> None:
    phase = np.zeros((90, 50, 50), bool)
    phase[8:82, 2:48, 2:48] = np.linalg.norm(np.moveaxis(np.indices((74, 46, 46)), 0, -1) - (36, 23, 23), axis=-1) < 22
    volume = ArrayVolume(phase.astype(np.uint8), CUBE)
    found = measure_local_thickness(volume, planes=10)
    whole = thickness_map(phase, CUBE)[phase] / 1000
    assert (found.mean_mm, found.max_mm) == pytest.approx((whole.mean(), whole.max()), rel=1e-12)


def test_is_resumed(tmp_path: Path) -> None:
    volume = ArrayVolume(texture(2, (12, 12, 12), 0.4).astype(np.uint8), CUBE)
    first = measure_local_thickness(volume, planes=5, record=SlabRecord(tmp_path / "r.json", {}))
    volume.values = volume.values * 0
    assert measure_local_thickness(volume, planes=5, record=SlabRecord(tmp_path / "r.json", {})) == first


def test_lhdl_against_bone_microarchitecture(lhdl: Path) -> None:
    """The library takes half a voxel from each radius, and leaves balls out that reach a face of the volume."""
    library = pytest.importorskip("bone_microarchitecture.thickness")
    bone = BoneSegmentation(open_volume(lhdl, voxel_size_um=19.5), threshold=63).read()[60:130, 60:130, 60:130] != 0
    ours = thickness_map(bone, (19.5,) * 3)
    theirs = library.hildebrand_thickness_map(bone, (0.0195,) * 3, backend="cpu") * 1000
    inner = bone & (theirs > 0)
    inner[:20] = inner[-20:] = inner[:, :20] = inner[:, -20:] = inner[:, :, :20] = inner[:, :, -20:] = False
    assert inner.sum() > 3000
    assert ours[inner].mean() - theirs[inner].mean() == pytest.approx(19.5, abs=5)


def test_memory_is_bounded(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", texture(0, (160, 160, 160), 0.3, 2).astype(np.uint8))
    code = (
        "import sys\nfrom bonemonai.analysis import measure_local_thickness\nfrom bonemonai.data import open_volume\n"
        "volume = open_volume(sys.argv[1], voxel_size_um=10)\n"
    )
    idle = peak_resident_mb(code, str(tmp_path / "a.tif"))
    assert peak_resident_mb(f"{code}measure_local_thickness(volume, memory=8e7)", str(tmp_path / "a.tif")) < idle + 100


def test_refusals() -> None:
    with pytest.raises(InputError, match="nothing ends it"):
        measure_local_thickness(ArrayVolume(np.ones((4, 4, 4), np.uint8), CUBE))
    with pytest.raises(InputError, match="does not state its voxel size"):
        measure_local_thickness(ArrayVolume(np.ones((4, 4, 4), np.uint8), None))
    ball = np.zeros((60, 60, 60), np.uint8)
    ball[2:-2, 2:-2, 2:-2] = 1
    with pytest.raises(InputError, match="more than memory holds; give more"):
        measure_local_thickness(ArrayVolume(ball, CUBE), memory=80 * 20_000)


def test_nothing_to_measure() -> None:
    found = measure_local_thickness(ArrayVolume(np.zeros((4, 4, 4), np.uint8), CUBE))
    assert found.voxels == 0
    assert np.isnan(found.mean_mm)
