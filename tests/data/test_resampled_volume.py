from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.data.registration import image_of
from bonemonai.data.resampled_volume import ResampledVolume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks

EDGES = (2.0, 1.5, 1.25)
NOISE = np.random.default_rng(2).normal(100, 20, (44, 40, 50)).astype(np.float32)
INTERPOLATORS = {
    "bspline": SimpleITK.sitkBSpline,
    "linear": SimpleITK.sitkLinear,
    "nearest": SimpleITK.sitkNearestNeighbor,
}


def rigid(
    angles_deg: tuple[float, ...] = (0, 0, 0),
    shift: tuple[float, ...] = (0, 0, 0),
    shape: tuple[int, ...] = NOISE.shape,
) -> SimpleITK.Euler3DTransform:
    """About the middle of a scan; shift along (column, row, plane) in voxels."""
    mm = [edge / 1000 for edge in reversed(EDGES)]
    transform = SimpleITK.Euler3DTransform()
    transform.SetCenter([(n - 1) / 2 * step for n, step in zip(reversed(shape), mm, strict=True)])
    transform.SetRotation(*np.deg2rad(angles_deg).tolist())
    transform.SetTranslation([voxels * step for voxels, step in zip(shift, mm, strict=True)])
    return transform


def expected(
    values: NDArray[Any],
    transform: SimpleITK.Transform,
    start: tuple[int, ...],
    size: tuple[int, ...],
    interpolation: str,
) -> NDArray[Any]:
    """By SimpleITK from the whole scan, in millimetres."""
    image = image_of(values, EDGES)
    grid = image_of(np.zeros(size, np.uint8), EDGES, start)
    return SimpleITK.GetArrayFromImage(
        SimpleITK.Resample(image, grid, transform, INTERPOLATORS[interpolation], 0.0, image.GetPixelID(), True)
    )


MOTION = rigid((3.0, -2.0, 4.0), (1.3, -0.7, 2.4))


@pytest.mark.parametrize("interpolation", ["bspline", "linear", "nearest"])
@pytest.mark.parametrize(
    ("start", "size"), [((0, 0, 0), NOISE.shape), ((11, 7, 9), (20, 22, 24)), ((30, -4, 20), (9, 30, 40))]
)
def test_is_simpleitks_of_the_whole_scan_in_any_blocks(
    interpolation: Any, start: tuple[int, ...], size: tuple[int, ...]
) -> None:
    view = ResampledVolume(ArrayVolume(NOISE, EDGES), MOTION, start, size, interpolation)
    assert (view.shape, view.dtype) == (size, np.float32)
    reference = expected(NOISE, MOTION, start, size, interpolation)
    for planes in (1, 7, 50):
        difference = np.abs(in_blocks(view, planes) - reference)
        assert difference.max() <= 1e-5 * np.ptp(NOISE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(view)).read(3, 5), view.read(3, 5))


@pytest.mark.parametrize("interpolation", ["bspline", "linear", "nearest"])
def test_real_scan(lhdl: Path, interpolation: Any) -> None:
    crop = CroppedVolume(open_volume(lhdl, voxel_size_um=EDGES), (60, 70, 50), (60, 50, 50))
    motion = rigid((-2.0, 1.0, 3.0), (4.3, 2.2, -1.6), crop.shape)
    view = ResampledVolume(crop, motion, (6, 6, 6), (48, 38, 38), interpolation)
    values = crop.read() if interpolation == "nearest" else crop.read().astype(np.float32)
    assert view.dtype == values.dtype
    difference = in_blocks(view, 16) - expected(values, motion, (6, 6, 6), (48, 38, 38), interpolation).astype(float)
    assert np.abs(difference).max() <= 1e-5 * 255


@pytest.mark.parametrize(("interpolation", "tolerance"), [("bspline", 1e-5), ("linear", 1e-5), ("nearest", 0)])
def test_no_motion_gives_the_crop(interpolation: Any, tolerance: float) -> None:
    base = ArrayVolume(NOISE, EDGES, origin_mm=(3.0, -1.0, 2.0))
    crop = CroppedVolume(base, (5, 9, 2), (22, 20, 33))
    view = ResampledVolume(base, rigid(), (5, 9, 2), (22, 20, 33), interpolation)
    assert np.abs(in_blocks(view, 6) - crop.read()).max() <= tolerance * np.ptp(NOISE)
    assert view.outside == 0
    assert (view.voxel_size_um, view.units) == (crop.voxel_size_um, crop.units)
    np.testing.assert_allclose(view.affine_lps, crop.affine_lps, atol=1e-12)  # type: ignore[arg-type]


def test_affine_leads_to_where_the_moving_scan_has_it() -> None:
    base = ArrayVolume(NOISE, EDGES, origin_mm=(3.0, -1.0, 2.0))
    view = ResampledVolume(base, MOTION, (11, 7, 9), (20, 22, 24))
    assert view.affine_lps is not None
    assert view.voxel_size_um == base.voxel_size_um
    index = np.array([4, 5, 6])
    point = (np.add(index, (11, 7, 9)) * EDGES)[::-1] / 1000
    there = np.add(MOTION.TransformPoint(point.tolist()), (3.0, -1.0, 2.0))
    np.testing.assert_allclose((view.affine_lps @ [*index, 1])[:3], there, atol=1e-10)
    assert ResampledVolume(ArrayVolume(NOISE, None), rigid(), (0, 0, 0), (4, 4, 4)).affine_lps is None


def test_whole_voxels_of_shift_move_masks_exactly() -> None:
    mask = (NOISE > 110).astype(np.uint8)
    view = ResampledVolume(ArrayVolume(mask, EDGES), rigid(shift=(3, -2, 1)), (5, 5, 5), (20, 20, 20), "nearest")
    assert view.dtype == np.uint8
    np.testing.assert_array_equal(in_blocks(view, 3), mask[6:26, 3:23, 8:28])


@pytest.mark.parametrize("interpolation", ["bspline", "linear", "nearest"])
def test_what_lies_outside_repeats_the_faces_and_is_counted(interpolation: Any) -> None:
    # 30 of 44 planes lie beyond the last one: blocks of them have nothing of the scan but its last planes
    view = ResampledVolume(ArrayVolume(NOISE, EDGES), rigid(shift=(0, 0, 30)), (0, 0, 0), NOISE.shape, interpolation)
    reference = expected(NOISE, rigid(shift=(0, 0, 30)), (0, 0, 0), NOISE.shape, interpolation)
    for planes in (1, 44):
        assert np.abs(in_blocks(view, planes) - reference).max() <= 1e-5 * np.ptp(NOISE)
    np.testing.assert_allclose(in_blocks(view, 2)[20:], np.broadcast_to(NOISE[-1], (24, 40, 50)), atol=1e-3)
    assert view.outside == pytest.approx(30 / 44)
    before = ResampledVolume(ArrayVolume(NOISE, EDGES), rigid(shift=(0, 0, -20)), (0, 0, 0), NOISE.shape, interpolation)
    np.testing.assert_allclose(before.read(0, 2), np.broadcast_to(NOISE[0], (2, 40, 50)), atol=1e-3)


def test_box_that_lies_elsewhere_is_refused() -> None:
    with pytest.raises(InputError, match="array: lies elsewhere: 100% of the box to cut out are outside it"):
        ResampledVolume(ArrayVolume(NOISE, EDGES), rigid(shift=(0, 60, 0)), (0, 0, 0), NOISE.shape)


def test_unknown_interpolation_is_refused() -> None:
    with pytest.raises(InputError, match="interpolation: must be one of bspline, linear, nearest, got 'sinc'"):
        ResampledVolume(ArrayVolume(NOISE, EDGES), rigid(), (0, 0, 0), (4, 4, 4), "sinc")  # type: ignore[arg-type]


def test_thin_scans() -> None:
    thin = ArrayVolume(NOISE[:3], EDGES)
    with pytest.raises(InputError, match=r"array: is \(3, 40, 50\) voxels, too thin .* choose linear interpolation"):
        ResampledVolume(thin, rigid(), (0, 0, 0), (3, 40, 50))
    motion = rigid((0, 0, 2.0), (0.4, 1.2, 0.3), (3, 40, 50))
    view = ResampledVolume(thin, motion, (0, 0, 0), (3, 40, 50), "linear")
    reference = expected(NOISE[:3], motion, (0, 0, 0), (3, 40, 50), "linear")
    assert np.abs(in_blocks(view, 1) - reference).max() <= 1e-5 * np.ptp(NOISE)


@pytest.mark.parametrize("shift", [(0, 0, 0), (0, 0, 2), (0, 0, -1), (7, 0, 0), (-1, 3, 0), (0.4, 0, 0), (0.6, 0, 0)])
def test_share_outside_is_exact(shift: tuple[float, ...]) -> None:
    view = ResampledVolume(ArrayVolume(NOISE, EDGES), rigid(shift=shift), (0, 0, 0), NOISE.shape, "nearest")
    kept = [max(0, n - round(abs(step))) / n for n, step in zip(reversed(NOISE.shape), shift, strict=True)]
    assert view.outside == pytest.approx(1 - np.prod(kept))


def test_share_outside_of_a_turned_box_is_that_of_counting() -> None:
    transform, start, size = rigid((7, -11, 30), (1.3, -2.1, 3.7)), (2, 3, 4), (37, 30, 41)
    view = ResampledVolume(ArrayVolume(NOISE, EDGES), transform, start, size, "nearest")
    index = np.stack(np.meshgrid(*(np.arange(s, s + n) for s, n in zip(start, size, strict=True)), indexing="ij"), -1)
    edges = np.asarray(EDGES) / 1000
    points = (index.reshape(-1, 3) * edges)[:, ::-1]
    moved = np.array([transform.TransformPoint(point.tolist()) for point in points[::7]])[:, ::-1] / edges
    outside = ((moved < -0.5) | (moved > np.asarray(NOISE.shape) - 0.5)).any(axis=1)
    assert 0.05 < view.outside < 0.9
    assert view.outside == pytest.approx(outside.mean(), abs=0.01)  # of every seventh voxel
