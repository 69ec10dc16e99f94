from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.analysis import measure_local_thickness
from bonemonai.analysis.between_bone import BetweenBone
from bonemonai.analysis.mid_axes import MidAxes
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks

SIZE = (10.0, 10.0, 10.0)


def texture(seed: int) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 42, 44)), 2)
    return (field > 0).astype(np.uint8)


@pytest.mark.parametrize("size", [SIZE, (20.0, 10.0, 15.0)])
def test_in_memory_it_is_the_rule(size: tuple[float, float, float]) -> None:
    bone = texture(0)
    depth = ndimage.distance_transform_edt(bone, sampling=size)
    highest = ndimage.maximum_filter(depth, size=3, mode="constant")
    expected = (bone > 0) & (highest < depth + 5)
    np.testing.assert_array_equal(MidAxes(ArrayVolume(bone, size)).read(), expected)


@pytest.mark.parametrize("planes", [1, 7, 40])
def test_blocks_and_tiles_give_the_same(planes: int) -> None:
    volume = ArrayVolume(texture(1), SIZE)
    whole = MidAxes(volume).read()
    with (
        mock.patch("bonemonai.analysis.mid_axes._TILE", 15),
        mock.patch("bonemonai.analysis.mid_axes._FIRST_HALO", 1),
    ):
        np.testing.assert_array_equal(in_blocks(MidAxes(volume), planes), whole)


def test_plates_have_their_distance_as_trabecular_number() -> None:
    bone = np.zeros((64, 20, 20), np.uint8)
    for start in range(2, 64, 12):
        bone[start : start + 3] = 1
    axes = MidAxes(ArrayVolume(bone, SIZE))
    assert np.flatnonzero(axes.read()[:, 10, 10]).tolist() == [3, 15, 27, 39, 51, 63]
    tissue = np.zeros_like(bone)
    tissue[3:] = 1
    between = measure_local_thickness(BetweenBone(axes), ArrayVolume(tissue, SIZE))
    assert 1 / between.mean_mm == pytest.approx(1 / 0.12, rel=0.03)


def test_library_keeps_the_same_voxels() -> None:
    library = pytest.importorskip("bone_microarchitecture.thickness")
    bone = texture(2)
    bone[[0, -1]] = bone[:, [0, -1]] = bone[:, :, [0, -1]] = 0  # the library ends bone at the faces
    depth = library._phase_distance(bone > 0, (10.0,) * 3)
    np.testing.assert_array_equal(MidAxes(ArrayVolume(bone, SIZE)).read(), library._medial_axis(depth, 5.0))


def test_refusals() -> None:
    with pytest.raises(InputError, match="does not state its voxel size"):
        MidAxes(ArrayVolume(np.ones((3, 3, 3), np.uint8), None))
    with pytest.raises(InputError, match="is bone throughout"):
        MidAxes(ArrayVolume(np.ones((3, 3, 3), np.uint8))).read()
    # a block of bone whose middle is 20 voxels deep
    thick = np.zeros((44, 60, 60), np.uint8)
    thick[2:42, 8:52, 8:52] = 1
    with pytest.raises(InputError, match=r"bone so thick that .* more than memory holds"):
        MidAxes(ArrayVolume(thick, SIZE), memory=1e6).read()


@pytest.mark.parametrize("memory", [2e6, 3e6])
def test_little_memory_gives_the_same(memory: float) -> None:
    volume = ArrayVolume(texture(3), SIZE)
    sizes: list[int] = []
    original = MidAxes._depth

    def depth(self: MidAxes, wide: Any, box: Any) -> Any:
        sizes.append(int(np.prod([side.stop - side.start for side in box])))
        return original(self, wide, box)

    with mock.patch("bonemonai.analysis.mid_axes._FIRST_HALO", 2), mock.patch.object(MidAxes, "_depth", depth):
        small = MidAxes(volume, memory=memory).read()
    np.testing.assert_array_equal(small, MidAxes(volume).read())
    assert len(sizes) > 1
    assert max(sizes) * 48 <= memory
