from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms import CTAcquisition, LumbarAnatomy, LumbarCT, draw_subject
from bonemonai.phantoms.tissue_slice import TissuePlane

ANATOMY = LumbarAnatomy(draw_subject("low bone mass", 5))


def scanner(anatomy: LumbarAnatomy = ANATOMY, **acquisition: Any) -> LumbarCT:
    how = CTAcquisition(**{"interval_mm": 8.0, "thickness_mm": 3.0, **acquisition})
    return LumbarCT(anatomy, how, matrix=96, levels=("L2",))


def uniform(water: float, fat: float = 0.0, iodine: float = 0.0, mineral: float = 0.0) -> TissuePlane:
    maps = (np.full((96, 96), value, dtype=np.float32) for value in (water, fat, iodine, mineral))
    label = np.zeros((96, 96), dtype=np.uint8)
    return TissuePlane(*maps, label, label, label)


def test_water_air_and_fat_have_their_hounsfield_units() -> None:
    for kvp, fat in ((80, -128), (120, -101), (140, -94)):
        ct = scanner(kvp=kvp)
        assert ct.expected(uniform(1)) == pytest.approx(0, abs=1e-3)
        assert ct.expected(uniform(0)) == pytest.approx(-1000, abs=1e-3)
        assert ct.expected(uniform(0, 1)).mean() == pytest.approx(fat, abs=1)


def test_voltage_scale_contrast_and_offset_shift_equal_mineral() -> None:
    bone, marrow = uniform(1, mineral=100), uniform(1, iodine=0.6)
    assert scanner(kvp=80).expected(bone).mean() > 1.3 * scanner(kvp=120).expected(bone).mean() > 130
    assert scanner(density_scale=1.1).expected(bone).mean() == pytest.approx(
        1.1 * scanner().expected(bone).mean(), rel=1e-4
    )
    assert 8 < scanner(contrast=1.0).expected(marrow).mean() < 25
    assert scanner(offset_hu=7).expected(uniform(1)).mean() == pytest.approx(7, abs=1e-3)


def test_beam_hardening_cups() -> None:
    found = scanner(cupping_hu=12.0).expected(uniform(1))
    rim, middle = found[:, :5].mean(), found[40:50, 44:52].mean()
    assert rim == pytest.approx(0, abs=1)
    assert -12 <= middle < -9
    assert scanner(cupping_hu=12.0).expected(uniform(0)) == pytest.approx(-1000)  # not air


def test_kernels_blur() -> None:
    # pixels that are small against the kernel: a profile across an edge
    edge = uniform(1)
    edge.mineral[:, 48:] = 200
    slopes = {}
    for kernel in ("soft", "standard", "bone"):
        how = CTAcquisition(kernel=kernel)  # type: ignore[arg-type]
        ct = LumbarCT(ANATOMY, how, matrix=96, levels=("L2",), field_of_view_mm=80)
        profile = ct.expected(edge)[48]
        slopes[kernel] = np.diff(profile).max()
    assert slopes["soft"] < slopes["standard"] < slopes["bone"]


@pytest.mark.parametrize("kernel", ["soft", "standard", "bone"])
def test_noise_is_as_stated_and_correlated(kernel: str) -> None:
    ct = LumbarCT(ANATOMY, CTAcquisition(kernel=kernel), matrix=256, levels=("L2",))  # type: ignore[arg-type]
    noise = np.stack([ct._noise(np.random.default_rng(i)) for i in range(8)])
    assert noise.std() == pytest.approx(ct.noise_hu, rel=0.03)
    beside = (noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()
    assert (beside > 0.3) if kernel == "soft" else (beside < 0.6)


def test_noise_falls_with_dose_and_thickness_and_grows_with_the_trunk() -> None:
    assert scanner(dose=0.25).noise_hu == pytest.approx(2 * scanner().noise_hu)
    assert scanner(thickness_mm=1.0).noise_hu == pytest.approx(3**0.5 * scanner().noise_hu)
    assert scanner(kernel="bone").noise_hu > 2 * scanner().noise_hu
    sizes = sorted(
        (s.half_width_mm * s.half_depth_mm, scanner(LumbarAnatomy(s)).noise_hu)
        for s in (draw_subject("normal", seed) for seed in range(5))
    )
    assert [noise for _, noise in sizes] == sorted(noise for _, noise in sizes)
    low, high = (scanner(dose=dose).scan() for dose in (0.2, 5.0))
    muscle = low.hu[2] - high.hu[2].astype(np.int32)
    assert abs(muscle[40:60, 30:60].std() / scanner(dose=0.2).noise_hu - 1) < 0.3


def test_scan_is_reproduced_and_its_parts_agree() -> None:
    ct = scanner(vendor="GE MEDICAL SYSTEMS")
    scan, again = ct.scan(), scanner(vendor="GE MEDICAL SYSTEMS").scan()
    np.testing.assert_array_equal(scan.hu, again.hu)
    assert scan.hu.shape == scan.mask.shape == scan.vertebrae.shape == (len(ct.heights_mm), 96, 96)
    assert scan.hu.dtype == np.int16
    assert (scan.vertebrae[scan.mask > 0] == scan.mask[scan.mask > 0]).all()
    assert 21 in scan.mask
    corner = scan.hu[:, 0, 0]
    assert (corner == -3024).all()
    assert (scan.hu[:, 48, 48] > -1025).all()
    truth = scan.truth
    assert truth["label"] == "low bone mass"
    assert 80 < truth["vbmd_mg_cm3"] < 120
    inner = scan.hu[(scan.mask == 21) & (scan.hu < 300)]
    assert truth["trabecular_hu_by_level"]["L2"] == pytest.approx(inner.mean(), abs=60)


def test_what_is_wanted_is_seen_whole() -> None:
    ct = LumbarCT(ANATOMY, CTAcquisition(interval_mm=4.0), matrix=96, levels=("L3", "L2"))
    assert ct.levels == ["L2", "L3"]
    mask = ct.scan().mask
    assert not np.isin(mask[[0, -1]], (21, 22)).any()
    assert np.isin((21, 22), mask).all()


def test_affine_puts_slices_an_interval_apart() -> None:
    affine = scanner().affine_lps
    np.testing.assert_allclose(affine[:3, :3], [[0, 0, scanner().pixel_mm], [0, scanner().pixel_mm, 0], [8, 0, 0]])


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"matrix": 8}, "matrix: must be >= 32 pixels, got 8"),
        ({"levels": ()}, "levels: must be some of L1, L2, L3, L4, L5, got none"),
        ({"levels": ("L6",)}, "levels: must be some of .*, got L6"),
        ({"field_of_view_mm": 10}, "field_of_view_mm: must be within 80 and 700 mm"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        LumbarCT(ANATOMY, CTAcquisition(), **wrong)
