from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import binomtest

from bonemonai.analysis import SCREENING_CLASSES, choose_band, coverage_table, decide, decide_subjects
from bonemonai.errors import InputError


def subjects(n: int, seed: int = 0, skill: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    return softmax(rng.normal(0, 1, (n, 3)) + skill * np.eye(3)[labels], axis=1), labels


@pytest.mark.parametrize(
    ("probabilities", "answer", "rule"),
    [
        ((0.9933, 0.0065, 0.0002), "normal", "sure, normal"),  # the paper's first pie
        ((0.8, 0.1, 0.1), "normal", "sure, normal"),
        ((0.6, 0.3, 0.1), "normal", "normal, not sure"),
        ((0.05, 0.9, 0.05), "low bone mass", "sure, reduced"),
        ((0.0, 0.05, 0.95), "osteoporosis", "sure, reduced"),
        ((0.1, 0.65, 0.25), "low bone mass", "reduced, not sure"),
        ((0.1, 0.25, 0.65), "osteoporosis", "reduced, not sure"),
        ((0.1, 0.48, 0.42), "undecided", "comparable"),
        ((0.48, 0.42, 0.1), "undecided", "comparable"),
        ((1 / 3, 1 / 3, 1 / 3), "undecided", "comparable"),
    ],
)
def test_rules(probabilities: tuple[float, float, float], answer: str, rule: str) -> None:
    found = decide(probabilities)
    assert (found.answer, found.rule) == (answer, rule)
    assert found.probability == max(probabilities)
    assert found.margin == pytest.approx(sorted(probabilities)[-1] - sorted(probabilities)[-2])


def test_advice_is_research_wording() -> None:
    steps = np.linspace(0, 1, 11)
    seen = {}
    for a, b in itertools.product(steps, repeat=2):
        if a + b < 1 + 1e-9:
            found = decide((a, b, max(0.0, 1 - a - b)))
            seen[found.rule] = found.advice
            assert "\n" not in found.advice
            assert "{" not in found.advice
            assert not re.search(r"\b(diagnos|you|must|should|prescri|patient has)", found.advice)
            assert "Tang et al." in found.advice
    assert len(seen) == 5
    assert decide((0.4, 0.5, 0.1)).advice.startswith("normal and low bone mass have comparable probabilities; nothing")
    assert decide((0.0, 0.1, 0.9)).advice.startswith("probability of osteoporosis is high; Tang et al. suggest regular")


@given(st.integers(0, 100_000), st.floats(0, 1), st.floats(0.01, 1))
@settings(max_examples=60)
def test_properties(seed: int, band: float, sure: float) -> None:
    values = np.random.default_rng(seed).dirichlet(np.ones(3))
    found = decide(values, sure=sure, band=band)
    assert (found.answer == "undecided") == (found.margin < band)
    assert found.answer in (*SCREENING_CLASSES, "undecided")
    if found.answer != "undecided":
        assert found.answer == SCREENING_CLASSES[values.argmax()]
        assert found.rule.startswith("sure") == (values.max() >= sure)
    assert decide(values, band=0).answer != "undecided"


def test_ties_are_undecided_whatever_the_band() -> None:
    assert decide((0.45, 0.45, 0.1), band=0).answer == "undecided"
    assert decide((0.45 + 1e-12, 0.45, 0.1), band=0).answer == "undecided"
    table = coverage_table(np.array([[0.45, 0.45, 0.1], [0.2, 0.3, 0.5]]), np.array([0, 2]), bands=[0])
    assert table["answered"].tolist() == [1]


def test_table_of_subjects() -> None:
    values, _ = subjects(6)
    table = pd.DataFrame(values, columns=[f"probability_{name}" for name in SCREENING_CLASSES])
    table = table.assign(subject=[f"p{n}" for n in range(6)], slices=1, diagnosis="normal")
    found = decide_subjects(table, sure=0.7, band=0.1)
    assert found.columns.tolist() == ["subject", "answer", "probability", "margin", "rule", "advice"]
    assert found["subject"].tolist() == table["subject"].tolist()
    for row, each in zip(found.itertuples(), values, strict=True):
        assert tuple(row)[2:] == tuple(decide(each, sure=0.7, band=0.1))
    with pytest.raises(InputError, match=r"^subjects: have no column subject, probability_normal; average"):
        decide_subjects(table.drop(columns=["subject", "probability_normal"]))


@given(st.integers(0, 100_000))
@settings(max_examples=20)
def test_coverage_by_hand(seed: int) -> None:
    values, labels = subjects(40, seed, skill=1)
    table = coverage_table(values, labels)
    assert table["band"].tolist() == pytest.approx(np.linspace(0, 1, 21))
    for row in table.itertuples():
        answers = [decide(each, band=row.band).answer for each in values]
        answered = [(a, t) for a, t in zip(answers, labels, strict=True) if a != "undecided"]
        assert row.answered == len(answered)
        assert row.errors == sum(a != SCREENING_CLASSES[t] for a, t in answered)
    assert table["coverage"].is_monotonic_decreasing
    assert table["errors"].is_monotonic_decreasing
    assert table[["coverage", "error_rate", "accuracy"]].stack().dropna().between(0, 1).all()
    assert table["coverage"].iloc[0] == 1
    assert table["accuracy"].iloc[0] == pytest.approx((values.argmax(axis=1) == labels).mean())


def test_nobody_answered_has_no_error_rate() -> None:
    row = coverage_table(np.array([[0.5, 0.3, 0.2]]), np.array([0]), bands=[0.9]).iloc[0]
    assert row["answered"] == row["coverage"] == row["errors"] == 0
    assert math.isnan(row["error_rate"])
    assert math.isnan(row["accuracy"])


@given(st.integers(0, 100_000), st.sampled_from([0.05, 0.1, 0.2]))
@settings(max_examples=20)
def test_chosen_band_is_the_narrowest(seed: int, wanted: float) -> None:
    values, labels = subjects(120, seed)
    found = choose_band(values, labels, error_rate=wanted)
    assert found.error_rate <= wanted
    assert found.subjects == 120
    tried = coverage_table(values, labels, bands=np.linspace(0, 1, 301))
    narrower = tried[(tried["band"] < found.band) & (tried["answered"] > found.answered)]
    assert (narrower["error_rate"] > wanted).all()
    same = coverage_table(values, labels, bands=[found.band]).iloc[0]
    assert (same["answered"], same["coverage"], same["error_rate"]) == found[4:5] + found[1:3]


def test_upper_bound() -> None:
    values, labels = subjects(200, 3)
    loose, strict = (choose_band(values, labels, error_rate=0.1, bounded=bounded) for bounded in (False, True))
    assert strict.band > loose.band
    assert loose.error_rate <= 0.1 < loose.upper
    assert strict.upper <= 0.1
    errors = round(strict.error_rate * strict.answered)
    exact = binomtest(errors, strict.answered).proportion_ci(0.9)  # two-sided 90 % is one-sided 95 %
    assert strict.upper == pytest.approx(exact.high)


def test_no_band_is_good_enough() -> None:
    values, _ = subjects(30, 1)
    wrong = (values.argmax(axis=1) + 1) % 3
    with pytest.raises(InputError, match=r"^validation subjects: \(30\) give no band with 10 answers or more that are"):
        choose_band(values, wrong, error_rate=0.1)
    with pytest.raises(InputError, match=r"no band with 10 answers"):
        choose_band(values[:9], values[:9].argmax(axis=1), error_rate=0.1)
    assert choose_band(values, values.argmax(axis=1), error_rate=0).band == 0


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        ((0.5, 0.5), "must be of normal, low bone mass, osteoporosis, got 2"),
        ((0.5, 0.5, 0.5), r"are \[0.5, 0.5, 0.5\] in row 0; they sum to 1"),
        ((1.5, -0.5, 0.0), "they sum to 1"),
        ((math.nan, 0.5, 0.5), "they sum to 1"),
        ((), r"have shape \(1, 0\)"),
    ],
)
def test_refused_probabilities(probabilities: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=f"^probabilities: .*{message}"):
        decide(probabilities)


def test_refused_arrays() -> None:
    values, labels = subjects(5)
    for bad, message in (
        (labels[:4], r"are int64 of shape \(4,\); want \(5,\) integers"),
        (labels / 2, "are float64"),
        (labels + 2, r"are in \[\d, \d\]; classes are 0 to 2"),
    ):
        with pytest.raises(InputError, match=f"^labels: {message}"):
            coverage_table(values, bad)
    with pytest.raises(InputError, match=r"^probabilities: have shape \(0, 3\)"):
        coverage_table(values[:0], labels[:0])


def test_options_out_of_range() -> None:
    values, labels = subjects(5)
    for options in ({"sure": 0}, {"sure": 1.1}, {"band": -0.1}, {"band": 1.1}):
        with pytest.raises(ValueError, match=r"sure must be in \(0, 1\] and band in \[0, 1\]"):
            decide((1, 0, 0), **options)
    with pytest.raises(ValueError, match=r"bands must be one or more in \[0, 1\], got \[2.0\]"):
        coverage_table(values, labels, bands=[2])
    with pytest.raises(ValueError, match=r"error_rate must be in \[0, 1\) and confidence in \(0, 1\), got 1 and"):
        choose_band(values, labels, error_rate=1)
