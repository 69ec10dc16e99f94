from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.dicom_files import hounsfield, write_enhanced, write_series


def test_slices_that_were_scanned_downwards_come_out_upwards(tmp_path: Path) -> None:
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), step=(0, 0, -2.0)))
    np.testing.assert_array_equal(volume.read(), hounsfield()[::-1])
    assert volume.affine_lps[:3, 0].tolist() == [0, 0, 2]
    assert volume.affine_lps[:3, 3].tolist() == [-12.5, 30, 92]


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    tilt=st.floats(-0.4, 0.4),
    spacing=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
    interval=st.floats(0.1, 8),
)
def test_every_voxel_lies_where_its_header_puts_it(
    angles: Any, tilt: float, spacing: tuple[float, float], interval: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """DICOM's own equation for a slice, PS3.3 C.7.6.2.1-1, against the affine, gantry tilt included."""
    turn = rotation(*angles)
    row, column = turn[:, 0], turn[:, 1]
    step = (turn[:, 2] + tilt * column) * interval
    folder = tmp_path_factory.mktemp("turned")
    write_series(folder, hounsfield(4), row=tuple(row), column=tuple(column), spacing=spacing, step=tuple(step))
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read(), hounsfield(4))
    for plane, i, j in itertools.product(range(4), (0, 5), (0, 7)):
        position = np.array((-12.5, 30.0, 100.0)) + plane * step
        expected = position + row * spacing[1] * j + column * spacing[0] * i
        found = volume.affine_lps @ (plane, i, j, 1)
        assert np.abs(found[:3] - expected).max() < 0.02 * min(*spacing, interval)
    assert volume.voxel_size_um == pytest.approx((interval * 1000, spacing[0] * 1000, spacing[1] * 1000), rel=1e-6)
    assert any("gantry tilt" in warning for warning in volume.warnings) == (abs(tilt) > np.tan(np.radians(0.1)))


def rotation(a: float, b: float, c: float) -> NDArray[np.float64]:
    def plane(angle: float, i: int, j: int) -> NDArray[np.float64]:
        matrix = np.eye(3)
        matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        return matrix

    return plane(a, 0, 1) @ plane(b, 1, 2) @ plane(c, 0, 2)


@pytest.mark.parametrize("planes", [range(1, 5), range(4), (0, 1, 3, 4)])
def test_missing_slices(planes: Any, tmp_path: Path) -> None:
    """A gap within is refused; at an end the rest is right where it is."""
    whole = open_volume(write_series(tmp_path / "whole", hounsfield()))
    folder = write_series(tmp_path / "a", hounsfield())
    positions = {file: round((pydicom.dcmread(file).ImagePositionPatient[2] - 100) / 2) for file in folder.iterdir()}
    for file, plane in positions.items():
        if plane not in planes:
            file.unlink()
    if 2 not in planes:
        with pytest.raises(InputError, match="some are missing"):
            open_volume(folder)
        return
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read(), hounsfield()[list(planes)])
    np.testing.assert_allclose(volume.affine_lps @ (0, 0, 0, 1), whole.affine_lps @ (planes[0], 0, 0, 1))


def test_single_slice_says_that_it_relies_on_the_thickness(tmp_path: Path) -> None:
    volume = open_volume(next(write_series(tmp_path / "a", hounsfield(1)).iterdir()))
    assert (volume.shape, volume.voxel_size_um) == ((1, 6, 8), (3000, 1500, 1250))
    assert volume.warnings == ["a single slice; its thickness is taken from the SliceThickness tag."]


def test_multi_frame_twice_at_one_place_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(4), order=[0, 1, 1, 2])
    with pytest.raises(InputError, match="lies where frame 2 does"):
        open_volume(path)


def test_real_gantry_tilt(sample_data: Path) -> None:
    folder = sample_data / "dicom-edge-cases" / "dicom2nifti_failing" / "gantrytilting"
    volume = open_volume(folder)
    for file in (folder / "001").iterdir():
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        index = np.linalg.inv(volume.affine_lps) @ (*dataset.ImagePositionPatient, 1)
        np.testing.assert_allclose(index[:3], [round(index[0]), 0, 0], atol=0.02)
