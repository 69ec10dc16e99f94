"""Agreement of two measurements of the same specimens: Bland and Altman's limits, a paired test, and ICC(2,1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bonemonai.errors import InputError

_SHARE = 0.95


class Estimate(NamedTuple):
    """A number and its confidence interval.

    Attributes:
        value: in the unit of what was measured, or 1.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float
    high: float


class Agreement(NamedTuple):
    """Agreement of a method with a reference over specimens.

    Attributes:
        pairs: number of specimens.
        bias: mean of method minus reference.
        lower_limit: of agreement, bias - 1.96 standard deviations of the differences.
        upper_limit: bias + 1.96 standard deviations.
        sd: standard deviation of the differences.
        t: of the paired t-test; nan if all differences are one.
        p: two-sided.
        icc: ICC(2,1), of absolute agreement.
    """

    pairs: int
    bias: Estimate
    lower_limit: Estimate
    upper_limit: Estimate
    sd: float
    t: float
    p: float
    icc: Estimate


def measure_agreement(
    method: Sequence[float] | NDArray[np.float64], reference: Sequence[float] | NDArray[np.float64]
) -> Agreement:
    """Compare a method with a reference, a pair of numbers a specimen; intervals are of 95 %.

    Give one pair a specimen: slices of one specimen are no independent pairs, and would make intervals too narrow.
    Limits suppose that differences are normal, and do not grow with size; look at the plot.

    Args:
        method: of each specimen.
        reference: of the same specimens.

    Raises:
        InputError: if numbers are not finite, not as many, or fewer than three pairs.

    Source:
        Bland & Altman, Stat Methods Med Res 8:135 (1999), 2 and 2.1, with the variance of a limit as
        s^2 (1 / n + 1.96^2 / (2 (n - 1))).

    Example:
        >>> found = measure_agreement([1.1, 2.0, 3.2, 3.9], [1.0, 2.1, 3.0, 4.0])
        >>> round(found.bias.value, 3), round(found.icc.value, 3)
        (0.025, 0.994)
    """
    table = _table([method, reference])
    difference = table[:, 0] - table[:, 1]
    n = len(difference)
    bias, sd = float(difference.mean()), float(difference.std(ddof=1))
    quantile = float(stats.t.ppf((1 + _SHARE) / 2, n - 1))
    z = float(stats.norm.ppf((1 + _SHARE) / 2))
    of_bias, of_limit = sd / math.sqrt(n), sd * math.sqrt(1 / n + z**2 / (2 * (n - 1)))
    t = bias / of_bias if of_bias else math.nan
    return Agreement(
        n,
        _around(bias, quantile * of_bias),
        _around(bias - z * sd, quantile * of_limit),
        _around(bias + z * sd, quantile * of_limit),
        sd,
        t,
        float(2 * stats.t.sf(abs(t), n - 1)),
        intraclass_correlation(table),
    )


def intraclass_correlation(ratings: NDArray[np.float64]) -> Estimate:
    """ICC(2,1): how far single measurements of a specimen by methods drawn at random agree, bias included.

    Args:
        ratings: (specimens, methods).

    Returns:
        With its 95 % interval; nan if all numbers are one.

    Raises:
        InputError: if numbers are not finite, or of fewer than three specimens or two methods.

    Source:
        Shrout & Fleiss, Psychol Bull 86:420 (1979), case 2; interval of McGraw & Wong, Psychol Methods 1:30 (1996),
        table 7, ICC(A,1).

    Example:
        >>> round(intraclass_correlation(np.array([[1.0, 2], [2, 3], [3, 4], [4, 5]])).value, 3)
        0.769
    """
    ratings = _table(ratings.T)
    n, k = ratings.shape
    total = ratings - ratings.mean()
    rows, columns = total.mean(axis=1), total.mean(axis=0)
    between = k * float(rows @ rows) / (n - 1)
    methods = n * float(columns @ columns) / (k - 1)
    rest = total - rows[:, None] - columns
    error = float((rest * rest).sum()) / ((n - 1) * (k - 1))
    below = between + (k - 1) * error + k * (methods - error) / n
    if below <= 0:
        return Estimate(math.nan, math.nan, math.nan)
    icc = (between - error) / below
    if error <= 0 or icc >= 1:
        exact = icc >= 1
        return Estimate(icc, icc if exact else math.nan, icc if exact else math.nan)
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    freedom = (a * methods + b * error) ** 2 / ((a * methods) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1)))
    upper = float(stats.f.ppf((1 + _SHARE) / 2, n - 1, freedom))
    lower = float(stats.f.ppf((1 + _SHARE) / 2, freedom, n - 1))
    spread = k * methods + (k * n - k - n) * error
    low = n * (between - upper * error) / (upper * spread + n * between)
    high = n * (lower * between - error) / (spread + n * lower * between)
    return Estimate(icc, low, high)


def _around(value: float, half: float) -> Estimate:
    return Estimate(value, value - half, value + half)


def _table(columns: Sequence[Sequence[float] | NDArray[np.float64]] | NDArray[np.float64]) -> NDArray[np.float64]:
    lengths = {len(column) for column in columns}
    if len(columns) < 2 or len(lengths) > 1 or min(lengths) < 3:
        found = " and ".join(str(len(column)) for column in columns)
        raise InputError("agreement", f"is of two or more methods and three or more specimens each, got {found}.")
    table = np.asarray(columns, dtype=np.float64).T
    if not np.isfinite(table).all():
        raise InputError("agreement", "is of finite numbers; leave specimens out that could not be measured.")
    return table
