from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from skimage.exposure import match_histograms

from bonemonai.data.matched_volume import MatchedVolume, fine_histogram
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks

RNG = np.random.default_rng(0)


def matched(source: NDArray[Any], reference: NDArray[Any], *, counted_by: int = 1000) -> MatchedVolume:
    """Grey values are counted a few planes at a time, as those of large scans are."""
    base = ArrayVolume(source)
    memory = counted_by * source[0].nbytes
    return MatchedVolume(base, fine_histogram(base, memory=memory), fine_histogram(ArrayVolume(reference)))


def errors(source: NDArray[Any], reference: NDArray[Any], **options: Any) -> NDArray[np.float64]:
    """Distances from scikit-image's result, as shares of the reference's range; float32's last digit is given."""
    result = matched(source, reference, **options).read()
    assert result.dtype == np.float32
    expected = match_histograms(source, reference).astype(np.float64)
    distance = np.maximum(np.abs(result - expected) - np.spacing(np.abs(expected).astype(np.float32)), 0)
    return distance / (float(reference.max()) - float(reference.min()))


def integers(dtype: str, low: int, high: int, shape: tuple[int, ...] = (6, 20, 24)) -> NDArray[Any]:
    return RNG.integers(low, high, shape, endpoint=True).astype(dtype)


@pytest.mark.parametrize(
    ("source", "reference"),
    [
        (integers("uint8", 0, 255), integers("uint8", 30, 90)),
        (integers("uint16", 0, 65535), integers("uint16", 100, 2000)),
        (integers("int16", -1000, 3000), integers("int16", -32768, 32767)),
        # far from 0, a narrow range: bins are counted off from there, with no digit to lose
        (integers("uint16", 60000, 60007), integers("uint16", 65530, 65535)),
        (integers("int32", 10**9, 10**9 + 40), integers("int32", -(10**5), 5 - 10**5)),
        (integers("uint8", 0, 1), integers("uint8", 3, 200)),
        (integers("uint8", 3, 200), integers("uint8", 0, 1)),
        (integers("int16", -5, 5), integers("uint8", 100, 110)),
    ],
    ids=lambda values: f"{values.dtype}-{values.min()}-{values.max()}",
)
def test_integers_get_exactly_what_scikit_image_gives(source: NDArray[Any], reference: NDArray[Any]) -> None:
    for planes in (1, 100):
        assert errors(source, reference, counted_by=planes).max() <= 1e-6


def test_integers_in_unequal_planes() -> None:
    # each plane lies outside those before it, on either side: the range is doubled again and again
    centres = np.array([0, 300, -300, 5000, -9000, 32000, -32000])[:, None, None]
    source = (centres + RNG.integers(0, 9, (7, 10, 10))).astype(np.int16)
    assert errors(source, integers("int16", 0, 500), counted_by=1).max() <= 1e-6


def normal(shape: tuple[int, ...] = (8, 40, 40), mean: float = 0.0, sd: float = 1.0) -> NDArray[np.float32]:
    return RNG.normal(mean, sd, shape).astype(np.float32)


def on_background(values: NDArray[np.float32], grey: float) -> NDArray[np.float32]:
    """Three quarters of one grey value, whole planes of it first."""
    framed = values.copy()
    framed[:4] = grey
    framed[:, :20] = grey
    return framed


@pytest.mark.parametrize("planes", [1, 100])
@pytest.mark.parametrize(
    ("source", "reference"),
    [
        (normal(), normal(mean=5, sd=0.1)),
        (normal(mean=1e4), normal(mean=-3, sd=1e3)),
        (on_background(normal(), 0.0), normal()),
        (on_background(normal(), 0.3), on_background(normal(mean=2), 0.7)),
        (on_background(normal(mean=-1), 0.7), on_background(normal(), 0.0)),
        (normal(), np.rint(normal(sd=2))),
        (np.rint(normal(sd=2)), normal()),
        (np.rint(normal()) * 0.1, np.rint(normal()) * 100),
        (normal(mean=1e6, sd=3), normal()),
    ],
    ids=["disjoint", "wide", "background", "backgrounds", "one first", "few", "of few", "few of few", "far from 0"],
)
def test_real_numbers_are_scikit_images_nearly(
    source: NDArray[np.float32], reference: NDArray[np.float32], planes: int
) -> None:
    found = errors(source, reference, counted_by=planes)
    assert found.max() <= 1e-2
    assert found.mean() <= 1e-4


@pytest.mark.parametrize("first", [0.1, 0.7, 1.3, 2.9, 77.7])
def test_background_stays_in_its_bin_when_the_range_grows_below_it(first: float) -> None:
    # 0 is the lowest of the first plane, and the edge of a bin: rounded, it would fall out of the bin it was counted in
    source = on_background(normal((9, 40, 40)), 0.0)
    source[0, 0, 0] = first
    source[1:, 30:] -= 3
    assert errors(source, normal(), counted_by=1).max() <= 1e-2


# 1/8 apart, so that the bins tell them apart
steps = st.integers(-800, 800).map(lambda step: step / 8)
volumes = arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(2, 5)), elements=steps).filter(
    lambda values: np.ptp(values) > 0
)


@settings(max_examples=12)
@given(volumes, volumes)
def test_small_volumes_of_real_numbers(source: NDArray[np.float32], reference: NDArray[np.float32]) -> None:
    assert errors(source, reference, counted_by=1).max() <= 1e-5


small = arrays(np.int16, st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(2, 5))).filter(
    lambda values: values.max() > values.min()
)


@settings(max_examples=12)
@given(small, small)
def test_small_volumes_of_integers(source: NDArray[np.int16], reference: NDArray[np.int16]) -> None:
    assert errors(source, reference, counted_by=1).max() <= 1e-6


def test_blocks_equal_the_whole_and_survive_pickling(monkeypatch: pytest.MonkeyPatch) -> None:
    view = matched(normal(), normal(mean=4))
    whole = view.read()
    monkeypatch.setattr("bonemonai.data.matched_volume._PART", 777)
    for planes in (1, 3):
        np.testing.assert_array_equal(in_blocks(view, planes), whole)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view)).read(2, 5), whole[2:5])


def test_result_is_within_the_references_range() -> None:
    reference = normal(mean=7)
    result = matched(normal(), reference).read()
    assert reference.min() <= result.min() < result.max() <= reference.max()
    assert result.max() == pytest.approx(reference.max(), abs=float(np.ptp(reference)) / 2**20)


@pytest.mark.parametrize("value", [-100.0, 100.0, np.nan])
def test_values_that_were_not_counted_are_refused(value: float) -> None:
    view = matched(normal(), normal())
    view.base.values[3, 2, 1] = value  # type: ignore[attr-defined]
    view.read(0, 3)
    with pytest.raises(InputError, match="array: holds grey values that were not there when its histogram was counted"):
        view.read()
