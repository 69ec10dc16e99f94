from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.transforms import FitPlane, FitPlaned


@given(height=st.integers(1, 64), width=st.integers(1, 64))
def test_what_fits_comes_back_bit_for_bit(height: int, width: int) -> None:
    plane = torch.from_numpy(np.random.default_rng(0).normal(size=(1, height, width)).astype(np.float32))
    fit = FitPlane(64)
    assert fit(plane).shape == (1, 64, 64)
    assert torch.equal(fit.inverse(fit(plane), (height, width)), plane)


def test_margins_are_filled_and_the_slice_lies_in_the_middle() -> None:
    fitted = FitPlane(5, fill=-7)(torch.ones(1, 1, 3))
    assert fitted[0, 2].tolist() == [-7, 1, 1, 1, -7]
    assert fitted[0, [0, 1, 3, 4]].unique().tolist() == [-7]


def test_a_larger_slice_is_shrunk_and_its_mask_comes_back_nearly() -> None:
    rows, columns = np.mgrid[:200, :300]
    disc = torch.from_numpy((np.hypot(rows - 90, columns - 160) < 50)[None].astype(np.float32))
    fit = FitPlane(96, fill=0, mode="nearest")
    small = fit(disc)
    assert small.sum() * 3.125**2 == pytest.approx(float(disc.sum()), rel=0.02)
    back = fit.inverse(small, (200, 300))
    assert (2 * (back * disc).sum() / (back.sum() + disc.sum())) > 0.97
    # a ramp keeps its mean: shrinking is anti-aliased
    stripes = torch.from_numpy((columns % 2)[None].astype(np.float32))
    assert FitPlane(96, fill=0)(stripes)[0, 48].std() < 0.05


@pytest.mark.parametrize(("arguments", "words"), [((0,), "size"), ((4, "cubic"), "mode")])
def test_arguments_are_checked(arguments: tuple[int, str], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        FitPlane(arguments[0], mode=arguments[1] if len(arguments) > 1 else "bilinear")


def test_oblong_pixels_become_square() -> None:
    """A disc of 40 mm on pixels of 1 x 2 mm, as axial slices of a sagittal scan are."""
    rows, columns = np.mgrid[:100, :50]
    disc = torch.from_numpy((np.hypot(rows - 49.5, 2 * (columns - 24.5)) < 20)[None].astype(np.float32))
    fit = FitPlane(128, fill=0, mode="nearest")
    drawn = fit(disc, (1.0, 2.0))[0]
    assert drawn.any(0).sum() == pytest.approx(drawn.any(1).sum(), abs=2)
    assert drawn.sum() == pytest.approx(np.pi * 20**2, rel=0.02)
    assert torch.equal(fit.inverse(drawn[None], (100, 50), (1.0, 2.0)), disc)
    # half a percent is no reason to interpolate
    assert torch.equal(fit.inverse(fit(disc, (1.0, 1.005)), (100, 50), (1.0, 1.005)), disc)


def test_dictionary_version_takes_each_key_its_own_way() -> None:
    item = {"image": torch.full((1, 2, 2), 5.0), "mask": torch.ones(1, 2, 2), "spacing": (1.0, 1.0), "plane": 3}
    fitted = FitPlaned(["image", "mask"], 4, fill=[-1024, 0], mode=["bilinear", "nearest"])(item)
    assert fitted["image"][0, 0, 0] == -1024
    assert fitted["mask"].sum() == 4
    assert fitted["plane"] == 3
