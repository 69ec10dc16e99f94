from __future__ import annotations

import numpy as np
import pytest

from bonemonai.data.coarsened_mask import CoarsenedMask
from bonemonai.data.upsampled_volume import UpsampledVolume
from tests.data.test_upsampled_volume import Held


def test_half_a_coarse_voxel_marks_it() -> None:
    mask = np.zeros((4, 4, 6), np.uint8)
    mask[:2, :2, :2].flat[:4] = 255
    mask[:2, :2, 2:4].flat[:3] = 255
    mask[2:, 2:, 4:] = 1
    expected = np.zeros((2, 2, 3), np.uint8)
    expected[0, 0, 0] = expected[1, 1, 2] = 1
    coarse = CoarsenedMask(Held(mask), 2)
    np.testing.assert_array_equal(coarse.read(), expected)
    np.testing.assert_array_equal(coarse.read(1, 2), expected[1:])
    assert coarse.dtype == np.uint8


def test_it_lies_on_the_coarse_scans_voxels_and_cuts_what_fills_none() -> None:
    scan = Held(np.zeros((3, 5, 4), np.int16))
    back = CoarsenedMask(UpsampledVolume(scan, 3), 3)
    assert back.shape == scan.shape
    np.testing.assert_allclose(back.affine_lps, scan.affine_lps, atol=1e-12)
    assert CoarsenedMask(Held(np.zeros((5, 4, 7), np.uint8)), 2).shape == (2, 2, 3)
    assert CoarsenedMask(Held(np.zeros((4, 4, 4), np.uint8), None), 2).affine_lps is None
    with pytest.raises(ValueError, match="factor must be >= 2"):
        CoarsenedMask(scan, 1)
