from __future__ import annotations

import numpy as np
import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms.lumbar_subject import VBMD_RANGES, BoneClass, draw_subject


@pytest.mark.parametrize("label", list(VBMD_RANGES))
def test_density_is_within_the_classs_range(label: BoneClass) -> None:
    drawn = np.array([draw_subject(label, seed).vbmd_mg_cm3 for seed in range(300)])
    low, high = VBMD_RANGES[label]
    assert low < drawn.min()
    assert drawn.max() < high
    assert drawn.std() > 0.15 * (high - low)


def test_limits_are_those_of_quantitative_ct() -> None:
    assert VBMD_RANGES["osteoporosis"][1] == VBMD_RANGES["low bone mass"][0] == 80
    assert VBMD_RANGES["low bone mass"][1] == VBMD_RANGES["normal"][0] == 120


def test_density_is_the_mean_of_l1_and_l2() -> None:
    for seed in range(20):
        assert np.mean(draw_subject("normal", seed).level_density[:2]) == pytest.approx(1)


def test_what_comes_with_low_density_overlaps_between_classes() -> None:
    of = {label: [draw_subject(label, seed) for seed in range(200)] for label in VBMD_RANGES}  # type: ignore[arg-type]
    for name, sign in (("age_years", 1), ("marrow_fat", 1), ("strut_spacing_mm", 1), ("cortex", -1)):
        normal, porous = (np.array([getattr(s, name) for s in of[label]]) for label in ("normal", "osteoporosis"))
        assert sign * (porous.mean() - normal.mean()) > 0.5 * normal.std()
        assert (sign * normal).max() > (sign * porous).min()


def test_a_seed_gives_one_subject() -> None:
    assert draw_subject("normal", 3) == draw_subject("normal", 3)
    assert draw_subject("normal", 3) != draw_subject("normal", 4)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(InputError, match="label: must be one of normal, low bone mass, osteoporosis, got 'osteopenia'"):
        draw_subject("osteopenia", 0)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="seed: must be >= 0"):
        draw_subject("normal", -1)
