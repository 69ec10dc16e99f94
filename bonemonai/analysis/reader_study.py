"""What radiologists said of the same patients: their scores, their agreement, and a model beside them.

A table of readings has one row a subject: ``subject``, ``truth``, and a column for each reader, in which stands one of
:data:`bonemonai.analysis.SCREENING_CLASSES`.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from bonemonai.analysis.classification_scores import UNDECIDED
from bonemonai.analysis.screening_scores import CLASS_METRICS, SCREENING_CLASSES, confusion_scores
from bonemonai.analysis.subject_bootstrap import resample_subjects, share
from bonemonai.errors import InputError

KappaWeights = Literal["none", "linear", "quadratic"]

_SIZE = len(SCREENING_CLASSES)
_PAPERS = ("accuracy", "precision")  # of its Table 6


def read_reader_study(path: str | Path) -> pd.DataFrame:
    """Read readings.

    Args:
        path: CSV file, see the module; ``data_manifests/paper_tang_readers.csv`` is the paper's Appendix A.

    Returns:
        ``subject``, ``truth`` and a column for each reader, as text.

    Raises:
        InputError: if it is no table, a column is missing or comes twice, there is no reader or no subject, a subject
            is empty or comes twice, or a class is none of the three.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, header=None)
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no table of readings: {error}") from error
    table = table.iloc[1:].set_axis(table.iloc[0].tolist(), axis=1).reset_index(drop=True)
    _check(table, path)
    return table


def reader_scores(
    readings: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Score each reader, with intervals that draw subjects within their true class.

    Args:
        readings: see the module.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Returns:
        Rows of ``reader``, ``class`` ("all" for the accuracy), ``metric`` ("accuracy", "precision", "sensitivity",
        "specificity", "f1"), ``value``, ``low``, ``high`` (shares; NaN where there is none, see
        :func:`bonemonai.analysis.resample_subjects`) and ``subjects``.

    Raises:
        InputError: see :func:`read_reader_study`.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        Tang et al., Table 6: accuracy and precision. The others and the intervals are ours.
    """
    table = _ordered(readings)
    options: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    parts = []
    for reader in _readers(table):
        counts = _counts(table["truth"], table[reader])
        found = resample_subjects(_scorer(counts), table["truth"].tolist(), **options)
        part = _metrics().assign(value=found.value, low=found.low, high=found.high)
        parts.append(part.assign(reader=reader, subjects=len(table)))
    every = pd.concat(parts, ignore_index=True)
    return every[["reader", "class", "metric", "value", "low", "high", "subjects"]]


def reader_agreement(
    readings: pd.DataFrame, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """Agreement beyond chance: of each two readers, of each with the truth, and of all readers together.

    Args:
        readings: see the module.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Returns:
        Rows of ``first`` and ``second`` ("truth" or readers; "all readers" and "" for Fleiss' kappa), ``kappa``
        ("Cohen", "Cohen, linear", "Cohen, quadratic", "Fleiss"), ``value`` in [-1, 1], ``low``, ``high``, and
        ``subjects``. Cohen's with weights counts a step of one class as a smaller disagreement than one of two; the
        classes are ordered. Fleiss' needs two readers or more, and knows no order.

    Raises:
        InputError: see :func:`read_reader_study`.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        See :func:`cohen_kappa` and :func:`fleiss_kappa`. The paper has none; intervals draw subjects within their true
        class, of which the study chose equally many.
    """
    table = _ordered(readings)
    options: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    readers, truth = _readers(table), table["truth"].tolist()
    rows = []
    for first, second in itertools.combinations(["truth", *readers], 2):
        counts = _counts(table[first], table[second])[..., :_SIZE]
        found = resample_subjects(_kappas(counts), truth, **options)
        for index, weights in enumerate(get_args(KappaWeights)):
            name = "Cohen" if weights == "none" else f"Cohen, {weights}"
            rows.append((first, second, name, *(float(each[index]) for each in found)))
    if len(readers) > 1:
        votes = np.stack([(table[readers] == name).sum(axis=1).to_numpy() for name in SCREENING_CLASSES], axis=1)
        found = resample_subjects(lambda drawn: _fleiss(votes, drawn)[:, None], truth, **options)
        rows.append(("all readers", "", "Fleiss", *(float(each[0]) for each in found)))
    columns = ["first", "second", "kappa", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns).assign(subjects=len(table))


def cohen_kappa(counts: NDArray[Any], weights: KappaWeights = "none") -> NDArray[np.float64]:
    """Cohen's kappa of two raters.

    Args:
        counts: (..., C, C), how often the one said row and the other column; classes in their order.
        weights: of a disagreement: "none" (all alike), "linear" (steps between the classes) or "quadratic" (squared).

    Returns:
        (...), in [-1, 1]: 1 is full agreement, 0 that of chance; NaN where both always say the same one class.

    Raises:
        ValueError: if ``counts`` is no square, or the weights are others.

    Source:
        Cohen, Educational and Psychological Measurement 20:37-46, 1960; with weights Psychological Bulletin
        70:213-220, 1968.

    Example:
        >>> round(float(cohen_kappa(np.array([[20, 5], [10, 15]]))), 3)
        0.4
    """
    if weights not in get_args(KappaWeights):
        raise ValueError(f"weights must be one of {', '.join(get_args(KappaWeights))}, got {weights}.")
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"counts must be (..., C, C), got shape {counts.shape}.")
    steps = np.abs(np.subtract.outer(np.arange(counts.shape[-1]), np.arange(counts.shape[-1])))
    cost = {"none": (steps > 0).astype(np.int64), "linear": steps, "quadratic": steps**2}[weights]
    expected = counts.sum(axis=-1)[..., :, None] * counts.sum(axis=-2)[..., None, :]
    seen = (counts * cost).sum(axis=(-2, -1)) * counts.sum(axis=(-2, -1))
    return 1 - share(seen, (expected * cost).sum(axis=(-2, -1)))


def fleiss_kappa(votes: NDArray[np.integer[Any]]) -> float:
    """Fleiss' kappa of several raters.

    Args:
        votes: (subjects, C), how many raters said which class; every subject has as many raters, two or more.

    Returns:
        1 for full agreement, 0 for that of chance; NaN where all raters always say the same one class.

    Raises:
        ValueError: if there is no subject, subjects have different numbers of raters, or fewer than two.

    Source:
        Fleiss, Psychological Bulletin 76:378-382, 1971, equations 3 to 7.

    Example:
        >>> round(fleiss_kappa(np.array([[3, 0], [0, 3], [2, 1]])), 2)
        0.55
    """
    raters = np.unique(votes.sum(axis=1)) if votes.ndim == 2 else np.array([])
    if len(raters) != 1 or raters[0] < 2 or votes.min() < 0:
        raise ValueError(f"votes must be (subjects, C) with as many raters a subject, 2 or more, got {raters} raters.")
    return float(_fleiss(votes, np.ones((1, len(votes)), dtype=np.int64))[0])


def compare_with_readers(
    readings: pd.DataFrame,
    decisions: pd.DataFrame,
    *,
    paired: bool = False,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Put a model beside the readers.

    Of the same patients, differences have intervals that draw patients, each with the model's decision and the reader's
    reading. Of other patients no difference is given: it would be one of patients as much as of readers. The paper
    itself compares its network's 3024 augmented images with readings of 63 patients.

    Args:
        readings: see the module.
        decisions: one row a subject, as :func:`bonemonai.analysis.subject_probabilities` returns: ``subject``,
            ``diagnosis`` (true class) and ``decision``; "undecided" counts as wrong.
        paired: whether subjects of one name are the same patient in both; they must then be the same, all.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws.

    Returns:
        Rows of ``reader``, ``class``, ``metric`` ("accuracy" of "all", "precision" of each class), ``reader_value``,
        ``model_value``, ``difference`` (model - reader), its ``low`` and ``high``, ``p_value`` (exact McNemar test, two
        sided, of the accuracies), ``subjects`` of the readers and ``model_subjects``. The four numbers of the
        difference are NaN unless paired.

    Raises:
        InputError: see :func:`read_reader_study`; if decisions lack a column, name a subject twice or a class that is
            none; or if they are said to be of the same patients, and subjects or true classes differ.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        Tang et al., Table 6. McNemar, Psychometrika 12:153-157, 1947, as the exact binomial test of the patients on
        whom one of the two is right.
    """
    options: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    table, model = _ordered(readings), _model(decisions)
    if paired:
        _refuse_other_patients(table, model)
    counts = _counts(model["diagnosis"], model["decision"])
    values = confusion_scores(counts.sum(axis=0))
    chosen = _metrics()["metric"].isin(_PAPERS).to_numpy()
    parts = []
    for reader in _readers(table):
        theirs = _counts(table["truth"], table[reader])
        part = _metrics().assign(reader=reader, reader_value=confusion_scores(theirs.sum(axis=0)), model_value=values)
        part[["difference", "low", "high", "p_value"]] = np.nan
        if paired:
            found = resample_subjects(_difference(counts, theirs), table["truth"].tolist(), **options)
            part = part.assign(difference=found.value, low=found.low, high=found.high)
            part.loc[0, "p_value"] = _mcnemar(counts, theirs)
        parts.append(part[chosen])
    every = pd.concat(parts, ignore_index=True).assign(subjects=len(table), model_subjects=len(model))
    first = ["reader", "class", "metric", "reader_value", "model_value"]
    return every[[*first, "difference", "low", "high", "p_value", "subjects", "model_subjects"]]


def _readers(table: pd.DataFrame) -> list[str]:
    return [str(name) for name in table if name not in ("subject", "truth")]


def _ordered(readings: pd.DataFrame) -> pd.DataFrame:
    """Checked, sorted by subject, so that the order of the rows changes no interval."""
    _check(readings, "readings")
    return readings.sort_values("subject", ignore_index=True)


def _check(table: pd.DataFrame, name: str | Path) -> None:
    columns = [str(column) for column in table]
    doubled = [column for column in columns if columns.count(column) > 1]
    missing = [column for column in ("subject", "truth") if column not in columns]
    if missing or doubled or len(columns) < 3:
        rule = "it needs subject, truth and a column for each reader, each once"
        raise InputError(name, f"has the columns {', '.join(columns) or 'none'}; {rule}.")
    if table.empty:
        raise InputError(name, "holds no subject; give one row a subject.")
    _refuse_subjects(table["subject"], name)
    for column in [column for column in columns if column != "subject"]:
        _refuse_classes(table, column, SCREENING_CLASSES, name)


def _refuse_subjects(subjects: pd.Series[Any], name: str | Path) -> None:
    if (subjects.isna() | (subjects == "")).any():
        raise InputError(name, "holds a row without a subject; name the pseudonym of each patient.")
    if subjects.duplicated().any():
        raise InputError(
            name, f"holds subject {subjects[subjects.duplicated()].iloc[0]} twice; give one row a subject."
        )


def _refuse_classes(table: pd.DataFrame, column: str, classes: tuple[str, ...], name: str | Path) -> None:
    wrong = ~table[column].isin(classes)
    if wrong.any():
        subject, value = table.loc[wrong.to_numpy(), ["subject", column]].iloc[0]
        raise InputError(name, f"says {value!r} of subject {subject} ({column}); classes are {', '.join(classes)}.")


def _model(decisions: pd.DataFrame) -> pd.DataFrame:
    name = "decisions"
    missing = [column for column in ("subject", "diagnosis", "decision") if column not in decisions]
    if missing or decisions.empty:
        raise InputError(
            name, f"have no {'column ' + ', '.join(missing) if missing else 'row'}; decide on subjects first."
        )
    _refuse_subjects(decisions["subject"], name)
    _refuse_classes(decisions, "diagnosis", SCREENING_CLASSES, name)
    _refuse_classes(decisions, "decision", (*SCREENING_CLASSES, UNDECIDED), name)
    return decisions.sort_values("subject", ignore_index=True)


def _refuse_other_patients(table: pd.DataFrame, model: pd.DataFrame) -> None:
    theirs, ours = set(table["subject"]), set(model["subject"])
    if theirs != ours:
        odd = sorted(theirs ^ ours, key=str)[0]
        raise InputError("decisions", f"and readings are of the same patients, but only one has subject {odd}.")
    differ = table["truth"].to_numpy() != model["diagnosis"].to_numpy()
    if differ.any():
        row = table[differ].iloc[0]
        said = model["diagnosis"][int(differ.argmax())]
        raise InputError("decisions", f"call subject {row['subject']} {said}, but readings {row['truth']}; who is it?")


def _counts(first: pd.Series[Any], second: pd.Series[Any]) -> NDArray[np.int64]:
    """Of each subject what the first and the second say, (subjects, C, C + 1); the last column is undecided."""
    row, column = (pd.Index([*SCREENING_CLASSES, UNDECIDED]).get_indexer(pd.Index(each)) for each in (first, second))
    counts = np.zeros((len(row), _SIZE, _SIZE + 1), dtype=np.int64)
    counts[np.arange(len(row)), row, column] = 1
    return counts


def _metrics() -> pd.DataFrame:
    rows = [("all", "accuracy"), *itertools.product(SCREENING_CLASSES, CLASS_METRICS)]
    return pd.DataFrame(rows, columns=["class", "metric"])


def _scorer(counts: NDArray[np.int64]) -> Any:
    return lambda drawn: confusion_scores(np.tensordot(drawn, counts, axes=1))


def _difference(model: NDArray[np.int64], reader: NDArray[np.int64]) -> Any:
    return lambda drawn: _scorer(model)(drawn) - _scorer(reader)(drawn)


def _kappas(counts: NDArray[np.int64]) -> Any:
    def statistic(drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        both = np.tensordot(drawn, counts, axes=1)
        return np.stack([cohen_kappa(both, weights) for weights in get_args(KappaWeights)], axis=-1)

    return statistic


def _fleiss(votes: NDArray[Any], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fleiss' kappa where each subject counts so often, (b, subjects) -> (b,)."""
    raters = votes[0].sum()
    agreeing = (votes * (votes - 1)).sum(axis=1) / (raters * (raters - 1))
    seen = drawn @ agreeing / drawn.sum(axis=1)
    shares = drawn @ votes / (drawn.sum(axis=1, keepdims=True) * raters)
    chance = (shares**2).sum(axis=1)
    return share(seen - chance, np.where((shares == 1).any(axis=1), 0, 1 - chance))


def _mcnemar(model: NDArray[np.int64], reader: NDArray[np.int64]) -> float:
    right, theirs = (np.trace(each, axis1=1, axis2=2) > 0 for each in (model, reader))
    wins, losses = int((right & ~theirs).sum()), int((~right & theirs).sum())
    return float(binomtest(wins, wins + losses, 0.5).pvalue) if wins + losses else 1.0
