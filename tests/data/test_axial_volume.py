from __future__ import annotations

import itertools
import json
import pickle
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from bonemonai.data import AxialVolume, open_volume
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks
from tests.dicom_files import hounsfield, write_series

SHAPE = (3, 4, 5)
VALUES = np.arange(60, dtype=np.int16).reshape(SHAPE)
# x, y, z of LPS that planes, rows and columns run along, and which way
TURNS = [(axes, signs) for axes in itertools.permutations(range(3)) for signs in itertools.product((1, -1), repeat=3)]
AXIAL = ((2, 1, 0), (1, 1, 1))


def scan(
    axes: tuple[int, ...], signs: tuple[int, ...], rotation: NDArray[np.float64] | None = None, shear: float = 0.0
) -> ArrayVolume:
    volume = ArrayVolume(VALUES)
    volume.oriented = True
    affine = np.eye(4)
    affine[:3, :3] = 0
    for column, (axis, sign, step) in enumerate(zip(axes, signs, (2.0, 1.5, 1.25), strict=True)):
        affine[axis, column] = sign * step
    affine[:3, 0] += shear * affine[:3, 1]
    if rotation is not None:
        affine[:3, :3] = rotation @ affine[:3, :3]
    affine[:3, 3] = (-7.25, 30.5, 100.125)
    volume.affine_lps = affine
    return volume


def about(axis: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Rodrigues' rotation."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def places(affine: NDArray[np.float64], values: NDArray[Any]) -> NDArray[np.float64]:
    """World place of each value, by value."""
    index = np.argwhere(np.ones(values.shape, bool))
    world = index @ affine[:3, :3].T + affine[:3, 3]
    return world[np.argsort(values.ravel())]


@pytest.mark.parametrize("turn", TURNS)
def test_each_of_the_48_turns_is_exact(turn: tuple[Any, Any]) -> None:
    base = scan(*turn)
    axial = AxialVolume(base)
    np.testing.assert_array_equal(
        axial.affine_lps[:3, :3], np.fliplr(np.diag(np.diag(np.fliplr(axial.affine_lps[:3, :3]))))
    )
    np.testing.assert_array_equal(places(axial.affine_lps, axial.read()), places(base.affine_lps, VALUES))
    np.testing.assert_array_equal(axial.to_source(axial.read()), VALUES)
    assert axial.obliquity_degrees == 0


@given(
    st.sampled_from(TURNS),
    st.tuples(*[st.floats(-1, 1)] * 3),
    st.floats(0, 40),
    st.sampled_from([0.0, 0.2]),
    st.integers(1, 4),
)
def test_every_voxel_keeps_its_place(
    turn: tuple[Any, Any], axis: tuple[float, ...], degrees: float, shear: float, planes: int
) -> None:
    rotation = about(np.array(axis), degrees) if np.linalg.norm(axis) > 0.1 else None
    base = scan(*turn, rotation, shear)
    axial = AxialVolume(base)
    values = in_blocks(axial, planes)
    np.testing.assert_allclose(places(axial.affine_lps, values), places(base.affine_lps, VALUES), rtol=0, atol=1e-9)
    np.testing.assert_array_equal(values, axial.read())
    np.testing.assert_array_equal(axial.to_source(values), VALUES)
    # a mask of another type, and not a view of what was given
    back = axial.to_source(values > 7)
    np.testing.assert_array_equal(back, VALUES > 7)
    assert back.flags.c_contiguous
    assert back.base is None


# above 15 degrees it warns, and 15 itself may be rounded up
@given(st.sampled_from(TURNS), st.tuples(*[st.floats(-1, 1)] * 3), st.floats(0, 14.99))
def test_axes_run_to_superior_posterior_left(turn: tuple[Any, Any], axis: tuple[float, ...], degrees: float) -> None:
    rotation = about(np.array(axis), degrees) if np.linalg.norm(axis) > 0.1 else None
    axial = AxialVolume(scan(*turn, rotation))
    for column, world in enumerate((2, 1, 0)):
        step = axial.affine_lps[:3, column]
        assert np.argmax(np.abs(step)) == world
        assert step[world] > 0
    assert nibabel.aff2axcodes(axial.affine_ras) == ("S", "P", "L")
    assert axial.warnings == []


def test_what_lies_so_already_is_unchanged() -> None:
    base = scan(*AXIAL)
    axial = AxialVolume(base)
    np.testing.assert_array_equal(axial.affine_lps, base.affine_lps)
    np.testing.assert_array_equal(axial.read(), VALUES)


def test_agrees_with_nibabel_on_a_file(tmp_path: Path) -> None:
    affine = np.eye(4)
    affine[:3, :3] = about(np.array([1.0, 2, 3]), 12) @ np.array([[0, 0, -2.0], [1.5, 0, 0], [0, -1.25, 0]])
    image = nibabel.Nifti1Image(VALUES, affine)
    nibabel.save(image, tmp_path / "a.nii")
    axial = AxialVolume(open_volume(tmp_path / "a.nii"))
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(affine), nibabel.orientations.axcodes2ornt(("S", "P", "L"))
    )
    expected = image.as_reoriented(turn)
    np.testing.assert_array_equal(axial.read(), np.asarray(expected.dataobj))
    np.testing.assert_allclose(axial.affine_ras, expected.affine, atol=1e-5)


@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
def test_obliquity_is_named(axis: tuple[int, ...]) -> None:
    axial = AxialVolume(scan(*AXIAL, about(np.array(axis, float), 18)))
    assert axial.obliquity_degrees == pytest.approx(18)
    assert len(axial.warnings) == 1
    assert "up to 18 degrees off the body's" in axial.warnings[0]
    assert AxialVolume(scan(*AXIAL, about(np.array(axis, float), 14.9))).warnings == []


class Logged(ArrayVolume):
    """A scan that notes what is read of it."""

    def __init__(self, affine_lps: NDArray[np.float64] | None) -> None:
        super().__init__(VALUES)
        self.oriented, self.affine_lps = True, affine_lps
        self.log: list[tuple[int, int]] = []

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        self.log.append((start, stop))
        return super()._read(start, stop)


@pytest.mark.parametrize(("signs", "expected"), [((1, 1, -1), (0, 1)), ((-1, 1, 1), (2, 3))])
def test_planes_that_stay_planes_are_read_as_asked_for(signs: tuple[int, ...], expected: tuple[int, int]) -> None:
    base = Logged(scan((2, 0, 1), signs).affine_lps)
    AxialVolume(base).read(0, 1)
    assert base.log == [expected]


def test_others_are_read_once_and_not_carried_to_another_process() -> None:
    base = Logged(scan((0, 1, 2), (1, 1, 1)).affine_lps)
    axial = AxialVolume(base)
    assert base.log == []
    axial.read(0, 1)
    axial.read(3, 5)
    assert base.log == [(0, 3)]
    again = pickle.loads(pickle.dumps(axial))
    np.testing.assert_array_equal(again.read(), axial.read())
    assert (base.log, again.base.log) == ([(0, 3)], [(0, 3), (0, 3)])
    axial.read()[:] = 0
    np.testing.assert_array_equal(again.read(), axial.read())


def test_too_large_to_turn_is_refused_before_it_is_read() -> None:
    sagittal = scan((0, 1, 2), (1, 1, 1))
    with pytest.raises(InputError, match=r"array: is \(3, 4, 5\) voxels, not in axial planes: .* cut a part out first"):
        AxialVolume(sagittal, most_bytes=119)
    assert AxialVolume(sagittal, most_bytes=120).shape == (5, 4, 3)
    assert AxialVolume(scan(*AXIAL), most_bytes=0).shape == SHAPE


@pytest.mark.parametrize("voxel_size_um", [None, (1, 1, 1)])
def test_unknown_orientation_is_refused(voxel_size_um: tuple[int, ...] | None) -> None:
    with pytest.raises(InputError, match=r"array: does not say where left, .* give the scan as DICOM, or as NIfTI"):
        AxialVolume(ArrayVolume(VALUES, voxel_size_um))


def test_mask_of_another_shape_is_refused() -> None:
    axial = AxialVolume(scan((0, 1, 2), (1, 1, 1)))
    with pytest.raises(InputError, match=r"is \(5, 4, 3\) voxels in axial slices; the mask is \(3, 4, 5\)"):
        axial.to_source(np.zeros(SHAPE, bool))


def test_views_of_views() -> None:
    crop = CroppedVolume(scan((0, 1, 2), (1, -1, 1)), (1, 1, 1), (2, 3, 4))
    axial = AxialVolume(AxialVolume(crop))
    np.testing.assert_allclose(places(axial.affine_lps, axial.read()), places(crop.affine_lps, crop.read()), atol=1e-9)


def test_gantry_tilt_stays_exact(tmp_path: Path) -> None:
    """Slices tilted by 10 degrees follow each other along the table."""
    cos, sin = np.cos(np.radians(10)), np.sin(np.radians(10))
    base = open_volume(write_series(tmp_path / "a", hounsfield(), column=(0, cos, -sin), step=(0, 0, -2.0)))
    axial = AxialVolume(base)
    assert any("gantry tilt" in warning for warning in axial.warnings)
    np.testing.assert_allclose(places(axial.affine_lps, axial.read()), places(base.affine_lps, base.read()), atol=1e-9)
    np.testing.assert_array_equal(axial.to_source(axial.read()), base.read())


def test_lumbar_spine_of_a_real_oblique_scan(sample_data: Path) -> None:
    """Sagittal planes on disk; the centroids of the vertebrae are given in voxels of (P, I, R)."""
    folder = sample_data / "ct-verse014-lumbar"
    scan_, stored = (open_volume(folder / f"sub-verse014_{name}.nii.gz") for name in ("ct", "seg-vert_msk"))
    axial, mask = AxialVolume(scan_), AxialVolume(stored)
    labels = mask.read()
    assert axial.shape == mask.shape == (186, 186, 40)
    assert 7 < axial.obliquity_degrees < 9
    assert axial.warnings == []
    centres = {label: np.argwhere(labels == label).mean(axis=0) for label in range(20, 25)}
    # L1 to L5: downwards
    assert all(centres[upper][0] > centres[upper + 1][0] + 15 for upper in range(20, 24))
    facts = json.loads((folder / "sub-verse014_seg-vb_ctd.json").read_text())
    assert facts[0]["direction"] == ["P", "I", "R"]
    for fact in facts[1:]:
        # (S, P, L) from (P, I, R); centres of the bodies, not of whole vertebrae: behind them is the arch
        given = np.array([185 - fact["Y"], fact["X"], 39 - fact["Z"]])
        label = fact["label"]
        assert abs(given[0] - centres[label][0]) < 15
        assert 5 < centres[label][1] - given[1] < 25
        assert abs(given[2] - centres[label][2]) < 3
        plane, row, column = (round(float(place)) for place in given)
        assert labels[plane, row, column] == label
    np.testing.assert_array_equal(axial.to_source(labels), stored.read())
    bone = axial.read()[labels > 0]
    assert np.median(bone) > 100
    assert nibabel.aff2axcodes(axial.affine_ras) == ("S", "P", "L")


def test_real_series(sample_data: Path) -> None:
    """Of a supine patient the table lies behind: rows that come late; T11 lies above T12."""
    folder = sample_data / "ct-totalseg-siemens-dicom"
    base = open_volume(folder / "dicom")
    axial, mask = AxialVolume(base), AxialVolume(open_volume(folder / "seg_dicom.nii.gz"))
    np.testing.assert_allclose(axial.affine_lps, mask.affine_lps, atol=1e-3)
    labels = mask.read()
    upper, lower = (np.argwhere(labels == label).mean(axis=0) for label in (33, 32))
    assert upper[0] > lower[0]
    np.testing.assert_array_equal(axial.read(3, 5), base.read(3, 5))
    # the liver lies on the patient's right, the stomach on the left; the aorta before the spine
    liver, stomach, aorta = (np.argwhere(labels == label).mean(axis=0) for label in (5, 6, 52))
    assert liver[2] < stomach[2]
    assert aorta[1] < lower[1]


def test_spacing_of_axial_slices_is_not_that_of_stored_planes(tmp_path: Path) -> None:
    """Sagittal planes 1 mm apart, whose pixels are 3 mm high and 1 mm wide."""
    from tests import lumbar_files

    path = lumbar_files.write_nifti(tmp_path / "scan.nii", lumbar_files.mask_in_axial_order())
    turned = AxialVolume(open_volume(path))
    assert turned.slice_interval_mm == pytest.approx(3.0)
    assert turned.pixel_spacing_mm == pytest.approx((1.0, 1.0))
    assert not AxialVolume(turned).crosses_stored_planes
