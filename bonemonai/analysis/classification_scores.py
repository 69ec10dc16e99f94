"""Patch predictions become decisions a patient, and scores with intervals over patients.

A table of predictions has one row a patch: ``subject`` (pseudonym of the patient), ``diagnosis`` (true class),
``plane``, ``row``, ``column`` (voxels) and ``logit_<class>`` for each class. Scores are shares in [0, 1].
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import bootstrap

from bonemonai.errors import InputError

Level = Literal["patch", "patient"]

UNDECIDED = "undecided"

_PREFIX = "logit_"
_COLUMNS = ("subject", "diagnosis", "plane", "row", "column")
_METRICS = ("accuracy", "precision", "recall", "f1")
_LEAST_PATIENTS = 3  # a class, for an interval
SAME_PROBABILITY = 1e-9  # means that are closer differ by rounding, and that is no reason for a diagnosis


def classes_of(predictions: pd.DataFrame) -> list[str]:
    """Name the classes of a table of predictions, which is checked.

    Args:
        predictions: one row a patch, see the module.

    Returns:
        What follows ``logit_``, in the order of the columns.

    Raises:
        InputError: if a column is missing, there is no row or fewer than two classes, a class is named "undecided", a
            logit is no finite number, a patch has no subject, a diagnosis is no class, or a subject has two diagnoses.
    """
    classes = _named_classes(predictions)
    _check_logits(predictions, classes)
    _check_subjects(predictions, classes)
    return classes


def logits_and_labels(predictions: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the arrays behind a table of predictions.

    Args:
        predictions: one row a patch, see the module.

    Returns:
        Logits (n, C), and the index of each patch's true class (n,).

    Raises:
        InputError: see :func:`classes_of`.
    """
    classes = classes_of(predictions)
    return _logits(predictions, classes), _index(predictions["diagnosis"], classes)


def patient_decisions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Decide on each patient by the majority of its patches.

    A patch votes for the class of its highest logit, and for none where two share it. Ours: where classes have equally
    many votes, the larger mean probability decides; where that is equal too (to 1e-9) the decision is "undecided",
    which counts as wrong, for the order of the columns is no reason for a diagnosis.

    Args:
        predictions: one row a patch, see the module.

    Returns:
        One row a subject, sorted: ``subject``, ``diagnosis``, ``patches`` (count), ``votes_<class>`` (share of the
        patches), ``probability_<class>`` (mean softmax) and ``decision``.

    Raises:
        InputError: see :func:`classes_of`.

    Source:
        Poles et al., III: "majority voting per patient". The ties are ours.
    """
    classes = classes_of(predictions)
    logits, _ = logits_and_labels(predictions)
    subject = predictions["subject"].to_numpy()
    voted = pd.DataFrame(highest_class(logits)[:, None] == np.arange(len(classes))).groupby(subject)
    probability = pd.DataFrame(softmax(logits, axis=1)).groupby(subject).mean()
    votes = voted.sum().to_numpy()
    leading = votes == votes.max(axis=1, keepdims=True)
    decision = highest_class(np.where(leading, probability.to_numpy(), -np.inf), SAME_PROBABILITY)
    table = predictions["diagnosis"].groupby(subject).agg(diagnosis="first", patches="size")
    table[[f"votes_{name}" for name in classes]] = voted.mean()
    table[[f"probability_{name}" for name in classes]] = probability
    table["decision"] = np.array([*classes, UNDECIDED], dtype=object)[decision]
    return table.rename_axis("subject").reset_index()


def score_predictions(
    predictions: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Score predictions a patch and a patient, with intervals over patients.

    Precision and recall are means over classes, precision being 0 for a class that is never predicted; F1 is their
    harmonic mean, not the mean of the classes' F1. All three are NaN where a class has no patient.

    Intervals are percentiles of a bootstrap that draws patients, not patches: patches of one patient resemble each
    other, and drawing them singly would give widths too small. Each class's patients are drawn apart, so that every
    resample has all classes. Low and high are NaN where a class has fewer than three patients: one patient always
    draws itself, which would pretend a width. With few more they are coarse, and rather too narrow.

    Args:
        predictions: one row a patch, see the module.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws; the order of the rows changes nothing.

    Returns:
        Eight rows: ``level`` ("patch", "patient"), ``metric`` ("accuracy", "precision", "recall", "f1"), ``value``,
        ``low``, ``high``, and the counts of ``patches`` and ``patients`` behind them.

    Raises:
        InputError: see :func:`classes_of`.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        Poles et al., Table I (b). Inferred: its F1 is the harmonic mean of its precision and recall, and its recall
        goes with its accuracy, as a mean over classes does. Percentile bootstrap: Efron and Tibshirani, An
        Introduction to the Bootstrap, 1993, chapter 13. The intervals are ours, the paper has none.
    """
    if resamples < 2 or not 0 < confidence < 1:
        raise ValueError(f"resamples must be >= 2 and confidence in (0, 1), got {resamples} and {confidence}.")
    tables = []
    for level in get_args(Level):
        counts = _counts(predictions, level)
        low, high = _interval(counts, resamples, confidence, seed)
        scores = {"value": _scores(counts.sum(axis=0)), "low": low, "high": high}
        tables.append(pd.DataFrame({"level": level, "metric": _METRICS, **scores}))
    patients = predictions["subject"].nunique()
    return pd.concat(tables, ignore_index=True).assign(patches=len(predictions), patients=patients)


def confusion(predictions: pd.DataFrame, level: Level) -> pd.DataFrame:
    """Count decisions by true class.

    Args:
        predictions: one row a patch, see the module.
        level: "patch" or "patient".

    Returns:
        Counts: a row a true class (``diagnosis``), a column a predicted class (``decision``), and a last column
        "undecided" where there are any, see :func:`patient_decisions`.

    Raises:
        InputError: see :func:`classes_of`.
        ValueError: if the level is another.
    """
    classes = classes_of(predictions)
    counts = _counts(predictions, level).sum(axis=0)
    columns = [*classes, UNDECIDED] if counts[:, -1].any() else classes
    return pd.DataFrame(
        counts[:, : len(columns)],
        index=pd.Index(classes, name="diagnosis"),
        columns=pd.Index(columns, name="decision"),
    )


def highest_class(values: NDArray[np.float64], tolerance: float = 0.0) -> NDArray[np.int64]:
    """Index of each row's highest value.

    Args:
        values: (n, C).
        tolerance: values that are closer to the highest share its place.

    Returns:
        (n,), in [0, C]; C where several are the highest.

    Example:
        >>> highest_class(np.array([[0.1, 0.9], [0.5, 0.5]]))
        array([1, 2])
    """
    highest = values >= values.max(axis=1, keepdims=True) - tolerance
    return np.asarray(np.where(highest.sum(axis=1) == 1, highest.argmax(axis=1), values.shape[1]), dtype=np.int64)


def _named_classes(predictions: pd.DataFrame) -> list[str]:
    missing = [name for name in _COLUMNS if name not in predictions]
    if missing:
        raise InputError("predictions", f"have no column {', '.join(missing)}; predict the patches again.")
    classes = [str(name).removeprefix(_PREFIX) for name in predictions if str(name).startswith(_PREFIX)]
    if len(set(classes)) < 2 or len(set(classes)) < len(classes) or UNDECIDED in classes:
        found = ", ".join(classes) or "none"
        rule = f'needs two classes or more, each once and none named "{UNDECIDED}"'
        raise InputError("predictions", f"have the logits of: {found}; a score {rule}.")
    if predictions.empty:
        raise InputError("predictions", "have no row; choose scans that yield patches.")
    return classes


def _logits(predictions: pd.DataFrame, classes: list[str]) -> NDArray[np.float64]:
    # what is no number becomes NaN, which the check names
    columns = (pd.to_numeric(predictions[_PREFIX + name], errors="coerce") for name in classes)
    return np.stack([column.to_numpy(np.float64, na_value=np.nan) for column in columns], axis=1)


def _index(names: pd.Series[str], classes: list[str]) -> NDArray[np.int64]:
    return np.asarray(pd.Index(classes).get_indexer(pd.Index(names)), dtype=np.int64)


def _check_logits(predictions: pd.DataFrame, classes: list[str]) -> None:
    bad = np.argwhere(~np.isfinite(_logits(predictions, classes)))
    if len(bad):
        row, name = int(bad[0, 0]), _PREFIX + classes[bad[0, 1]]
        value = predictions[name].iloc[row]
        cure = "check the weights and the patch, and predict again"
        raise InputError("predictions", f"hold {name} = {value} in row {row}; logits are finite numbers: {cure}.")


def _check_subjects(predictions: pd.DataFrame, classes: list[str]) -> None:
    pairs = predictions[["subject", "diagnosis"]].drop_duplicates()
    if pairs["subject"].isna().any():
        raise InputError("predictions", "hold a patch without a subject; name the patient of each scan.")
    unknown = pairs[~pairs["diagnosis"].isin(classes)]
    if len(unknown):
        subject, diagnosis = unknown.iloc[0]
        rule = f"the classes are {', '.join(classes)}: correct the manifest"
        raise InputError("predictions", f"give subject {subject} the diagnosis {diagnosis}, but {rule}.")
    twice = pairs[pairs["subject"].duplicated(keep=False)].sort_values(["subject", "diagnosis"])
    if len(twice):
        first, second = twice["diagnosis"].iloc[:2]
        subject = twice["subject"].iloc[0]
        raise InputError("predictions", f"call subject {subject} {first} and {second}; correct the manifest.")


def _counts(predictions: pd.DataFrame, level: Level) -> NDArray[np.int64]:
    """Confusion matrix of each patient, (patients, C, C + 1): true class, decision; the last one is undecided."""
    if level not in get_args(Level):
        raise ValueError(f"level must be one of {', '.join(get_args(Level))}, got {level}.")
    logits, labels = logits_and_labels(predictions)
    found = highest_class(logits)
    patient, subjects = pd.factorize(predictions["subject"].to_numpy(), sort=True)
    if level == "patient":
        table = patient_decisions(predictions)
        outcomes = [*classes_of(predictions), UNDECIDED]
        patient, first = np.unique(patient, return_index=True)
        labels, found = labels[first], _index(table["decision"], outcomes)
    counts = np.zeros((len(subjects), logits.shape[1], logits.shape[1] + 1), dtype=np.int64)
    np.add.at(counts, (patient, labels, found), 1)
    return counts


def _scores(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Accuracy, macro precision, macro recall and F1 of confusion matrices, (..., C, C + 1) -> (4, ...)."""
    true, found = counts.sum(axis=-1), counts.sum(axis=-2)[..., :-1]
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    # a class without patients has no recall, and a mean over the others would pass for one over all
    share = np.where(true > 0, right, np.nan)
    precision = (share / np.maximum(found, 1)).mean(axis=-1)
    recall = (share / np.maximum(true, 1)).mean(axis=-1)
    return np.stack([right.sum(axis=-1) / true.sum(axis=-1), precision, recall, _harmonic_mean(precision, recall)])


def _harmonic_mean(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return 2 * a * b / np.where(a + b == 0, 1, a + b)


def _interval(
    counts: NDArray[np.int64], resamples: int, confidence: float, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Low and high of each metric, (4,) each."""
    members = [np.flatnonzero(of_class.any(axis=-1)) for of_class in counts.swapaxes(0, 1)]
    if min(map(len, members)) < _LEAST_PATIENTS:
        return np.full(len(_METRICS), np.nan), np.full(len(_METRICS), np.nan)

    def statistic(*drawn: NDArray[np.int64], axis: int) -> NDArray[np.float64]:
        return _scores(counts[np.concatenate(drawn, axis=axis)].sum(axis=-3))

    result = bootstrap(
        members,
        statistic,
        n_resamples=resamples,
        batch=100,  # bounds the memory
        vectorized=True,
        axis=-1,
        confidence_level=confidence,
        method="percentile",
        random_state=np.random.default_rng(seed),
    )
    return result.confidence_interval.low, result.confidence_interval.high
