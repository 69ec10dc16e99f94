"""ROC curves, and the area under them with DeLong's intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata
from sklearn.metrics import roc_curve


class Auc(NamedTuple):
    """Area under an ROC curve.

    Attributes:
        value: in [0, 1]; NaN without a positive or without a negative.
        variance: DeLong's; NaN with fewer than two of either.
        low: of the interval, in [0, 1]; NaN where the variance is 0 or NaN.
        high: of the interval.
    """

    value: float
    variance: float
    low: float
    high: float


def roc_points(positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> pd.DataFrame:
    """Sensitivity against 1 - specificity at every threshold; points on a straight line are left out.

    Args:
        positive: (n,), which are.
        scores: (n,), higher for positives.

    Returns:
        A row a point, from (0, 0) to (1, 1): ``threshold`` (called positive from there on; infinite at first),
        ``one_minus_specificity`` and ``sensitivity``, shares; no row without a positive or without a negative.

    Raises:
        ValueError: see :func:`delong_auc`.

    Source:
        Tang et al., eqs. (7) and (8), Fig. 6. Its text has specificity on the horizontal axis, its "false positive
        rate" is 1 - specificity.

    Example:
        >>> points = roc_points(np.array([True, False]), np.array([0.9, 0.1]))
        >>> points[["one_minus_specificity", "sensitivity"]].to_numpy().tolist()
        [[0.0, 0.0], [0.0, 1.0], [1.0, 1.0]]
    """
    _check(positive, scores)
    columns = ["threshold", "one_minus_specificity", "sensitivity"]
    if positive.all() or not positive.any():
        return pd.DataFrame(columns=columns, dtype=np.float64)
    false_positive, true_positive, threshold = roc_curve(positive, scores)
    return pd.DataFrame(dict(zip(columns, (threshold, false_positive, true_positive), strict=True)))


def delong_auc(positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]], *, confidence: float = 0.95) -> Auc:
    """Area under the ROC curve, its variance and a normal interval, cut to [0, 1].

    The variance takes the scores for independent: give one a subject, never one a slice. Where all positives score
    higher than all negatives (or the reverse) the variance is 0, and instead of an interval without width, which would
    pretend certainty, there is none.

    Args:
        positive: (n,), which are.
        scores: (n,), higher for positives; ties count one half.
        confidence: of the interval, in (0, 1).

    Returns:
        Value, variance, low and high.

    Raises:
        ValueError: if the shapes differ, a score is not finite, or ``confidence`` is out of range.

    Source:
        DeLong, DeLong and Clarke-Pearson, Biometrics 44:837-845, 1988; by midranks as in Sun and Xu, IEEE Signal
        Processing Letters 21:1389-1393, 2014, in O(n log n).

    Example:
        >>> found = delong_auc(np.array([1, 1, 1, 0, 0], dtype=bool), np.array([0.9, 0.6, 0.4, 0.5, 0.3]))
        >>> round(found.value, 4), round(found.variance, 4)
        (0.8333, 0.0556)
    """
    _check(positive, scores)
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.")
    ups, downs = scores[positive], scores[~positive]
    m, n = len(ups), len(downs)
    if not m or not n:
        return Auc(np.nan, np.nan, np.nan, np.nan)
    ranks = rankdata(np.concatenate([ups, downs]))  # midranks
    # of each positive, the share of negatives below it; of each negative, that of positives above
    over = (ranks[:m] - rankdata(ups)) / n
    under = 1 - (ranks[m:] - rankdata(downs)) / m
    value = float(over.mean())
    if min(m, n) < 2:
        return Auc(value, np.nan, np.nan, np.nan)
    variance = float(over.var(ddof=1) / m + under.var(ddof=1) / n)
    if variance <= np.finfo(np.float64).eps:  # rounding of a variance that is 0
        return Auc(value, 0.0, np.nan, np.nan)
    half = float(norm.ppf((1 + confidence) / 2)) * variance**0.5
    return Auc(value, variance, max(0.0, value - half), min(1.0, value + half))


def pairwise_wins(
    positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]], subjects: NDArray[np.integer[Any]], count: int
) -> NDArray[np.float64]:
    """Count, for every two subjects, the pairs of a positive and a negative image of which the positive scores higher.

    From this matrix follows the AUC of any resample of subjects, without another sorting.

    Args:
        positive: (n,), which images are.
        scores: (n,), ties count one half.
        subjects: (n,), index of each image's subject, in [0, count).
        count: of the subjects.

    Returns:
        (count, count): subject of the positive image, subject of the negative one.

    Raises:
        ValueError: see :func:`delong_auc`.
    """
    _check(positive, scores)
    wins = np.zeros((count, count))
    ups, owners = scores[positive], subjects[positive]
    for subject in np.unique(subjects[~positive]):
        downs = np.sort(scores[~positive & (subjects == subject)])
        below = (np.searchsorted(downs, ups, "left") + np.searchsorted(downs, ups, "right")) / 2
        wins[:, subject] = np.bincount(owners, weights=below, minlength=count)
    return wins


def _check(positive: NDArray[np.bool_], scores: NDArray[np.floating[Any]]) -> None:
    if positive.ndim != 1 or positive.shape != scores.shape or positive.dtype != bool:
        found = f"{positive.dtype} of shape {positive.shape} and {scores.shape}"
        raise ValueError(f"positive and scores must be (n,), the first bool, got {found}.")
    if not np.isfinite(scores).all():
        raise ValueError(f"scores must be finite, got {scores[~np.isfinite(scores)][0]}.")
