from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.distance import cdist

from bonemonai.analysis import slice_boundary_distances, summarise_boundary_distances
from bonemonai.errors import InputError


def blob(seed: int, size: tuple[int, int] = (24, 20)) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), 2.5)
    return noise > noise.std() * 0.6


def border(mask: np.ndarray, spacing: tuple[float, float]) -> np.ndarray:
    """Pixels that have a neighbour outside; what leaves the image ends there."""
    return np.argwhere(mask & ~ndimage.binary_erosion(mask)) * spacing


@given(st.integers(0, 10_000), st.floats(0.3, 2), st.floats(0.3, 2))
@settings(max_examples=20)
def test_distances_are_those_of_all_pairs_of_border_pixels(seed: int, row: float, column: float) -> None:
    one, other = blob(seed), blob(seed + 1)
    table = slice_boundary_distances("p", [one], [other], spacing_mm=(row, column), first_plane=3)
    if not one.any() or not other.any():
        return
    pairs = cdist(border(one, (row, column)), border(other, (row, column)))
    ways = pairs.min(0), pairs.min(1)
    found = table.iloc[0]
    assert found["plane"] == 3
    assert found["hd95_mm"] == pytest.approx(max(np.percentile(way, 95) for way in ways), rel=1e-4)
    assert found["mean_surface_distance_mm"] == pytest.approx(np.concatenate(ways).mean(), rel=1e-4)


def test_millimetres_by_hand() -> None:
    one, other = np.zeros((2, 30, 30), bool)
    one[5:15, 5:15] = True
    other[5:15, 8:18] = True
    wide = slice_boundary_distances("p", [one], [other], spacing_mm=(0.5, 2.0)).iloc[0]
    narrow = slice_boundary_distances("p", [one], [other], spacing_mm=(0.5, 0.1)).iloc[0]
    assert narrow["hd95_mm"] == pytest.approx(0.3)  # three columns
    assert 2.0 < wide["hd95_mm"] <= 6.0
    same = slice_boundary_distances("p", [one], [one], spacing_mm=(1, 1)).iloc[0]
    assert (same["hd95_mm"], same["mean_surface_distance_mm"]) == (0, 0)


def test_empty_masks_are_no_number_and_are_counted() -> None:
    full, none = np.ones((4, 4), bool), np.zeros((4, 4), bool)
    truth, predicted = [full, full, none, none, full], [full, none, full, none, none]
    table = slice_boundary_distances("p", truth, predicted, spacing_mm=(1, 1))
    assert table["empty"].tolist() == ["", "prediction", "truth", "both", "prediction"]
    assert table["hd95_mm"].isna().tolist() == [False, True, True, True, True]
    summary = summarise_boundary_distances(table)
    assert summary["metric"].tolist() == ["hd95_mm", "mean_surface_distance_mm"]
    assert summary[["slices", "empty_truth", "empty_prediction", "empty_both"]].iloc[0].tolist() == [1, 1, 2, 1]
    assert summary["mean_mm"].tolist() == [0, 0]
    assert math.isnan(summary["sd_mm"].iloc[0])
    none_left = summarise_boundary_distances(table[1:])
    assert none_left["mean_mm"].isna().all()
    assert none_left["slices"].tolist() == [0, 0]


def test_summary_is_over_slices() -> None:
    tables = [slice_boundary_distances(f"p{s}", [blob(s)], [blob(s + 50)], spacing_mm=(1, 1)) for s in range(8)]
    table = pd.concat(tables)
    summary = summarise_boundary_distances(table).set_index("metric").loc["hd95_mm"]
    assert summary["mean_mm"] == pytest.approx(table["hd95_mm"].mean())
    assert summary["sd_mm"] == pytest.approx(table["hd95_mm"].std())
    assert summary["median_mm"] == pytest.approx(table["hd95_mm"].median())


def test_planes_may_stream_and_none_is_none() -> None:
    planes = [blob(1), blob(2)]
    streamed = slice_boundary_distances("p", iter(planes), iter(planes[::-1]), spacing_mm=(1, 1))
    pd.testing.assert_frame_equal(streamed, slice_boundary_distances("p", planes, planes[::-1], spacing_mm=(1, 1)))
    assert slice_boundary_distances("p", [], [], spacing_mm=(1, 1)).empty


def test_refusals() -> None:
    mask = np.ones((3, 3), bool)
    with pytest.raises(ValueError, match=r"spacing_mm must be two numbers > 0"):
        slice_boundary_distances("p", [mask], [mask], spacing_mm=(1, 0))
    with pytest.raises(InputError, match="p: has more planes of truth than the 1"):
        slice_boundary_distances("p", [mask, mask], [mask], spacing_mm=(1, 1))
    with pytest.raises(InputError, match="p: has 1 planes of truth, but more"):
        slice_boundary_distances("p", [mask], [mask, mask], spacing_mm=(1, 1))
    with pytest.raises(InputError, match="p: has a prediction of uint8"):
        slice_boundary_distances("p", [mask], [mask.astype(np.uint8)], spacing_mm=(1, 1))
    with pytest.raises(InputError, match=r"truth of \(3, 3\) and a prediction of \(2, 2\)"):
        slice_boundary_distances("p", [mask], [mask[:2, :2]], spacing_mm=(1, 1))
    with pytest.raises(InputError, match="slices: need a row or more, and the columns empty"):
        summarise_boundary_distances(pd.DataFrame({"hd95_mm": [1.0], "mean_surface_distance_mm": [1.0]}))
