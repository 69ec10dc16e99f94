from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import bootstrap

from bonemonai.analysis import resample_subjects
from bonemonai.analysis.subject_bootstrap import share


def mean_of(values: np.ndarray) -> object:
    return lambda drawn: (drawn @ values / drawn.sum(axis=1))[:, None]


def test_bounds_are_those_of_all_resamples() -> None:
    values = np.array([0.13, 0.41, 1.0, 0.77, 0.02])
    exact = [np.mean(drawn) for drawn in itertools.product(values, repeat=5)]
    found = resample_subjects(mean_of(values), [0] * 5, resamples=50_000, confidence=0.7)  # type: ignore[arg-type]
    assert found.value == pytest.approx(values.mean())
    assert float(found.low[0]) == pytest.approx(np.quantile(exact, 0.15), abs=0.01)
    assert float(found.high[0]) == pytest.approx(np.quantile(exact, 0.85), abs=0.01)


def test_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).gamma(2, size=40)
    found = resample_subjects(mean_of(values), [0] * 40, resamples=20_000)  # type: ignore[arg-type]
    scipys = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", random_state=1).confidence_interval
    assert [found.low[0], found.high[0]] == pytest.approx([scipys.low, scipys.high], abs=0.02)


def test_groups_keep_their_sizes() -> None:
    groups, seen = ["a", "b"] * 3 + ["b"], []

    def statistic(drawn: np.ndarray) -> np.ndarray:
        seen.append(drawn)
        return np.zeros((len(drawn), 1))

    resample_subjects(statistic, groups, resamples=600)
    drawn = np.concatenate(seen[1:])
    assert drawn.shape == (600, 7)
    of_a = np.array(groups) == "a"
    assert (drawn[:, of_a].sum(axis=1) == 3).all()
    assert (drawn[:, ~of_a].sum(axis=1) == 4).all()
    assert drawn.max() > 1


def test_no_interval_for_two_subjects_of_a_group() -> None:
    found = resample_subjects(mean_of(np.arange(5.0)), ["a", "a", "a", "b", "b"])  # type: ignore[arg-type]
    assert found.value == pytest.approx(2)
    assert np.isnan(found.low[0])
    assert np.isnan(found.high[0])


@pytest.mark.parametrize(("without", "there"), [(10, True), (100, False)])
def test_no_interval_where_resamples_have_no_value(without: int, there: bool) -> None:
    def statistic(drawn: np.ndarray) -> np.ndarray:
        values = drawn[:, :1] + 1.0
        if len(drawn) > 1:
            values[: without // 2] = np.nan  # two batches of 250
        return values

    found = resample_subjects(statistic, [0] * 4, resamples=500)
    assert np.isfinite(found.low[0]) == there


def test_seed() -> None:
    statistic = mean_of(np.random.default_rng(2).random(9))
    first, again, other = (resample_subjects(statistic, [0] * 9, resamples=20, seed=seed) for seed in (1, 1, 2))  # type: ignore[arg-type]
    assert first.low == again.low
    assert first.low != other.low


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="resamples must be >= 2"):
        resample_subjects(mean_of(np.ones(3)), [0] * 3, resamples=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"confidence in \(0, 1\), got 2000 and 1.0"):
        resample_subjects(mean_of(np.ones(3)), [0] * 3, confidence=1.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="groups must name one subject or more"):
        resample_subjects(mean_of(np.ones(0)), [])  # type: ignore[arg-type]


def test_share_of_nothing() -> None:
    found = share(np.array([[1, 2], [0, 3]]), np.array([[2], [0]]))
    np.testing.assert_array_equal(found, [[0.5, 1.0], [np.nan, np.nan]])
