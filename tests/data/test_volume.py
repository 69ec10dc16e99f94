from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bonemonai.data import open_volume
from bonemonai.data.volume import Volume, scaling_affine_lps
from bonemonai.errors import InputError
from tests.dicom_files import write_series


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    return path


def test_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere: no such file"):
        open_volume(tmp_path / "nowhere")


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match=r"notes.txt: is not a format"):
        open_volume(tmp_path / "notes.txt")


def test_unknown_voxel_size_is_none_and_said(stack: Path) -> None:
    volume = open_volume(stack)
    assert volume.voxel_size_um is None
    assert volume.affine_lps is volume.affine_ras is None
    assert volume.warnings == ["voxel size is not stated; say --voxel-size-um."]


def test_given_voxel_size_fills_in(stack: Path) -> None:
    volume = open_volume(stack, voxel_size_um=19.5)
    assert volume.voxel_size_um == (19.5, 19.5, 19.5)
    assert volume.warnings == []


def test_given_voxel_size_overrules_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(
        path,
        np.zeros((3, 4, 5), np.uint8),
        imagej=True,
        resolution=(0.5, 0.5),
        metadata={"unit": "um", "spacing": 2, "axes": "ZYX"},
    )
    volume = open_volume(path, voxel_size_um=(3, 2, 1))
    assert volume.voxel_size_um == (3, 2, 1)
    assert volume.warnings == ["voxel size (3.0, 2.0, 1.0) um as given overrules (2.0, 2.0, 2.0) um in the file."]


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf"), 1e-320, "abc", (1, 2)])
def test_impossible_voxel_size_is_refused(stack: Path, size: object) -> None:
    with pytest.raises(InputError, match="must be one number or three"):
        open_volume(stack, voxel_size_um=size)


def test_affine_of_a_stack_maps_columns_to_x_rows_to_y_planes_to_z() -> None:
    affine = scaling_affine_lps((3000, 2000, 1000), origin_mm=(10, 20, 30))
    np.testing.assert_allclose(affine @ [1, 1, 1, 1], [11, 22, 33, 1])
    np.testing.assert_allclose(affine @ [1, 0, 0, 1], [10, 20, 33, 1])


class Slabbed(Volume):
    """A volume of nothing whose planes lie together in fives."""

    format, planes_at_once = "nothing", 5

    def _read(self, start: int, stop: int) -> np.ndarray:
        return np.zeros((stop - start, *self.shape[1:]), self.dtype)


@pytest.mark.parametrize(
    ("together", "planes", "expected"),
    [
        (5, slice(None), [(0, 5), (5, 10), (10, 13)]),
        (3, slice(None), [(0, 3), (3, 5), (5, 8), (8, 10), (10, 13)]),
        (10, slice(None), [(0, 10), (10, 13)]),
        (1, slice(4, 7), [(4, 5), (5, 6), (6, 7)]),
        (5, slice(3, 12), [(3, 5), (5, 10), (10, 12)]),
        (99, slice(2, 3), [(2, 3)]),
    ],
)
def test_slabs_do_not_cross_what_lies_together(
    together: int, planes: slice, expected: list[tuple[int, int]], tmp_path: Path
) -> None:
    volume = Slabbed(tmp_path, shape=(13, 4, 4), dtype="uint8", affine_lps=None)
    assert [(slab.start, slab.stop) for slab in volume.slabs(together, planes)] == expected


@pytest.mark.parametrize(
    ("memory", "planes"), [(0, 1), (16, 1), (32, 2), (48, 3), (64, 3), (80, 5), (159, 5), (160, 10), (10_000, 625)]
)
def test_planes_within_memory_are_whole_multiples_or_equal_parts(memory: int, planes: int, tmp_path: Path) -> None:
    volume = Slabbed(tmp_path, shape=(1000, 4, 4), dtype="uint8", affine_lps=None)
    assert volume.planes_within(memory) == planes


@pytest.mark.parametrize(("memory", "planes"), [(1e6, 1), (9e6, 3), (15e6, 5), (1e9, 10)])
def test_no_more_is_read_together_than_helps(memory: float, planes: int, tmp_path: Path) -> None:
    volume = Slabbed(tmp_path, shape=(1000, 1000, 3000), dtype="uint8", affine_lps=None)
    assert volume.planes_within(memory) == planes


def test_units_are_given_where_the_file_states_none(stack: Path) -> None:
    assert open_volume(stack).units == "raw"
    assert open_volume(stack, units="mg HA/cm3").units == "mg HA/cm3"
    with pytest.raises(InputError, match="must be one of HU, mg HA/cm3, raw, got 'hounsfield'"):
        open_volume(stack, units="hounsfield")


def test_units_that_the_file_states_are_not_overruled(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", np.zeros((3, 4, 5)))
    assert open_volume(folder, units="HU").units == "HU"
    with pytest.raises(InputError, match="states its values in HU; they are not raw"):
        open_volume(folder, units="raw")


def test_part_of_a_format_that_has_none(stack: Path) -> None:
    with pytest.raises(InputError, match="is TIFF and holds one volume; it has no part '/data'"):
        open_volume(f"{stack}::/data")
