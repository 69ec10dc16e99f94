from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.data import OmeZarrWriter, open_volume
from bonemonai.data.cropped_volume import CroppedVolume, centre_box
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks

VALUES = np.arange(7 * 9 * 11, dtype=np.uint16).reshape(7, 9, 11)


@given(st.data())
def test_is_the_box_in_any_blocks(data: st.DataObject) -> None:
    start = [data.draw(st.integers(0, n - 1)) for n in VALUES.shape]
    size = [data.draw(st.integers(1, n - first)) for n, first in zip(VALUES.shape, start, strict=True)]
    crop = CroppedVolume(ArrayVolume(VALUES), start, size)
    box = tuple(slice(first, first + n) for first, n in zip(start, size, strict=True))
    np.testing.assert_array_equal(in_blocks(crop, data.draw(st.integers(1, 7))), VALUES[box])


def test_voxels_keep_their_places() -> None:
    base = ArrayVolume(VALUES, origin_mm=(5.0, -3.0, 1.0))
    crop = CroppedVolume(base, (2, 3, 4), (3, 3, 3))
    assert base.affine_lps is not None
    assert crop.affine_lps is not None
    np.testing.assert_allclose(crop.affine_lps @ [1, 2, 0, 1], base.affine_lps @ [3, 5, 4, 1])
    assert crop.voxel_size_um == base.voxel_size_um
    assert CroppedVolume(ArrayVolume(VALUES, None), (0, 0, 0), (1, 1, 1)).affine_lps is None


def test_survives_pickling_and_reads_only_its_planes(tmp_path: Path) -> None:
    with OmeZarrWriter(tmp_path / "a.zarr", shape=(40, 9, 11), dtype="uint16", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(np.resize(VALUES, (40, 9, 11)))
    crop = CroppedVolume(open_volume(tmp_path / "a.zarr"), (33, 1, 1), (4, 5, 6))
    (tmp_path / "a.zarr" / "0" / "c" / "0" / "0" / "0").write_bytes(b"lost")
    again = pickle.loads(pickle.dumps(crop))
    np.testing.assert_array_equal(again.read(), np.resize(VALUES, (40, 9, 11))[33:37, 1:6, 1:7])


@pytest.mark.parametrize(
    ("start", "size"),
    [((-1, 0, 0), (2, 2, 2)), ((5, 0, 0), (3, 9, 11)), ((0, 0, 1), (7, 9, 11)), ((0, 0, 9), (1, 1, 3))],
)
def test_box_outside_is_refused(start: tuple[int, ...], size: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"array: has shape \(7, 9, 11\): no box of .* begins at"):
        CroppedVolume(ArrayVolume(VALUES), start, size)


def test_empty_box_is_refused() -> None:
    with pytest.raises(InputError, match="is empty"):
        CroppedVolume(ArrayVolume(VALUES), (0, 0, 0), (0, 2, 2))


def test_box_in_the_middle() -> None:
    volume = ArrayVolume(VALUES)
    assert centre_box(volume, None) == ((0, 0, 0), (7, 9, 11))
    assert centre_box(volume, 5) == ((1, 2, 3), (5, 5, 5))
    assert centre_box(volume, (4, 9, 2)) == ((1, 0, 4), (4, 9, 2))


@pytest.mark.parametrize(
    ("size", "cause"),
    [
        (8, r"array: is \(7, 9, 11\) voxels: no box of \(8, 8, 8\) .* choose a smaller crop_size"),
        (0, "no box of"),
        ((1, 2), "crop_size: must be one number or three"),
        ("many", "crop_size: must be one number or three"),
    ],
)
def test_sizes_that_cannot_be_are_refused(size: object, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        centre_box(ArrayVolume(VALUES), size)  # type: ignore[arg-type]
