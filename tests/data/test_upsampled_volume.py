from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from bonemonai.data.upsampled_volume import UpsampledVolume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume


class Held(ArrayVolume):
    """A calibrated scan that is in memory."""

    def __init__(self, values: np.ndarray, voxel_size_mm: float | None = 0.02) -> None:
        super().__init__(values, None if voxel_size_mm is None else [1000 * voxel_size_mm] * 3)
        self.units = "mg HA/cm3"


@given(planes=st.integers(1, 6), rows=st.integers(1, 9), factor=st.integers(2, 4), seed=st.integers(0, 99))
def test_equals_pytorchs_whatever_is_read_at_once(planes: int, rows: int, factor: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 300, (planes, rows, 7)).astype(np.float32)
    fine = UpsampledVolume(Held(values), factor)
    mode = {"scale_factor": factor, "mode": "trilinear", "align_corners": False}
    expected = F.interpolate(torch.from_numpy(values)[None, None], **mode)[0, 0].numpy()
    assert fine.shape == expected.shape
    np.testing.assert_allclose(fine.read(), expected, rtol=0, atol=2e-3)
    cut = sorted(rng.integers(0, fine.shape[0] + 1, 2))
    if cut[0] < cut[1]:
        np.testing.assert_array_equal(fine.read(*cut), fine.read()[cut[0] : cut[1]])


@given(planes=st.integers(1, 7), factor=st.integers(2, 3), seed=st.integers(0, 99))
def test_cubic_is_pytorchs_along_each_axis(planes: int, factor: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 300, (planes, 5, 7)).astype(np.float32)
    fine = UpsampledVolume(Held(values), factor, kind="cubic")
    size, mode = fine.shape, {"mode": "bicubic", "align_corners": False}
    flat = F.interpolate(torch.from_numpy(values)[:, None], size=size[1:], **mode)[:, 0]  # each plane
    across = flat.permute(1, 0, 2)[:, None]  # then each section along the planes
    expected = F.interpolate(across, size=(size[0], size[2]), **mode)[:, 0].permute(1, 0, 2).numpy()
    np.testing.assert_allclose(fine.read(), expected, rtol=0, atol=5e-3)
    np.testing.assert_array_equal(fine.read(1, 2), fine.read()[1:2])


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind must be linear or cubic, got 'spline'"):
        UpsampledVolume(Held(np.zeros((2, 2, 2), dtype=np.int16)), kind="spline")  # type: ignore[arg-type]


def test_voxels_fill_the_same_space() -> None:
    coarse = Held(np.zeros((4, 5, 6), dtype=np.int16))
    fine = UpsampledVolume(coarse)
    assert fine.voxel_size_um == pytest.approx((10, 10, 10))
    assert fine.units == "mg HA/cm3"
    assert fine.dtype == np.float32
    # the outer corners of both grids are one point
    for corner, other in (((-0.5, -0.5, -0.5), (-0.5, -0.5, -0.5)), ((3.5, 4.5, 5.5), (7.5, 9.5, 11.5))):
        point, same = (volume.affine_lps @ [*at, 1] for volume, at in ((coarse, corner), (fine, other)))
        np.testing.assert_allclose(point, same, atol=1e-12)
    assert UpsampledVolume(Held(np.zeros((2, 2, 2), dtype=np.int16), None)).affine_lps is None


def test_a_mean_is_kept_and_a_ramp_stays_one() -> None:
    ramp = np.broadcast_to(np.arange(8, dtype=np.float32), (3, 4, 8))
    fine = UpsampledVolume(Held(np.ascontiguousarray(ramp))).read()
    np.testing.assert_allclose(np.diff(fine[0, 0, 1:-1]), 0.5, atol=1e-6)
    assert fine.mean() == pytest.approx(ramp.mean())
    with pytest.raises(ValueError, match="factor must be >= 2"):
        UpsampledVolume(Held(np.zeros((2, 2, 2), dtype=np.int16)), 1)


def test_a_scan_of_another_voxel_size_is_refused() -> None:
    values = np.zeros((2, 2, 2), dtype=np.int16)
    assert UpsampledVolume(Held(values, 0.0205), expects_voxel_size_um=(20, 20, 20)).shape == (4, 4, 4)
    with pytest.raises(InputError, match=r"has voxels of 10 x 10 x 10 um; this was made for 20 x 20 x 20 um"):
        UpsampledVolume(Held(values, 0.01), expects_voxel_size_um=(20, 20, 20))
    with pytest.raises(InputError, match="has no voxel size that is stated"):
        UpsampledVolume(Held(values, None), expects_voxel_size_um=(20, 20, 20))
