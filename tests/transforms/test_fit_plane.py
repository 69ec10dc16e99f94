from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.transforms import FitPlane, FitPlaned, mask_boxes


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


def test_pixels_of_one_size_whatever_the_scans() -> None:
    """A disc of 40 mm on pixels of 1 mm, of 2 mm, and of 1 x 2 mm is as large to the network."""
    fit = FitPlane(64, fill=0, mode="nearest", pixel_mm=1.5)
    for row, column in ((1.0, 1.0), (2.0, 2.0), (1.0, 2.0)):
        shape = round(80 / row), round(80 / column)
        rows, columns = np.mgrid[: shape[0], : shape[1]]
        distance = np.hypot(row * (rows - shape[0] / 2 + 0.5), column * (columns - shape[1] / 2 + 0.5))
        disc = torch.from_numpy((distance < 20)[None].astype(np.float32))
        drawn = fit(disc, (row, column))
        assert drawn.sum() * 1.5**2 == pytest.approx(np.pi * 20**2, rel=0.03)
        back = fit.inverse(drawn, shape, (row, column))
        assert (2 * (back * disc).sum() / (back.sum() + disc.sum())) > 0.95


def test_what_reaches_beyond_the_square_is_cut_off_and_comes_back_as_nothing() -> None:
    fit = FitPlane(8, pixel_mm=1.0)
    plane = torch.arange(12.0).repeat(4, 1)[None] + 1
    drawn = fit(plane, (1.0, 1.0))
    assert drawn[0, 3].tolist() == [3, 4, 5, 6, 7, 8, 9, 10]
    back = fit.inverse(drawn, (4, 12), (1.0, 1.0))
    assert back[0, 0].tolist() == [0, 0, 3, 4, 5, 6, 7, 8, 9, 10, 0, 0]


@pytest.mark.parametrize(
    ("fit", "shape", "spacing"),
    [
        (FitPlane(64), (40, 50), (1.0, 1.0)),
        (FitPlane(64), (200, 300), (0.8, 0.8)),
        (FitPlane(64), (40, 20), (1.0, 2.0)),
        (FitPlane(64, pixel_mm=1.5), (200, 80), (1.0, 2.0)),
    ],
)
def test_boxes_come_back_to_their_pixels(fit: FitPlane, shape: tuple[int, int], spacing: tuple[float, float]) -> None:
    """A bright rectangle's box in the square, brought back, is the rectangle."""
    rows, columns = slice(shape[0] * 4 // 10, shape[0] * 6 // 10), slice(shape[1] * 4 // 10, shape[1] * 6 // 10)
    plane = torch.zeros(1, *shape)
    plane[:, rows, columns] = 1
    mask = FitPlane(fit.size, fill=0, mode="nearest", pixel_mm=fit.pixel_mm)(plane, spacing)
    found = fit.inverse_boxes(mask_boxes(mask), shape, spacing)[0].tolist()
    step = max(1.0, max(shape) / 64, 1.5 / min(spacing))
    assert found == pytest.approx([columns.start, rows.start, columns.stop, rows.stop], abs=step)


def test_pixel_size_needs_the_spacing() -> None:
    with pytest.raises(ValueError, match="spacing must be given"):
        FitPlane(8, pixel_mm=1.0)(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="pixel_mm must be > 0"):
        FitPlane(8, pixel_mm=0.0)
    item = {"image": torch.zeros(1, 4, 4), "spacing": (2.0, 2.0)}
    assert FitPlaned("image", 8, fill=1, pixel_mm=1.0)(item)["image"].sum() == 0
