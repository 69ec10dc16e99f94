from __future__ import annotations

from dataclasses import asdict

import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms import draw_murine_specimen
from bonemonai.phantoms.murine_specimen import COMMON_RANGES, MURINE_RANGES, SITES, MurineSite


@pytest.mark.parametrize("site", SITES)
def test_numbers_are_within_their_ranges_and_fill_them(site: MurineSite) -> None:
    drawn = [asdict(draw_murine_specimen(site, seed)) for seed in range(60)]
    for name, (low, high) in {**COMMON_RANGES, **MURINE_RANGES[site]}.items():
        values = [specimen[name] for specimen in drawn]
        assert low <= min(values) < low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) < max(values) <= high


def test_ranges_are_those_of_mice() -> None:
    for site in SITES:
        limits = {**COMMON_RANGES, **MURINE_RANGES[site]}
        assert 40 <= limits["tb_th_um"][0] < limits["tb_th_um"][1] <= 60
        assert 150 <= limits["tb_sp_um"][0] < limits["tb_sp_um"][1] <= 300
        assert 100 <= limits["ct_th_um"][0] < limits["ct_th_um"][1] <= 250
        assert 900 <= limits["trabecular_mg_ha_cm3"][0] < limits["cortical_mg_ha_cm3"][1] <= 1100


def test_seed_and_site_tell_bones_apart() -> None:
    assert draw_murine_specimen("femur", 5) == draw_murine_specimen("femur", 5)
    assert draw_murine_specimen("femur", 5) != draw_murine_specimen("femur", 6)
    assert draw_murine_specimen("femur", 5).tb_th_um != draw_murine_specimen("spine", 5).tb_th_um


@pytest.mark.parametrize(
    ("site", "seed", "cause"), [("tibia", 0, "must be femur or spine, got 'tibia'"), ("spine", -1, ">= 0, got -1")]
)
def test_wrong_arguments(site: MurineSite, seed: int, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        draw_murine_specimen(site, seed)
