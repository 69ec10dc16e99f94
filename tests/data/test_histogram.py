from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bonemonai.data import StreamingHistogram, open_volume, volume_histogram
from bonemonai.errors import InputError

finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(arrays(np.float32, st.integers(1, 40), elements=finite), min_size=1, max_size=6), st.floats(0, 100))
def test_percentile_is_numpys_to_one_bin(blocks: list[np.ndarray], percent: float) -> None:
    histogram = StreamingHistogram()
    for block in blocks:
        histogram.update(block)
    values = np.concatenate(blocks).astype(np.float64)
    assert (histogram.minimum, histogram.maximum) == (values.min(), values.max())
    assert histogram.total == values.size
    # between two values numpy interpolates, and may take either where it does not
    low, high = (np.percentile(values, percent, method=method) for method in ("lower", "higher"))
    tolerance = (values.max() - values.min()) / 16384 + 1e-6 * max(1, np.abs(values).max())
    # a rank on the edge of two values may fall to the neighbour
    step = 100 / values.size
    low = min(low, np.percentile(values, max(0, percent - step), method="lower"))
    assert low - tolerance <= histogram.percentile(percent) <= high + tolerance


def test_large_sample_agrees_with_numpy() -> None:
    values = np.random.default_rng(0).normal(5, 2, 1_000_000).astype(np.float32)
    histogram = StreamingHistogram()
    for block in np.array_split(values, 17):
        histogram.update(block)
    for percent in (1, 50, 99):
        expected = np.percentile(values, percent)
        assert histogram.percentile(percent) == pytest.approx(expected, abs=float(np.ptp(values)) / 16384)


def test_order_of_blocks_hardly_matters() -> None:
    blocks = [np.array([0.0, 1.0]), np.array([-1000.0, 3.0]), np.array([1e4])]
    medians = []
    for order in (blocks, blocks[::-1]):
        histogram = StreamingHistogram()
        for block in order:
            histogram.update(block)
        medians.append(histogram.percentile(50))
    assert medians[0] == pytest.approx(medians[1], abs=2e4 / 16384)


def test_non_finite_values_are_left_out_and_counted() -> None:
    histogram = StreamingHistogram()
    histogram.update(np.array([1.0, np.nan, np.inf, 2.0]))
    assert (histogram.non_finite, histogram.total, histogram.maximum) == (2, 2, 2.0)


def test_empty_and_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="empty"):
        StreamingHistogram().percentile(50)
    with pytest.raises(ValueError, match=r"within \[0, 100\], got 101"):
        StreamingHistogram().percentile(101)
    with pytest.raises(ValueError, match="even number"):
        StreamingHistogram(bins=3)


@pytest.mark.parametrize(("value", "cause"), [(np.nan, "2 values that are NaN"), (0.0, "a single grey value, 0.0")])
def test_useless_volumes_are_refused(tmp_path: Path, value: float, cause: str) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 1, :2] = value
    tifffile.imwrite(tmp_path / "scan.tif", array, photometric="minisblack")
    with pytest.raises(InputError, match=rf"scan.tif: holds {cause}"):
        volume_histogram(open_volume(tmp_path / "scan.tif"))
