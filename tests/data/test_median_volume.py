from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import median_filter

from bonemonai.data import open_volume
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.data.median_volume import MedianVolume
from tests.array_volume import ArrayVolume, in_blocks


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 7), st.integers(1, 9), st.integers(1, 9)),
    st.sampled_from(["uint8", "uint16", "int16", "int32", "float16", "float32", "float64"]),
    st.integers(1, 4),
    st.integers(0, 99),
)
def test_is_scipys_bit_for_bit_in_any_blocks(shape: tuple[int, int, int], dtype: str, planes: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(100, 40, shape).clip(0, 250).astype(dtype)
    expected = median_filter(values.astype(np.float32) if dtype == "float16" else values, size=3, mode="nearest")
    filtered = MedianVolume(ArrayVolume(values))
    assert filtered.dtype == dtype
    assert in_blocks(filtered, planes).tobytes() == expected.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_of_a_real_scan(lhdl: Path, dtype: str) -> None:
    crop = CroppedVolume(open_volume(lhdl), (20, 60, 60), (17, 40, 50))
    view = MedianVolume(ArrayVolume(crop.read().astype(dtype)))
    expected = median_filter(crop.read().astype(dtype), size=3, mode="nearest")
    for planes in (1, 5, 17):
        np.testing.assert_array_equal(in_blocks(view, planes), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(MedianVolume(crop))).read(3, 9), expected[3:9])
