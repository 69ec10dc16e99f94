from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import auc, roc_auc_score

from bonemonai.analysis import delong_auc, roc_points
from bonemonai.analysis.roc import pairwise_wins


def sample(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores are of few values, so that many are tied."""
    rng = np.random.default_rng(seed)
    positive = np.arange(rng.integers(4, 40)) < 2
    positive |= rng.random(len(positive)) < 0.4
    positive[-2:] = False
    return positive, rng.integers(0, rng.integers(2, 30), len(positive)) / 7 + positive * rng.random()


def brute_force(ups: np.ndarray, downs: np.ndarray) -> tuple[float, float]:
    """DeLong et al., eqs. for the structural components, pair by pair."""
    kernel = np.zeros((len(ups), len(downs)))
    for i, j in itertools.product(range(len(ups)), range(len(downs))):
        kernel[i, j] = 1.0 if ups[i] > downs[j] else 0.5 if ups[i] == downs[j] else 0.0
    area = kernel.mean()
    s10 = sum((v - area) ** 2 for v in kernel.mean(axis=1)) / (len(ups) - 1)
    s01 = sum((v - area) ** 2 for v in kernel.mean(axis=0)) / (len(downs) - 1)
    return float(area), float(s10 / len(ups) + s01 / len(downs))


@given(st.integers(0, 100_000))
@settings(max_examples=100)
def test_agrees_with_brute_force_and_scikit_learn(seed: int) -> None:
    positive, scores = sample(seed)
    found = delong_auc(positive, scores)
    area, variance = brute_force(scores[positive], scores[~positive])
    assert found.value == pytest.approx(area)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    assert found.variance == pytest.approx(variance, abs=1e-14)
    if found.variance:
        assert 0 <= found.low <= found.value <= found.high <= 1


def test_by_hand() -> None:
    """Of 0.9 and 0.6 both negatives are below, of 0.4 one of two: components (1, 1, 1/2) and (2/3, 1)."""
    found = delong_auc(np.array([1, 1, 1, 0, 0], dtype=bool), np.array([0.9, 0.6, 0.4, 0.5, 0.3]))
    assert found.value == pytest.approx(5 / 6)
    assert found.variance == pytest.approx((1 / 12) / 3 + (1 / 18) / 2)
    assert found.low == pytest.approx(5 / 6 - 1.959964 * math.sqrt(1 / 18))
    assert found.high == 1.0


def test_published_example() -> None:
    """From the read-me of the package pauc: AUC 0.708, 95 % interval 0.378 to 1.000."""
    positive = np.array([0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1], dtype=bool)
    scores = np.array([0.1, 0.35, 0.24, 0.8, 0.2, 0.85, 0.13, 0.85, 0.74, 0.58, 0.71, 0.25])
    found = delong_auc(positive, scores)
    assert [round(found.value, 3), round(found.low, 3), round(found.high, 3)] == [0.708, 0.378, 1.0]


@given(st.integers(0, 100_000))
@settings(max_examples=30)
def test_order_and_scale_change_nothing_and_the_reverse_mirrors(seed: int) -> None:
    positive, scores = sample(seed)
    order = np.random.default_rng(seed).permutation(len(scores))
    found = delong_auc(positive, scores)
    for other in (delong_auc(positive[order], scores[order]), delong_auc(positive, scores * 8 + 1)):
        assert other.value == pytest.approx(found.value)
        assert other.variance == pytest.approx(found.variance, abs=1e-14)
    mirrored = delong_auc(~positive, scores)
    assert mirrored.value == pytest.approx(1 - found.value)
    assert mirrored.variance == pytest.approx(found.variance, abs=1e-14)


def test_interval_covers_as_often_as_it_says() -> None:
    rng, truth, hits = np.random.default_rng(5), 0.7602499389065233, 0  # AUC of normals one SD apart
    positive = np.arange(120) < 60
    for _ in range(400):
        found = delong_auc(positive, rng.normal(size=120) + positive, confidence=0.9)
        hits += found.low <= truth <= found.high
    assert 0.85 < hits / 400 < 0.95


@pytest.mark.parametrize("scores", [[3, 2, 1, 0], [0, 1, 2, 3], [1, 1, 1, 1]])
def test_no_interval_without_variance(scores: list[float]) -> None:
    found = delong_auc(np.array([True, True, False, False]), np.array(scores, dtype=float))
    assert found.variance == 0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_one_positive_or_none() -> None:
    scores = np.array([0.3, 0.2, 0.4])
    one, none = (delong_auc(np.array(marks), scores) for marks in ([True, False, False], [False] * 3))
    assert one.value == 0.5
    assert math.isnan(one.variance)
    assert all(math.isnan(value) for value in none)
    assert roc_points(np.array([False] * 3), scores).empty


@given(st.integers(0, 100_000))
@settings(max_examples=30)
def test_points_enclose_the_area(seed: int) -> None:
    positive, scores = sample(seed)
    points = roc_points(positive, scores)
    x, y = points["one_minus_specificity"].to_numpy(), points["sensitivity"].to_numpy()
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert auc(x, y) == pytest.approx(delong_auc(positive, scores).value)
    for row in points[1:].itertuples():
        called = scores >= row.threshold
        assert row.sensitivity == pytest.approx(called[positive].mean())
        assert row.one_minus_specificity == pytest.approx(called[~positive].mean())


@given(st.integers(0, 100_000))
@settings(max_examples=30)
def test_wins_are_those_of_all_pairs(seed: int) -> None:
    positive, scores = sample(seed)
    subjects = np.random.default_rng(seed).integers(0, 5, len(scores))
    expected = np.zeros((6, 6))
    for i, j in itertools.product(np.flatnonzero(positive), np.flatnonzero(~positive)):
        expected[subjects[i], subjects[j]] += 1.0 if scores[i] > scores[j] else 0.5 * (scores[i] == scores[j])
    np.testing.assert_array_equal(pairwise_wins(positive, scores, subjects, 6), expected)


def test_refusals() -> None:
    positive = np.array([True, False])
    with pytest.raises(ValueError, match="scores must be finite, got nan"):
        delong_auc(positive, np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match=r"must be \(n,\), the first bool, got bool of shape \(2,\) and \(3,\)"):
        roc_points(positive, np.zeros(3))
    with pytest.raises(ValueError, match="the first bool, got int64"):
        delong_auc(positive.astype(np.int64), np.zeros(2))
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\), got 95"):
        delong_auc(positive, np.zeros(2), confidence=95)
