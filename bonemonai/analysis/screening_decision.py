"""What three probabilities of a subject suggest, in the paper's words, and when to suggest nothing.

The paper draws probabilities as a pie and says in words how a radiologist may read it: where one class has an
"overwhelming advantage", where it has none, and where classes are "comparable". It gives no number. The thresholds here
are ours. They mean something only if probabilities do: fit a temperature first, see
:func:`bonemonai.analysis.fit_temperature`. Research wording; nothing here is a diagnosis or a recommendation to a
patient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from bonemonai.analysis.classification_scores import SAME_PROBABILITY, UNDECIDED, highest_class
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.errors import InputError

SURE = 0.8  # ours: the paper's one printed pie, called a clear case, has 0.9933
BAND = 0.2  # ours

_SUM_TOLERANCE = 1e-3  # four printed digits of three classes
_LEAST_ANSWERED = 10  # ours: an error rate of fewer is chance

_ADVICE = {
    "sure, normal": "probability of normal bone mass is high; Tang et al. read this as a very low risk of osteoporosis",
    "normal, not sure": (
        "normal bone mass is most probable, but not by far; Tang et al. leave the risk to the radiologist's judgement"
    ),
    "sure, reduced": (
        "probability of {answer} is high; Tang et al. suggest regular measurement of BMD, treatment being the"
        " physician's choice"
    ),
    "reduced, not sure": "{answer} is most probable, but not by far; Tang et al. suggest further examination",
    "comparable": (
        "{likely} have comparable probabilities; nothing is answered, Tang et al. suggest further examination"
    ),
}


class ScreeningDecision(NamedTuple):
    """How the probabilities of a subject may be read.

    Attributes:
        answer: the most probable class, or "undecided".
        probability: of the most probable class, in [0, 1].
        margin: by which it exceeds the second, in [0, 1].
        rule: "sure, normal", "normal, not sure", "sure, reduced", "reduced, not sure" or "comparable".
        advice: one line of research wording.
    """

    answer: str
    probability: float
    margin: float
    rule: str
    advice: str


class ChosenBand(NamedTuple):
    """A band, and what it does on the subjects that it was chosen on, where it looks better than it is.

    Attributes:
        band: least margin of an answer.
        coverage: share of subjects with an answer.
        error_rate: share of wrong answers among the answers.
        upper: upper bound of the error rate, one-sided, for a band fixed beforehand (Clopper-Pearson).
        answered: count.
        subjects: count.
    """

    band: float
    coverage: float
    error_rate: float
    upper: float
    answered: int
    subjects: int


def decide(
    probabilities: Sequence[float] | NDArray[np.floating[Any]], *, sure: float = SURE, band: float = BAND
) -> ScreeningDecision:
    """Read the probabilities of one subject.

    Two classes within ``band`` of each other are comparable, and nothing is answered. Otherwise the most probable class
    is, as sure from ``sure`` on. The paper tells high from comparable only; what lies between, for low bone mass and
    osteoporosis, is read as the more careful of the two: further examination.

    Args:
        probabilities: of :data:`bonemonai.analysis.SCREENING_CLASSES`, in this order, calibrated; they sum to 1.
        sure: least probability that is called high, in (0, 1].
        band: least margin of an answer, in [0, 1]. At 0 only equal probabilities (to 1e-9) are undecided.

    Returns:
        Answer, probability, margin, rule and advice.

    Raises:
        InputError: if the probabilities are not three numbers that sum to 1.
        ValueError: if ``sure`` or ``band`` is out of range.

    Source:
        Tang et al., 3.5 and Fig. 9 (the pies), 4. Thresholds and the rule between are ours.

    Example:
        >>> decide([0.9933, 0.0065, 0.0002]).rule
        'sure, normal'
        >>> decide([0.1, 0.48, 0.42]).answer
        'undecided'
    """
    _check_thresholds(sure, band)
    values = _checked(np.asarray(probabilities, dtype=np.float64)[None])
    if values.shape[1] != len(SCREENING_CLASSES):
        raise InputError("probabilities", f"must be of {', '.join(SCREENING_CLASSES)}, got {values.shape[1]}.")
    order = np.argsort(-values[0], kind="stable")
    best, margin = float(values[0, order[0]]), float(_margins(values)[0])
    if not _answered(values, band)[0]:
        answer, rule = UNDECIDED, "comparable"
    else:
        answer = SCREENING_CLASSES[order[0]]
        kind = "normal" if order[0] == 0 else "reduced"
        rule = f"sure, {kind}" if best >= sure else f"{kind}, not sure"
    near = [
        name for name, p in zip(SCREENING_CLASSES, values[0], strict=True) if best - p < max(band, SAME_PROBABILITY)
    ]
    advice = _ADVICE[rule].format(answer=answer, likely=" and ".join(near))
    return ScreeningDecision(answer, best, margin, rule, advice)


def decide_subjects(subjects: pd.DataFrame, *, sure: float = SURE, band: float = BAND) -> pd.DataFrame:
    """Read the probabilities of every subject, see :func:`decide`.

    Args:
        subjects: one row a subject, as :func:`bonemonai.analysis.subject_probabilities` returns: ``subject`` and
            ``probability_<class>`` of the three classes.
        sure: least probability that is called high, in (0, 1].
        band: least margin of an answer, in [0, 1].

    Returns:
        One row a subject: ``subject``, ``answer``, ``probability``, ``margin``, ``rule`` and ``advice``.

    Raises:
        InputError: if a column is missing, or see :func:`decide`.
        ValueError: if ``sure`` or ``band`` is out of range.
    """
    columns = [f"probability_{name}" for name in SCREENING_CLASSES]
    missing = [name for name in ("subject", *columns) if name not in subjects]
    if missing:
        raise InputError("subjects", f"have no column {', '.join(missing)}; average the slices' probabilities first.")
    _check_thresholds(sure, band)
    rows = [decide(row, sure=sure, band=band) for row in subjects[columns].to_numpy(np.float64)]
    table = pd.DataFrame(rows, columns=list(ScreeningDecision._fields))
    table.insert(0, "subject", subjects["subject"].to_numpy())
    return table


def coverage_table(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    bands: Sequence[float] | NDArray[np.floating[Any]] | None = None,
) -> pd.DataFrame:
    """Count what answering less often is worth.

    Args:
        probabilities: (n, C), one row a subject (not a slice: a subject is answered once), each sums to 1.
        labels: (n,), index of the true class.
        bands: to be tried, in [0, 1]; 0, 0.05, ... 1 by default.

    Returns:
        One row a band, ascending: ``band``, ``answered`` (count), ``coverage`` (share), ``errors`` (count of wrong
        answers), ``error_rate`` and ``accuracy`` (shares of the answers; NaN without any) and ``subjects``.

    Raises:
        InputError: if the arrays do not fit each other, there is no subject, or a row is no distribution.
        ValueError: if a band is out of range.

    Source:
        Selective prediction: El-Yaniv and Wiener, Journal of Machine Learning Research 11:1605-1641, 2010. Ours here.
    """
    values = _checked(probabilities)
    right = _right(values, labels)
    tried = np.unique(np.linspace(0, 1, 21) if bands is None else np.asarray(bands, dtype=np.float64))
    if not tried.size or not ((tried >= 0) & (tried <= 1)).all():
        raise ValueError(f"bands must be one or more in [0, 1], got {tried.tolist()}.")
    rows = []
    for band in tried:
        answered = _answered(values, float(band))
        count, errors = int(answered.sum()), int((answered & ~right).sum())
        rate = errors / count if count else math.nan
        rows.append((float(band), count, count / len(right), errors, rate, 1 - rate))
    columns = ["band", "answered", "coverage", "errors", "error_rate", "accuracy"]
    return pd.DataFrame(rows, columns=columns).assign(subjects=len(right))


def choose_band(
    probabilities: NDArray[np.floating[Any]],
    labels: NDArray[np.integer[Any]],
    *,
    error_rate: float,
    confidence: float = 0.95,
    bounded: bool = False,
) -> ChosenBand:
    """Find the narrowest band with which answers are wrong no more often than is wanted.

    Choose on validation subjects, never on those that are tested. The rate that is met here is an optimistic one, for
    the band was chosen to meet it; with ``bounded`` its upper bound must, which is stricter, though for a band chosen
    among many no guarantee either.

    Args:
        probabilities: (n, C), one row a validation subject, each sums to 1.
        labels: (n,), index of the true class.
        error_rate: wanted, share of wrong answers among the answers, in [0, 1).
        confidence: of the upper bound, in (0, 1).
        bounded: whether the upper bound, and not the rate itself, is to be as low.

    Returns:
        The band, and what it does on these subjects.

    Raises:
        InputError: if no band with ten answers or more is as good, or see :func:`coverage_table`.
        ValueError: if ``error_rate`` or ``confidence`` is out of range.

    Source:
        Geifman and El-Yaniv, Selective Classification for Deep Neural Networks, NIPS 2017: the idea, without its
        correction for the number of bands. Clopper and Pearson, Biometrika 26:404-413, 1934. The least ten are ours.
    """
    if not 0 <= error_rate < 1 or not 0 < confidence < 1:
        raise ValueError(f"error_rate must be in [0, 1) and confidence in (0, 1), got {error_rate} and {confidence}.")
    values = _checked(probabilities)
    bands = np.unique(np.concatenate([[0.0], _margins(values)]))
    right = _right(values, labels)
    for band in bands.tolist():
        answered = _answered(values, band)
        count, errors = int(answered.sum()), int((answered & ~right).sum())
        if count < _LEAST_ANSWERED:
            break
        upper = _upper(errors, count, confidence)
        if (upper if bounded else errors / count) <= error_rate:
            return ChosenBand(band, count / len(right), errors / count, upper, count, len(right))
    what = f"no band with {_LEAST_ANSWERED} answers or more that are wrong in {error_rate:g} at most"
    raise InputError("validation subjects", f"({len(values)}) give {what}; allow more errors, or validate on more.")


def _upper(errors: int, answered: int, confidence: float) -> float:
    """Clopper and Pearson's upper bound of a share, one-sided."""
    return float(beta.ppf(confidence, errors + 1, answered - errors)) if errors < answered else 1.0


def _check_thresholds(sure: float, band: float) -> None:
    if not 0 < sure <= 1 or not 0 <= band <= 1:
        raise ValueError(f"sure must be in (0, 1] and band in [0, 1], got {sure} and {band}.")


def _checked(probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    values = np.asarray(probabilities, dtype=np.float64)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise InputError("probabilities", f"have shape {values.shape}; want (subjects, classes), one row or more.")
    wrong = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError("probabilities", f"are {values[row].tolist()} in row {row}; they sum to 1: apply softmax.")
    return values


def _margins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """By how much the highest probability exceeds the second, (n, C) -> (n,)."""
    ordered = np.sort(values, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2], dtype=np.float64)


def _answered(values: NDArray[np.float64], band: float) -> NDArray[np.bool_]:
    """Whether the margin is as wide as the band; equal probabilities (to rounding) never are."""
    tied = highest_class(values, SAME_PROBABILITY) == values.shape[1]
    return np.asarray((_margins(values) >= band) & ~tied, dtype=np.bool_)


def _right(values: NDArray[np.float64], labels: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    if labels.shape != values.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
        raise InputError("labels", f"are {labels.dtype} of shape {labels.shape}; want ({len(values)},) integers.")
    if labels.min() < 0 or labels.max() >= values.shape[1]:
        raise InputError("labels", f"are in [{labels.min()}, {labels.max()}]; classes are 0 to {values.shape[1] - 1}.")
    return np.asarray(values.argmax(axis=1) == labels, dtype=np.bool_)
