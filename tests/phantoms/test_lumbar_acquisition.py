from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms.lumbar_acquisition import BEAMS, VENDORS, CTAcquisition, draw_acquisition


def test_lower_voltage_makes_mineral_and_iodine_brighter_and_fat_darker() -> None:
    for low, high in ((80, 100), (100, 120), (120, 140)):
        assert BEAMS[low].mineral > BEAMS[high].mineral
        assert BEAMS[low].iodine > BEAMS[high].iodine
        assert BEAMS[low].fat < BEAMS[high].fat


def test_everything_is_drawn() -> None:
    drawn = [draw_acquisition(seed) for seed in range(300)]
    for name, values in (("vendor", VENDORS), ("kvp", BEAMS), ("kernel", ("soft", "standard", "bone"))):
        assert set(Counter(getattr(a, name) for a in drawn)) == set(values)
    assert 0.3 < sum(a.contrast > 0 for a in drawn) / 300 < 0.6
    assert {a.extended for a in drawn if a.vendor == "SIEMENS"} == {True, False}
    assert not any(a.extended for a in drawn if a.vendor != "SIEMENS")


@pytest.mark.parametrize(("interval", "thicknesses"), [(1.0, {1, 2}), (3.0, {3, 5}), (4.0, {5}), (9.0, {5})])
def test_slices_overlap_or_touch_where_they_can(interval: float, thicknesses: set[float]) -> None:
    assert {draw_acquisition(seed, interval_mm=interval).thickness_mm for seed in range(60)} == thicknesses


def test_kernels_have_the_vendors_names() -> None:
    names = {vendor: CTAcquisition(vendor=vendor, kernel="standard").kernel_name for vendor in VENDORS}
    assert names == {"Philips": "B", "SIEMENS": "Br40d", "GE MEDICAL SYSTEMS": "STANDARD"}


@pytest.mark.parametrize(
    "wrong", [{"vendor": "ACME"}, {"kvp": 110}, {"kernel": "B30f"}, {"dose": 0}, {"contrast": -1}, {"thickness_mm": 0}]
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=f"{name}: must be "):
        CTAcquisition(**wrong)
