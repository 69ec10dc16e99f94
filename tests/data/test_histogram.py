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


finite_blocks = arrays(
    np.float32, st.integers(1, 9), elements=st.integers(-(10**5), 10**5).map(lambda n: np.float32(n * 0.1))
)


@given(st.lists(finite_blocks, min_size=1, max_size=8), st.sampled_from([2, 100, 1024, 2**16]))
def test_values_are_found_in_the_bin_they_were_counted_in(blocks: list[np.ndarray], bins: int) -> None:
    histogram = StreamingHistogram(bins)
    for block in blocks:
        histogram.update(block)
    found = histogram.bin_of(np.concatenate(blocks))
    np.testing.assert_array_equal(np.bincount(found, minlength=bins), histogram.counts)


def test_lowest_of_the_first_block_stays_in_its_bin_when_the_range_grows_below_it() -> None:
    histogram = StreamingHistogram(2**22)
    for block in ([0.0, 0.0, 0.1], [-0.1], [0.0, 0.0], [-7.0], [0.0]):
        histogram.update(np.array(block, np.float32))
    assert histogram.counts[histogram.bin_of(np.zeros(1, np.float32))].tolist() == [5]


def test_integers_that_have_bins_of_their_own() -> None:
    histogram = StreamingHistogram()
    histogram.update(np.array([-1000, 3000], np.int16))
    assert histogram.integral
    assert np.rint(histogram.centers[histogram.bin_of(np.array([-1000, 3000]))]).tolist() == [-1000, 3000]
    histogram.update(np.array([32767], np.int16))
    assert not histogram.integral  # 65,536 bins are too few
    for values in (np.array([1.0, 2.0]), np.array([0, 65536])):
        other = StreamingHistogram()
        other.update(values)
        assert not other.integral
    mixed = StreamingHistogram()
    mixed.update(np.array([1, 2], np.uint8))
    mixed.update(np.array([1.0], np.float32))
    assert not mixed.integral


def test_stored_histogram_is_the_same(tmp_path: Path) -> None:
    for values in ([np.array([5, 9], np.uint8)], [np.array([0.3, 0.7]), np.array([-4.0, np.nan]), np.array([99.0])]):
        histogram = StreamingHistogram(128)
        for block in values:
            histogram.update(block)
        histogram.save(tmp_path / "h.npz", scan="a")
        again = StreamingHistogram.load(tmp_path / "h.npz", scan="a")
        assert again is not None
        assert StreamingHistogram.load(tmp_path / "h.npz", scan="b") is None
        for name in ("minimum", "maximum", "total", "non_finite", "integral"):
            assert getattr(again, name) == getattr(histogram, name)
        np.testing.assert_array_equal(again.centers, histogram.centers)
        for one in (again, histogram):
            one.update(np.array([-1000.0, 3.0]))
        np.testing.assert_array_equal(again.counts, histogram.counts)
        assert again.percentile(40) == histogram.percentile(40)


def test_a_file_of_an_earlier_version_is_no_histogram(tmp_path: Path) -> None:
    np.savez(tmp_path / "h.npz", counts=np.ones(4, np.int64), ends=np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    assert StreamingHistogram.load(tmp_path / "h.npz") is None


def test_bins_of_a_volume(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-500, 9000, (4, 5, 6)).astype(np.int16)
    tifffile.imwrite(tmp_path / "scan.tif", values, photometric="minisblack")
    histogram = volume_histogram(open_volume(tmp_path / "scan.tif"), bins=2**17, memory=1.0)
    assert (histogram.counts.size, histogram.total, histogram.integral) == (2**17, 120, True)


def test_values_too_far_apart_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "scan.tif", np.array([[[-1.7e308, 1.7e308]]]), photometric="minisblack")
    with pytest.raises(InputError, match=r"scan\.tif: has no histogram: values from"):
        volume_histogram(open_volume(tmp_path / "scan.tif"))


@pytest.mark.parametrize(("value", "cause"), [(np.nan, "2 values that are NaN"), (0.0, "a single grey value, 0.0")])
def test_useless_volumes_are_refused(tmp_path: Path, value: float, cause: str) -> None:
    array = np.zeros((3, 4, 5), np.float32)
    array[1, 1, :2] = value
    tifffile.imwrite(tmp_path / "scan.tif", array, photometric="minisblack")
    with pytest.raises(InputError, match=rf"scan.tif: holds {cause}"):
        volume_histogram(open_volume(tmp_path / "scan.tif"))
