from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.errors import InputError
from bonemonai.transforms import SampleBonePatches, SampleBonePatchesd, bone_patch_corners
from tests.contracts import TransformContract


@given(st.integers(55, 240), st.integers(55, 240), st.integers(20, 80))
def test_count_on_solid_bone_is_the_formula(height: int, width: int, stride: int) -> None:
    corners = bone_patch_corners(np.ones((height, width)), stride=stride)
    assert len(corners) == ((width - 55) // stride + 1) * ((height - 55) // stride + 1)


@given(st.integers(0, 999), st.floats(0.2, 1))
def test_agrees_with_counting_by_hand(seed: int, fraction: float) -> None:
    rng = np.random.default_rng(seed)
    mask = np.kron(rng.random((6, 5)) < 0.7, np.ones((9, 9)))
    expected = [
        (row, column)
        for row in range(0, 54 - 12 + 1, 7)
        for column in range(0, 45 - 12 + 1, 7)
        if mask[row : row + 12, column : column + 12].mean() >= fraction
    ]
    found = bone_patch_corners(mask, patch_size=12, stride=7, bone_fraction=fraction)
    if expected:
        assert found == expected
    else:
        shares = [mask[r : r + 12, c : c + 12].mean() for r in range(0, 43, 7) for c in range(0, 34, 7)]
        assert len(found) == 1
        row, column = found[0]
        assert mask[row : row + 12, column : column + 12].mean() == max(shares)


def test_a_plane_without_bone_gives_one_patch() -> None:
    assert bone_patch_corners(np.zeros((110, 110))) == [(0, 0)]


def test_fraction_is_99_percent_of_a_patch() -> None:
    mask = np.ones((55, 110))
    mask[0, :30] = 0  # 30 of 3025 pixels: 0.8 %
    mask[0, 55:86] = 0  # 31 pixels: 1.02 %
    assert bone_patch_corners(mask) == [(0, 0)]


def test_patches_are_copies_of_the_plane() -> None:
    image = torch.arange(110.0 * 60).reshape(1, 110, 60)
    patches = SampleBonePatches()(image, torch.ones(1, 110, 60))
    assert [patch.shape for patch in patches] == [(1, 55, 55)] * 2
    assert torch.equal(patches[1], image[:, 55:110, :55])
    patches[0].zero_()
    assert image[0, 0, 1] == 1


def test_dictionary_cuts_all_keys_alike_and_keeps_the_rest() -> None:
    mask = np.zeros((1, 110, 110), np.uint8)
    mask[:, 55:, 55:] = 1
    item = {"image": np.random.default_rng(0).random((1, 110, 110)), "mask": mask, "plane": 7}
    (patch,) = SampleBonePatchesd(["image", "mask"])(item)
    np.testing.assert_array_equal(patch["image"], item["image"][:, 55:, 55:])
    assert patch["mask"].all()
    assert patch["plane"] == 7


def test_number_takes_patches_evenly_and_says_where_they_were() -> None:
    item = {"image": np.arange(60 * 50).reshape(1, 60, 50), "mask": np.ones((1, 60, 50))}
    cut = {"patch_size": 10, "stride": 10, "bone_fraction": 1.0}
    patches = SampleBonePatchesd(["image"], number=7, **cut)(item)
    places = [(patch["patch_row"], patch["patch_column"]) for patch in patches]
    everywhere = [(patch["patch_row"], patch["patch_column"]) for patch in SampleBonePatchesd(["image"], **cut)(item)]
    assert len(everywhere) == 30
    assert places == [everywhere[index * 30 // 7] for index in range(7)]
    for patch, (row, column) in zip(patches, places, strict=True):
        np.testing.assert_array_equal(patch["image"], item["image"][:, row : row + 10, column : column + 10])
    assert len(SampleBonePatchesd(["image"], number=31, **cut)(item)) == 30
    with pytest.raises(ValueError, match="number must be >= 1"):
        SampleBonePatchesd(["image"], number=0)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"\(54, 60\) pixels is smaller than patch_size 55"):
        bone_patch_corners(np.ones((54, 60)))
    with pytest.raises(ValueError, match=r"bone_fraction must be within \[0, 1\], got 2"):
        SampleBonePatches(bone_fraction=2)
    with pytest.raises(ValueError, match="must be >= 1"):
        SampleBonePatches(stride=0)


class TestSampleBonePatchesd(TransformContract):
    keeps_shape = False

    def make(self) -> Any:
        return SampleBonePatchesd(["image", "mask"], patch_size=16, stride=16, bone_fraction=0.5)

    def item(self) -> dict[str, Any]:
        return {**super().item(), "mask": torch.ones(1, 64, 80)}
