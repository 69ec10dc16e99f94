from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor
from skimage.segmentation import find_boundaries

from bonemonai.errors import InputError
from bonemonai.transforms import (
    GaussianBoundaryHeatmap,
    GaussianBoundaryHeatmapd,
    boundary_heatmap,
    boundary_pixels,
)
from tests.contracts import TransformContract


def disk_mask(size: int = 40) -> np.ndarray:
    y, x = np.mgrid[:size, :size]
    return (y - size / 2) ** 2 + (x - size / 2 + 3) ** 2 < (size / 4) ** 2


def brute_force(edges: np.ndarray, sigma: float, spacing: tuple[float, ...] | None = None) -> np.ndarray:
    """The product over all edge pixels, nothing cut."""
    steps = np.ones(edges.ndim) if spacing is None else np.array(spacing)
    grid = np.moveaxis(np.indices(edges.shape), 0, -1) * steps
    rest = np.ones(edges.shape)
    for point in np.argwhere(edges) * steps:
        rest *= 1 - np.exp(-((grid - point) ** 2).sum(-1) / (2 * sigma**2))
    return 1 - rest


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5, 6.0])
@pytest.mark.parametrize("spacing", [None, (0.7, 1.4)])
def test_a_plane_is_the_product_over_its_edge_pixels(sigma: float, spacing: tuple[float, float] | None) -> None:
    edges = boundary_pixels(disk_mask())
    found = boundary_heatmap(edges, sigma, spacing=spacing)
    np.testing.assert_allclose(found, brute_force(edges, sigma, spacing), rtol=0, atol=1e-6)
    assert (found[edges] == 1).all()


@pytest.mark.parametrize(("sigma", "spacing"), [(1.0, None), (2.0, (2.0, 0.8, 1.1)), (3.0, None)])
def test_a_volume_is_too(sigma: float, spacing: tuple[float, float, float] | None) -> None:
    z, y, x = np.mgrid[:18, :24, :22]
    edges = boundary_pixels(((z - 9) / 5) ** 2 + ((y - 11) / 8) ** 2 + ((x - 10) / 6) ** 2 < 1)
    found = boundary_heatmap(edges, sigma, spacing=spacing)
    np.testing.assert_allclose(found, brute_force(edges, sigma, spacing), rtol=0, atol=1e-6)
    assert (found[edges] == 1).all()


@given(st.integers(0, 10_000), st.floats(0.2, 5))
@settings(max_examples=20)
def test_any_edges(seed: int, sigma: float) -> None:
    rng = np.random.default_rng(seed)
    edges = rng.random(rng.integers(1, 20, 2)) < 0.15
    np.testing.assert_allclose(boundary_heatmap(edges, sigma), brute_force(edges, sigma), rtol=0, atol=1e-6)


def test_bounds_of_the_cut_that_the_docstring_gives() -> None:
    """A long straight edge, the worst in 2-D, and a wide plane, the worst in 3-D."""
    line = np.zeros((400, 401), bool)
    line[0] = True
    found = boundary_heatmap(line, 25.0)[:, 200]
    beyond = np.arange(400)[:, None] ** 2 + (np.arange(401) - 200) ** 2
    wanted = -np.expm1(np.log1p(-np.minimum(np.exp(-beyond / (2 * 25.0**2)), 1 - 1e-16)).sum(1))
    assert np.abs(found - wanted)[1:].max() < 1e-6
    plane = np.zeros((24, 45, 45), bool)
    plane[0] = True
    y, x = np.mgrid[-22:23, -22:23]
    for truncate, most in ((6.0, 1e-6), (7.0, 1e-7)):
        column = boundary_heatmap(plane, 3.0, truncate=truncate)[:, 22, 22]
        gauss = np.exp(-(np.arange(1, 24)[:, None, None] ** 2 + y**2 + x**2) / 18.0)
        assert np.abs(column[1:] + np.expm1(np.log1p(-gauss).sum((1, 2)))).max() < most


def test_exactly_zero_far_away_and_for_an_empty_mask() -> None:
    mask = np.zeros((1, 90, 90))
    mask[0, 5:10, 5:12] = 1
    heat = GaussianBoundaryHeatmap(1.5)(mask)
    assert (heat[0, 20:, :] == 0).all()
    assert (heat[0, :, 22:] == 0).all()
    assert heat[0, 18, 8] > 0
    assert (GaussianBoundaryHeatmap(1.5)(np.zeros((2, 9, 9))) == 0).all()
    assert (GaussianBoundaryHeatmap(1.5)(np.zeros((1, 5, 9, 9))) == 0).all()


def test_inner_boundary_is_scikit_images() -> None:
    rng = np.random.default_rng(1)
    for shape in ((30, 25), (9, 12, 11)):
        mask = rng.random(shape) < 0.7
        np.testing.assert_array_equal(boundary_pixels(mask), find_boundaries(mask, mode="inner"))


def test_canny_is_a_pixel_from_the_inner_boundary_and_on_both_sides() -> None:
    mask = disk_mask(128)
    inner, canny = boundary_pixels(mask), boundary_pixels(mask, "canny")
    outer = boundary_pixels(~mask)
    assert not (canny & ~inner & ~outer).any()
    assert (canny & outer).sum() > 0.3 * canny.sum()
    assert 1.2 < canny.sum() / inner.sum() < 1.6


def test_where_the_image_cuts_the_mask_there_is_no_boundary() -> None:
    mask = np.zeros((12, 12), bool)
    mask[:, :6] = True
    assert np.argwhere(boundary_pixels(mask).any(0)).tolist() == [[5]]
    assert not boundary_pixels(np.ones((4, 4), bool)).any()


def test_millimetres() -> None:
    mask = disk_mask()[None].astype(np.uint8)
    draw = GaussianBoundaryHeatmap(2.0, "mm")
    np.testing.assert_array_equal(draw(mask, (0.5, 0.5)), GaussianBoundaryHeatmap(4.0)(mask))
    volume = np.zeros((1, 9, 12, 12), np.float32)
    volume[0, 3:6, 3:8, 3:8] = 1
    affine = torch.diag(torch.tensor([2.0, 0.5, 0.7, 1.0], dtype=torch.float64))
    own = draw(MetaTensor(volume, affine=affine))
    np.testing.assert_array_equal(own, draw(volume, (2.0, 0.5, 0.7)))
    np.testing.assert_allclose(
        own[0], brute_force(boundary_pixels(volume[0] > 0), 2.0, (2.0, 0.5, 0.7)), rtol=0, atol=1e-6
    )
    with pytest.raises(InputError, match="mask: has no spacing"):
        draw(mask)
    with pytest.raises(InputError, match="mask: has no spacing"):
        draw(MetaTensor(mask, affine=affine))  # of which two axes the plane has is not said


def test_channels_are_apart_and_types_are_kept() -> None:
    two = np.stack([disk_mask(), ~disk_mask()]).astype(np.float64)
    heat = GaussianBoundaryHeatmap(1.0)(two)
    assert heat.dtype == np.float32
    for channel, mask in zip(heat, two, strict=True):
        np.testing.assert_array_equal(channel, GaussianBoundaryHeatmap(1.0)(255 * mask[None])[0])
    tensor = GaussianBoundaryHeatmap(1.0)(torch.from_numpy(two))
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor, heat)


def test_a_crop_of_the_paper_takes_milliseconds() -> None:
    mask = disk_mask(224)[None]
    start = time.process_time()
    GaussianBoundaryHeatmap(4.0)(mask)
    assert time.process_time() - start < 1.0


def test_the_dictionary_keeps_the_mask() -> None:
    mask = torch.from_numpy(disk_mask()[None])
    item = GaussianBoundaryHeatmapd("mask", 2.0, "mm", heatmap_key="edge")({"mask": mask, "spacing": (0.5, 1.0)})
    assert item["mask"] is mask
    np.testing.assert_array_equal(item["edge"][0], boundary_heatmap(boundary_pixels(disk_mask()), 2, spacing=(0.5, 1)))
    with pytest.raises(ValueError, match="keys must name one mask"):
        GaussianBoundaryHeatmapd(["a", "b"], 2.0)


def test_refusals() -> None:
    with pytest.raises(InputError, match=r"mask: holds 0\.25 to 1\.0 beside 0"):
        GaussianBoundaryHeatmap(1.0)(np.array([[[0, 0.25, 1.0]]]))
    with pytest.raises(InputError, match="mask: holds nan"):
        GaussianBoundaryHeatmap(1.0)(np.array([[[0, np.nan]]]))
    with pytest.raises(ValueError, match="channel first with 2 or 3 spatial axes"):
        GaussianBoundaryHeatmap(1.0)(np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"sigma \(mm\) and truncate must be > 0, got 0"):
        GaussianBoundaryHeatmap(0, "mm")
    with pytest.raises(ValueError, match="units must be pixels or mm"):
        GaussianBoundaryHeatmap(1, "cm")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edges must be inner or canny"):
        GaussianBoundaryHeatmap(1, edges="outer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edges must be inner or canny"):
        boundary_pixels(np.zeros((2, 2), bool), "outer")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="edges must be inner for 3-D"):
        boundary_pixels(np.zeros((2, 2, 2), bool), "canny")
    with pytest.raises(ValueError, match=r"mask must be \(H, W\) or"):
        boundary_pixels(np.zeros(2, bool))
    with pytest.raises(ValueError, match="spacing must be 2 numbers > 0"):
        boundary_heatmap(np.ones((2, 2), bool), 1.0, spacing=(1.0, 0.0))
    with pytest.raises(ValueError, match="sigma and truncate must be > 0"):
        boundary_heatmap(np.ones((2, 2), bool), -1.0)


class TestGaussianBoundaryHeatmapd(TransformContract):
    keys = ("boundary",)

    def make(self) -> Any:
        return GaussianBoundaryHeatmapd("image", 1.0)

    def item(self) -> dict[str, Any]:
        item = super().item()
        item["image"] = (item["image"] > 100).float()
        return item
