from __future__ import annotations

import math

import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms import MicroCTAcquisition, hr_acquisition, lr_acquisition


def test_noise_falls_with_projections_and_frames() -> None:
    noise = {n: lr_acquisition(n).noise_mg_ha_cm3 for n in (1, 3)}
    assert noise[1] / noise[3] == pytest.approx(math.sqrt(3))
    twice = MicroCTAcquisition(20.0, 14.0, 2000, 1)
    assert noise[1] / twice.noise_mg_ha_cm3 == pytest.approx(math.sqrt(2))
    # 6000 exposures of half the voxel
    assert noise[1] / hr_acquisition().noise_mg_ha_cm3 == pytest.approx(math.sqrt(6) / 2)


def test_the_papers_settings() -> None:
    hr, lr = hr_acquisition(), lr_acquisition(3, (1.0, 2.0, 3.0))
    assert (hr.voxel_size_um, hr.projections, hr.frames) == (10, 2000, 3)
    assert (lr.voxel_size_um, lr.projections, lr.frames, lr.offset_um) == (20, 1000, 3, (1, 2, 3))
    assert lr.psf_sigma_um > hr.psf_sigma_um


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ((0, 7, 1000, 1), "voxel_size_um: must be > 0, got 0"),
        ((10, -1, 1000, 1), "psf_sigma_um: must be >= 0, got -1"),
        ((10, 7, 0, 1), "projections: must be > 0"),
        ((10, 7, 1000, 0), "frames: must be > 0"),
    ],
)
def test_wrong_arguments(wrong: tuple[float, float, int, int], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        MicroCTAcquisition(*wrong)
