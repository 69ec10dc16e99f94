from __future__ import annotations

import pytest

from bonemonai.analysis import ScreeningRules


def test_rules_are_checked_before_any_scan() -> None:
    for wrong, words in (
        ({"temperature": 0}, "temperature must be > 0"),
        ({"erosion_mm": -1}, "erosion_mm must be >= 0"),
        ({"sure": 1.5}, "sure"),
        ({"band": -0.1}, "band"),
    ):
        with pytest.raises(ValueError, match=words):
            ScreeningRules(**wrong)  # type: ignore[arg-type]


def test_an_answer_needs_all_three_probabilities() -> None:
    rules = ScreeningRules(sure=0.8, band=0.2)
    assert rules.decide([0.9, 0.05, 0.05])["answer"] == "normal"
    assert rules.decide([0.45, 0.4, 0.15])["answer"] == "undecided"
    assert rules.decide([None, None, None])["answer"] == "not screened"
    assert rules.decide([float("nan")] * 3)["answer"] == "not screened"
