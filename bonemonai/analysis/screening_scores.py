"""Probabilities of normal bone, low bone mass and osteoporosis become scores a slice and a subject.

A table of predictions has one row an image: ``subject`` (pseudonym of the patient), ``diagnosis`` (true class), for
each class ``probability_<class>`` or ``logit_<class>`` (softmax is taken), and, where images are augmented copies,
``copy`` (0 for the slice itself, 1, 2, ... for its copies). Copies are evidence of no further patient: they are left
out, unless the paper's way is asked for. Where probabilities stand beside logits they count; they may be calibrated. A
row whose ``refusal`` says why there is no prediction is left out, and counted. Scores are shares in [0, 1].
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from bonemonai.analysis.classification_scores import (
    SAME_PROBABILITY,
    UNDECIDED,
    classes_of,
    highest_class,
    logits_and_labels,
)
from bonemonai.analysis.roc import delong_auc, pairwise_wins, roc_points
from bonemonai.analysis.subject_bootstrap import resample_subjects, share
from bonemonai.errors import InputError

ScreeningLevel = Literal["slice", "subject", "image"]

SCREENING_CLASSES = ("normal", "low bone mass", "osteoporosis")  # by falling density
CLASS_METRICS = ("precision", "sensitivity", "specificity", "f1")

_BEHIND = ["images", "subjects", "refused", "lost"]
_PROBABILITY, _LOGIT = "probability_", "logit_"
_SUM_TOLERANCE = 1e-3  # four printed digits of three classes


class _Images(NamedTuple):
    """What is scored: probabilities (n, C), true class (n,), subject (n,), each subject's true class, names."""

    probabilities: NDArray[np.float64]
    labels: NDArray[np.int64]
    subjects: NDArray[np.int64]
    truth: NDArray[np.int64]
    names: list[str]
    classes: list[str]

    @property
    def found(self) -> NDArray[np.int64]:
        """Decided class (n,), C where two share the highest probability."""
        return highest_class(self.probabilities, SAME_PROBABILITY)


def subject_probabilities(predictions: pd.DataFrame) -> pd.DataFrame:
    """Average each subject's slices, and decide.

    Args:
        predictions: see the module; copies are left out.

    Returns:
        One row a subject, sorted: ``subject``, ``diagnosis``, ``slices`` (count), ``probability_<class>`` (mean over
        the slices) and ``decision``, the most probable class; "undecided", which counts as wrong, where two classes
        share the highest probability to 1e-9.

    Raises:
        InputError: see :func:`score_screening`.

    Source:
        Ours: the paper scores images only.
    """
    slices = _images(predictions, "slice")
    subjects = _averaged(slices)
    outcomes = np.array([*slices.classes, UNDECIDED], dtype=object)
    table = pd.DataFrame({"subject": subjects.names, "diagnosis": outcomes[subjects.labels]})
    table["slices"] = np.bincount(slices.subjects)
    table[[_PROBABILITY + name for name in slices.classes]] = subjects.probabilities
    return table.assign(decision=outcomes[subjects.found])


def score_screening(
    predictions: pd.DataFrame,
    *,
    copies: bool = False,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Score predictions a slice and a subject, with intervals over subjects; or all images, the paper's way.

    Each class is scored against the others together. A class that is never predicted has no precision (NaN). AUC is
    that of the class's probability; the macro AUC is the plain mean over classes. Intervals are percentiles of a
    bootstrap that draws subjects within their true class, see :func:`bonemonai.analysis.resample_subjects`; AUCs of
    subjects have a second row with DeLong's interval, see :func:`bonemonai.analysis.delong_auc`. Slices of a subject
    are not independent, so theirs have none, but where each subject has one image.

    Args:
        predictions: see the module.
        copies: False scores un-augmented slices and subjects. True scores every image, augmented copies among them,
            as the paper does with 48 images a case; the many images make its scores no surer, so that intervals are
            over subjects here too.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws; the order of the rows changes nothing.

    Returns:
        Rows of ``level`` ("slice", then "subject"; only "image" with ``copies``), ``class`` ("all" for accuracy and
        the macro AUC), ``metric`` ("accuracy", "precision", "sensitivity", "specificity", "f1", "auc"), ``value``,
        ``interval`` ("bootstrap", "DeLong"), ``low``, ``high`` (NaN where there is none), the counts of ``images`` and
        ``subjects`` behind them, of ``refused`` images, and of ``lost`` subjects, which have no image but refused ones.

    Raises:
        InputError: if a column is missing, there is no un-augmented image, a probability or logit is no finite number,
            probabilities do not sum to 1, a subject is missing or has two diagnoses, or a diagnosis is no class.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        Tang et al., eqs. (5) to (8), Tables 4 and 5; the accuracy is the share of right images, as Table 5's is. F1,
        subjects and intervals are ours.
    """
    options: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    levels: tuple[ScreeningLevel, ...] = ("image",) if copies else ("slice", "subject")
    images = _images(predictions, levels[0])
    scored = [images, *([] if copies else [_averaged(images)])]
    tables = [_scored(each, **options).assign(level=level) for level, each in zip(levels, scored, strict=True)]
    table = pd.concat(tables, ignore_index=True).assign(images=len(images.labels), subjects=len(images.names))
    own = predictions if copies else without_copies(predictions, "predictions")
    table["refused"] = len(own) - len(images.labels)
    table["lost"] = own["subject"].nunique() - len(images.names)
    return table[["level", "class", "metric", "value", "interval", "low", "high", *_BEHIND]]


def screening_confusion(predictions: pd.DataFrame, level: ScreeningLevel = "subject") -> pd.DataFrame:
    """Count decisions by true class.

    Args:
        predictions: see the module.
        level: "slice" and "subject" leave copies out, "image" counts them too, as the paper's Fig. 7 does.

    Returns:
        Counts: a row a true class (``diagnosis``), a column a predicted class (``decision``), and a last column
        "undecided" where there are any.

    Raises:
        InputError: see :func:`score_screening`.
        ValueError: if the level is another.
    """
    images = _images(predictions, level)
    counts = _counts(images).sum(axis=0)
    columns = [*images.classes, UNDECIDED] if counts[:, -1].any() else images.classes
    return pd.DataFrame(
        counts[:, : len(columns)],
        index=pd.Index(images.classes, name="diagnosis"),
        columns=pd.Index(columns, name="decision"),
    )


def scores_of_confusion(counts: pd.DataFrame) -> pd.DataFrame:
    """Score counts, as those of a published figure.

    Args:
        counts: a row a true class, a column a predicted class in the same order, and optionally "undecided" last.

    Returns:
        Rows of ``class`` ("all" for the accuracy), ``metric`` and ``value``, see :func:`score_screening`.

    Raises:
        InputError: if rows and columns are not of the same classes, or a count is no whole number of 0 or more.

    Source:
        Tang et al., eqs. (5) to (8), Fig. 7, which ``data_manifests/paper_tang_confusion.csv`` holds.

    Example:
        >>> classes = ["normal", "osteoporosis"]
        >>> table = scores_of_confusion(pd.DataFrame([[3, 1], [0, 4]], index=classes, columns=classes))
        >>> table["value"].round(3).tolist()
        [0.875, 1.0, 0.75, 1.0, 0.857, 0.8, 1.0, 0.75, 0.889]
    """
    classes = [str(name) for name in counts.index]
    named = [str(name) for name in counts.columns]
    if len(classes) < 2 or named not in (classes, [*classes, UNDECIDED]):
        found = f"rows of {', '.join(classes) or 'none'} and columns of {', '.join(named) or 'none'}"
        raise InputError("confusion counts", f"have {found}; rows and columns name the same classes in one order.")
    values = counts.apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    if not (np.isfinite(values) & (values >= 0) & (values == np.rint(values))).all():
        raise InputError("confusion counts", "hold what is no count; counts are whole numbers of 0 or more.")
    padded = np.zeros((len(classes), len(classes) + 1))
    padded[:, : len(named)] = values
    return _named(classes).assign(value=confusion_scores(padded))


def confusion_scores(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Accuracy, then precision, sensitivity, specificity and F1 of each class.

    Args:
        counts: (..., C, C + 1), true class and decision, the last one being "undecided".

    Returns:
        (..., 1 + 4 C); NaN where nothing is divided by nothing.

    Source:
        Tang et al., eqs. (5) to (8).
    """
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    true, found = counts.sum(axis=-1), counts.sum(axis=-2)[..., :-1]
    total = true.sum(axis=-1, keepdims=True)
    wrong = found - right  # false positives
    per_class = (
        share(right, found),
        share(right, true),
        share(total - true - wrong, total - true),
        share(2 * right, true + found),
    )
    stacked = np.stack(per_class, axis=-1).reshape(*counts.shape[:-2], -1)
    return np.concatenate([share(right.sum(axis=-1, keepdims=True), total), stacked], axis=-1)


def screening_roc(predictions: pd.DataFrame, level: ScreeningLevel = "subject") -> pd.DataFrame:
    """ROC curve of each class against the others.

    Args:
        predictions: see the module.
        level: "slice", "subject" (mean probabilities), or "image", copies among them, as the paper's Fig. 6.

    Returns:
        Rows of ``class``, ``threshold``, ``one_minus_specificity`` and ``sensitivity``, see
        :func:`bonemonai.analysis.roc_points`; none for a class that no or every image is of.

    Raises:
        InputError: see :func:`score_screening`.
        ValueError: if the level is another.
    """
    images = _images(predictions, level)
    curves = [
        roc_points(images.labels == index, images.probabilities[:, index]).assign(**{"class": name})
        for index, name in enumerate(images.classes)
    ]
    return pd.concat(curves, ignore_index=True)[["class", "threshold", "one_minus_specificity", "sensitivity"]]


def _images(predictions: pd.DataFrame, level: ScreeningLevel) -> _Images:
    """The images of a level, checked."""
    if level not in get_args(ScreeningLevel):
        raise ValueError(f"level must be one of {', '.join(get_args(ScreeningLevel))}, got {level}.")
    table = _predicted(predictions if level == "image" else without_copies(predictions, "predictions"))
    logits = _as_logits(table)
    classes = classes_of(logits)
    values, labels = logits_and_labels(logits)
    columns = [_PROBABILITY + name for name in classes]
    stated = all(name in table for name in columns)
    probabilities = _numbers(table, columns) if stated else softmax(values, axis=1)
    subjects, names = pd.factorize(table["subject"].to_numpy(), sort=True)
    truth = np.empty(len(names), dtype=np.int64)
    truth[subjects] = labels
    images = _Images(probabilities, labels, np.asarray(subjects), truth, [str(name) for name in names], classes)
    return _averaged(images) if level == "subject" else images


def without_copies(table: pd.DataFrame, subject: str) -> pd.DataFrame:
    """Leave augmented copies out.

    Args:
        table: with or without a column ``copy``, whose 0 is the slice itself.
        subject: what an error calls the table.

    Returns:
        Rows whose ``copy`` is 0; all where there is no such column.

    Raises:
        InputError: if ``copy`` is no whole number of 0 or more, or every row is a copy.
    """
    if "copy" not in table:
        return table
    copy = pd.to_numeric(table["copy"], errors="coerce").to_numpy(np.float64, na_value=np.nan)
    wrong = ~((copy >= 0) & (copy == np.rint(copy)))
    if wrong.any():
        row = int(wrong.argmax())
        rule = "copies are numbered 1, 2, ... and the slice itself is 0"
        raise InputError(subject, f"hold copy = {table['copy'].iloc[row]} in row {row}; {rule}.")
    if len(copy) and copy.min() > 0:
        raise InputError(subject, "hold augmented copies only; predict the slices themselves (copy 0) too.")
    return pd.DataFrame(table[copy == 0])


def _as_logits(table: pd.DataFrame) -> pd.DataFrame:
    """The table as :mod:`bonemonai.analysis.classification_scores` takes it, whose checks it shares.

    A slice is a patch as large as its plane. The logarithm of a probability is a logit.
    """
    named = [str(name) for name in table if str(name).startswith(_PROBABILITY)]
    filled = table.assign(plane=0, row=0, column=0)
    if not named:
        return filled
    filled = filled.drop(columns=[name for name in table if str(name).startswith(_LOGIT)])
    values = _numbers(table, named)
    wrong = ~((values >= 0).all(axis=1) & (np.abs(values.sum(axis=1) - 1) <= _SUM_TOLERANCE))
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError("predictions", f"hold {values[row].tolist()} in row {row}; probabilities sum to 1.")
    floor = np.finfo(np.float64).tiny
    columns = {_LOGIT + name.removeprefix(_PROBABILITY): column for name, column in zip(named, values.T, strict=True)}
    return filled.assign(**{name: np.log(np.maximum(column, floor)) for name, column in columns.items()})


def _predicted(table: pd.DataFrame) -> pd.DataFrame:
    """Rows without a refusal."""
    if "refusal" not in table:
        return table
    there = (table["refusal"].isna() | (table["refusal"] == "")).to_numpy()
    if len(table) and not there.any():
        raise InputError("predictions", f"are all refused ({table['refusal'].iloc[0]}); there is nothing to score.")
    return pd.DataFrame(table[there])


def _numbers(table: pd.DataFrame, columns: list[str]) -> NDArray[np.float64]:
    # what is no number becomes NaN
    found = table[columns].apply(pd.to_numeric, errors="coerce")
    return np.asarray(found.to_numpy(np.float64, na_value=np.nan), dtype=np.float64)


def _averaged(slices: _Images) -> _Images:
    """One image a subject, of mean probability."""
    totals = np.stack([np.bincount(slices.subjects, weights=column) for column in slices.probabilities.T], axis=1)
    means = totals / np.bincount(slices.subjects)[:, None]
    return slices._replace(probabilities=means, labels=slices.truth, subjects=np.arange(len(slices.names)))


def _counts(images: _Images) -> NDArray[np.int64]:
    """Confusion matrix of each subject, (subjects, C, C + 1)."""
    size = len(images.classes)
    counts = np.zeros((len(images.names), size, size + 1), dtype=np.int64)
    np.add.at(counts, (images.subjects, images.labels, images.found), 1)
    return counts


def _named(classes: list[str]) -> pd.DataFrame:
    rows = [("all", "accuracy"), *((name, metric) for name in classes for metric in CLASS_METRICS)]
    return pd.DataFrame(rows, columns=["class", "metric"])


def _scored(images: _Images, *, resamples: int, confidence: float, seed: int) -> pd.DataFrame:
    counts = _counts(images)
    wins, sizes = _pairs(images)

    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        decided = confusion_scores(np.tensordot(drawn, counts, axes=1))
        areas = _areas(drawn, wins, sizes)
        return np.concatenate([decided, areas, areas.mean(axis=1, keepdims=True)], axis=1)

    groups = images.truth.tolist()
    found = resample_subjects(statistic, groups, resamples=resamples, confidence=confidence, seed=seed)
    areas = pd.DataFrame({"class": [*images.classes, "all"], "metric": "auc"})
    table = pd.concat([_named(images.classes), areas], ignore_index=True).assign(interval="bootstrap")
    table = table.assign(value=found.value, low=found.low, high=found.high)
    if len(images.labels) > len(images.names):
        return table
    return pd.concat([table, _delong(images, confidence)], ignore_index=True)  # one image a subject: independent


def _pairs(images: _Images) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Of each class, the wins of subject over subject; and how many images of a subject are of the class, or not."""
    count = len(images.names)
    wins, sizes = [], np.zeros((len(images.classes), 2, count))
    for index in range(len(images.classes)):
        positive = images.labels == index
        wins.append(pairwise_wins(positive, images.probabilities[:, index], images.subjects, count))
        sizes[index] = [np.bincount(images.subjects[each], minlength=count) for each in (positive, ~positive)]
    return wins, sizes


def _areas(
    drawn: NDArray[np.int64], wins: list[NDArray[np.float64]], sizes: NDArray[np.float64]
) -> NDArray[np.float64]:
    """AUC of each class, (b, C), where each subject was drawn so often, (b, subjects)."""
    columns = []
    for of_class, (positive, negative) in zip(wins, sizes, strict=True):
        won = np.einsum("bi,bi->b", drawn @ of_class, drawn)
        columns.append(share(won, (drawn @ positive) * (drawn @ negative)))
    return np.stack(columns, axis=1)


def _delong(images: _Images, confidence: float) -> pd.DataFrame:
    rows = []
    for index, name in enumerate(images.classes):
        found = delong_auc(images.labels == index, images.probabilities[:, index], confidence=confidence)
        rows.append((name, "auc", found.value, "DeLong", found.low, found.high))
    return pd.DataFrame(rows, columns=["class", "metric", "value", "interval", "low", "high"])
