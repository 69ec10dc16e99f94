from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, zoom
from skimage.registration import phase_cross_correlation

from bonemonai.errors import InputError
from bonemonai.phantoms import (
    MicroCTAcquisition,
    MicroCTScanner,
    MurineBone,
    draw_murine_specimen,
    hr_acquisition,
    lr_acquisition,
)
from bonemonai.phantoms.scan_grid import ScanGrid

CLEAN_HR = MicroCTAcquisition(10.0, 0.0, 2000, 3, noise=False)
CLEAN_LR = MicroCTAcquisition(20.0, 0.0, 1000, 1, noise=False)


def texture(grid: ScanGrid) -> NDArray[np.float32]:
    """Something with detail of every size, known everywhere."""
    z, y, x = grid.points(tuple(slice(0, count) for count in grid.shape))
    wave = np.sin(x / 23 + y / 71) * np.cos(y / 31 - z / 37) + np.sign(np.sin(x / 90) * np.sin((y + z) / 110))
    return np.asarray(400 * wave + 300, dtype=np.float32)


def scanner(**options: object) -> MicroCTScanner:
    given = {"corner_um": (40.0, -300.0, -280.0), "field_um": (120.0, 480.0, 560.0), **options}
    return MicroCTScanner(texture, **given)  # type: ignore[arg-type]


def fine(corner: tuple[float, ...], shape: tuple[int, int, int]) -> NDArray[np.float32]:
    return texture(ScanGrid(shape, 5.0, np.eye(3) * 5.0, np.array(corner) + 2.5))


def blocks(volume: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    d, h, w = (count // by for count in volume.shape)
    return volume.reshape(d, by, h, by, w, by).mean(axis=(1, 3, 5))


def test_without_blur_and_noise_lr_is_hr_averaged() -> None:
    hr, lr = scanner().scan([CLEAN_HR, CLEAN_LR], seed=0)
    assert (hr.shape, lr.shape) == ((12, 48, 56), (6, 24, 28))
    np.testing.assert_allclose(lr, blocks(hr, 2), atol=1e-3)
    np.testing.assert_allclose(hr, blocks(fine((40.0, -300.0, -280.0), (24, 96, 112)), 2), atol=1e-3)


def test_blur_is_scipys_gaussian_before_the_average() -> None:
    halo = 20
    wide = fine(tuple(c - 5.0 * halo for c in (40.0, -300.0, -280.0)), (24 + 40, 96 + 40, 112 + 40))
    cut = (slice(halo, -halo),) * 3
    for clean, by in ((hr_acquisition(), 2), (lr_acquisition(), 4)):
        (scan,) = scanner().scan([replace(clean, noise=False)], seed=0)
        # ours integrates the Gaussian over both points' cubes, which adds 2 x 5^2 / 12 um2 of variance
        sigma = np.sqrt(clean.psf_sigma_um**2 + 25 / 6) / 5.0
        blurred = blocks(gaussian_filter(wide.astype(np.float64), sigma, truncate=6)[cut], by)
        np.testing.assert_allclose(scan, blurred, atol=3)
        assert np.abs(scan - blurred).mean() < 0.5


def test_offset_is_a_shift_of_the_field() -> None:
    for shift in ((10.0, -5.0, 15.0), (0.0, 20.0, -20.0)):
        moved = scanner().scan([replace(lr_acquisition(), noise=False, offset_um=shift)], seed=0)[0]
        corner = tuple(c + s for c, s in zip((40.0, -300.0, -280.0), shift, strict=True))
        there = scanner(corner_um=corner).scan([replace(lr_acquisition(), noise=False)], seed=0)[0]
        np.testing.assert_allclose(moved, there, atol=0.05)


@pytest.mark.parametrize("shift", [(0.0, 0.0, 0.0), (4.0, -7.0, 6.0)])
def test_lr_lies_on_hr_to_below_half_a_voxel(shift: tuple[float, float, float]) -> None:
    """Phase correlation of the up-sampled LR with HR finds the shift, in HR's voxels, through both scans' noise."""
    bone = MurineBone(draw_murine_specimen("femur", 1))
    field = MicroCTScanner(bone.density, corner_um=(100, -600, 200), field_um=(320, 800, 800))
    hr, lr = field.scan([hr_acquisition(), lr_acquisition(1, shift)], seed=2)
    up = zoom(lr, 2, order=1, grid_mode=True, mode="nearest")
    # a scan does not go on at its other end
    z, y, x = np.ix_(*(np.hanning(count) for count in hr.shape))
    window = z * y * x
    fixed, moving = ((volume - volume.mean()) * window for volume in (hr, up))
    found, _, _ = phase_cross_correlation(fixed, moving, upsample_factor=20, normalization=None)
    np.testing.assert_allclose(found, np.array(shift) / 10, atol=0.3)


def test_noise_is_as_strong_as_stated_and_frames_lessen_it() -> None:
    acquisitions = [hr_acquisition(), lr_acquisition(1), lr_acquisition(3)]
    flat = MicroCTScanner(
        lambda grid: np.full(grid.shape, 500, np.float32), corner_um=(0, 0, 0), field_um=(200, 2000, 2000)
    )
    scans = flat.scan(acquisitions, seed=1)
    for scan, how in zip(scans, acquisitions, strict=True):
        assert scan.mean() == pytest.approx(500, abs=1)
        assert scan.std() == pytest.approx(how.noise_mg_ha_cm3, rel=0.02)
    assert scans[1].std() / scans[2].std() == pytest.approx(np.sqrt(3), rel=0.03)
    assert abs(np.corrcoef(scans[1].ravel(), scans[2].ravel())[0, 1]) < 0.05
    assert abs(np.corrcoef(scans[1][0].ravel(), scans[1][1].ravel())[0, 1]) < 0.05


def test_the_same_seed_gives_the_same_scan_however_it_is_taken() -> None:
    together = scanner().scan([hr_acquisition(), lr_acquisition(1)], seed=5)[1]
    alone = scanner().scan([lr_acquisition(1)], seed=5)[0]
    np.testing.assert_allclose(together, alone, atol=0.01)
    assert together.tobytes() == scanner().scan([hr_acquisition(), lr_acquisition(1)], seed=5)[1].tobytes()
    assert np.abs(together - scanner().scan([lr_acquisition(1)], seed=6)[0]).mean() > 20


def test_planes_come_in_order_and_density_a_few_planes_at_a_time() -> None:
    asked: list[int] = []

    def counting(grid: ScanGrid) -> NDArray[np.float32]:
        asked.append(grid.shape[0])
        return texture(grid)

    streaming = MicroCTScanner(counting, corner_um=(0, 0, 0), field_um=(400, 80, 80))
    seen: dict[int, list[int]] = {0: [], 1: []}
    for index, number, plane in streaming.planes([hr_acquisition(), lr_acquisition()], seed=0):
        assert plane.shape == ((8, 8), (4, 4))[index]
        seen[index].append(number)
        if (index, number) == (0, 0):
            assert len(asked) == 2, "the first plane must not wait for the last"
    assert seen == {0: list(range(40)), 1: list(range(20))}
    assert max(asked) <= 16


@pytest.mark.parametrize(
    ("options", "how", "cause"),
    [
        ({"field_um": (110.0, 480.0, 560.0)}, CLEAN_LR, "field_um: must be a whole number of 20 um, got 110 um"),
        ({"sample_um": 3.0}, CLEAN_LR, "voxel_size_um: must be a whole number of 3 um, got 20 um"),
    ],
)
def test_lengths_must_fit_each_other(options: dict[str, object], how: MicroCTAcquisition, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        scanner(**options).scan([how], seed=0)
