"""Intervals that draw subjects, never their slices: slices of one patient resemble each other."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_LEAST_SUBJECTS = 3  # of a group, for an interval
_LEAST_SHARE = 0.95  # of the resamples must have a value, for an interval
_BATCH = 250  # resamples at once: bounds the memory


class Estimate(NamedTuple):
    """Values of a sample, with intervals.

    Attributes:
        value: (k,), of the subjects as they are.
        low: (k,), NaN where there is no interval.
        high: (k,), like ``low``.
    """

    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def resample_subjects(
    statistic: Callable[[NDArray[np.int64]], NDArray[np.float64]],
    groups: Sequence[Hashable],
    *,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Estimate:
    """Percentile intervals of numbers that are functions of how often each subject counts.

    Subjects are drawn with replacement within their group (their true class, where a study chose how many of each it
    has), so that every resample has all groups at their sizes. There is no interval where a group has fewer than three
    subjects, for one subject always draws itself, nor where more than one resample in twenty has no value. With few
    more subjects intervals are coarse, and rather too narrow.

    Args:
        statistic: of counts (b, n), how often each subject was drawn in each of b resamples, to values (b, k); NaN
            where a resample has none.
        groups: of each subject (n,), in an order that does not depend on the table's.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Returns:
        Value, low and high, (k,) each.

    Raises:
        ValueError: if there is no subject, or ``resamples`` or ``confidence`` is out of range.

    Source:
        Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13; the limits are ours.

    Example:
        >>> ages = np.array([30.0, 40.0, 50.0, 60.0])
        >>> found = resample_subjects(lambda drawn: (drawn @ ages / 4)[:, None], ["all"] * 4)
        >>> float(found.value[0]), bool(30 < found.low[0] < 45 < found.high[0] < 60)
        (45.0, True)
    """
    if resamples < 2 or not 0 < confidence < 1:
        raise ValueError(f"resamples must be >= 2 and confidence in (0, 1), got {resamples} and {confidence}.")
    if not len(groups):
        raise ValueError("groups must name one subject or more, got none.")
    value = statistic(np.ones((1, len(groups)), dtype=np.int64))[0]
    codes, names = pd.factorize(np.asarray(groups), sort=True)
    sizes = np.bincount(codes, minlength=len(names))
    if sizes.min() < _LEAST_SUBJECTS:
        return Estimate(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    rng, drawn = np.random.default_rng(seed), np.empty((resamples, len(groups)), dtype=np.int64)
    for code, size in enumerate(sizes):
        drawn[:, codes == code] = rng.multinomial(size, np.full(size, 1 / size), size=resamples)
    values = np.concatenate([statistic(drawn[start : start + _BATCH]) for start in range(0, resamples, _BATCH)])
    return Estimate(value, *_percentiles(values, confidence))


def _percentiles(values: NDArray[np.float64], confidence: float) -> NDArray[np.float64]:
    """Low and high, (2, k), of values (b, k)."""
    there = np.isfinite(values).mean(axis=0) >= _LEAST_SHARE
    bounds = np.full((2, values.shape[1]), np.nan)
    if there.any():
        tails = [(1 - confidence) / 2, (1 + confidence) / 2]
        bounds[:, there] = np.nanquantile(values[:, there], tails, axis=0)
    return bounds


def share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    """Divide; NaN, without a warning, where the whole is 0.

    Args:
        part: any shape.
        whole: of a shape that broadcasts with it.

    Example:
        >>> share(np.array([1, 0]), np.array([2, 0])).tolist()
        [0.5, nan]
    """
    whole = np.asarray(whole, dtype=np.float64)
    return np.asarray(part / np.where(whole == 0, np.nan, whole), dtype=np.float64)
