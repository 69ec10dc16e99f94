"""Scores of a screening whose truth is known: the files behind the paper's Tables 3 to 5 and Figs. 5 to 7."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.calibration import LARGEST_TEMPERATURE, calibration_table, fit_temperature
from bonemonai.analysis.classification_results import clear_results
from bonemonai.analysis.overlap_scores import overlap_histogram, score_overlaps, subject_overlaps, with_overlap_scores
from bonemonai.analysis.screening_decision import BAND, SURE, choose_band, coverage_table, decide_subjects
from bonemonai.analysis.screening_scores import (
    SCREENING_CLASSES,
    ScreeningLevel,
    score_screening,
    screening_confusion,
    screening_roc,
    subject_probabilities,
)
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import read_json, write_json
from bonemonai.engines.weights import add_to_card
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

_LOWEST_SHOWN = 0.5  # of the histograms; the paper's begin at 0.998
_LOGITS = tuple(f"logit_{name}" for name in SCREENING_CLASSES)
_OVERLAP_COUNTS = ("tp", "fp", "fn")
_OF_BOXES = ("box_score", "x1", "y1", "x2", "y2", "fusion_weight", "hd95_mm", "mean_surface_distance_mm")
# those that every table has first; of a locator's there are more
_NUMBERS = (
    "plane", "copy", *_LOGITS, *_OVERLAP_COUNTS, *(f"probability_{name}" for name in SCREENING_CLASSES), *_OF_BOXES,
)  # fmt: skip
_TABLES = (
    "scores", "subjects", "confusion_slice", "confusion_subject", "roc", "coverage", "calibration", "overlap_slices",
    "overlap_subjects", "overlap_scores", "overlap_histogram", "scores_with_copies", "confusion_image",
    "overlap_scores_with_copies",
)  # fmt: skip
SCORE_FILES = tuple(f"{name}.csv" for name in _TABLES)


def read_screening_predictions(path: str | Path) -> pd.DataFrame:
    """Read the slices of a screening.

    Args:
        path: ``predictions.csv`` as :class:`bonemonai.analysis.ScreeningResults` writes it.

    Raises:
        InputError: if it cannot be read, or holds no slice.
    """
    words = {"subject": str, "scan": str, "diagnosis": str, "level": str, "refusal": str}
    try:
        table = pd.read_csv(path, dtype=words, keep_default_na=False, na_values={name: [""] for name in _NUMBERS})
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no table of predictions: {error}") from error
    if table.empty:
        raise InputError(path, "holds no slice; screen scans first.")
    if missing := [name for name in (*words, *_NUMBERS[:5]) if name not in table]:
        raise InputError(path, f"has no column {', '.join(missing)}; screen the scans again.")
    for name in (name for name in _NUMBERS if name in table and not pd.api.types.is_numeric_dtype(table[name])):
        raise InputError(path, f"holds {name} that are no numbers; screen the scans again.")
    for name in set(table["diagnosis"]) - {"", *SCREENING_CLASSES}:
        raise InputError(path, f"holds the condition {name!r}; conditions are {', '.join(SCREENING_CLASSES)}.")
    return table


def write_screening_scores(
    output_dir: str | Path,
    *,
    model: str,
    about: Mapping[str, Any],
    temperature: float = 1.0,
    sure: float = SURE,
    band: float = BAND,
    seed: int = 0,
) -> pd.DataFrame:
    """Score the predictions in a folder against the truth in them, and write the scores beside them.

    Where conditions are known: ``scores.csv``, ``subjects.csv``, ``confusion_slice.csv``, ``confusion_subject.csv``,
    ``roc.csv``, ``coverage.csv``, ``calibration.csv``; where slices have truth masks: ``overlap_slices.csv``,
    ``overlap_subjects.csv``, ``overlap_scores.csv``, ``overlap_histogram.csv``; where augmented copies were scored, the
    paper's way: ``scores_with_copies.csv``, ``overlap_scores_with_copies.csv`` and ``confusion_image.csv``.
    ``results.json`` says how they came about. Scores of an earlier evaluation are removed first.

    Args:
        output_dir: holds ``predictions.csv``.
        model: the classifier's name.
        about: provenance; JSON values.
        temperature: that logits are divided by.
        sure: of the answers in ``subjects.csv``, see :func:`bonemonai.analysis.decide`.
        band: of these answers too.
        seed: of the intervals.

    Returns:
        The scores a slice and a subject.

    Raises:
        InputError: if no slice has a true condition or a true mask, no slice with a condition was classified, or the
            predictions are damaged.
    """
    folder = Path(output_dir)
    predictions = read_screening_predictions(folder / "predictions.csv")
    labelled = predictions[predictions["diagnosis"] != ""]
    # scans without a truth mask may stand among others
    masked = predictions.dropna(subset=list(_OVERLAP_COUNTS)) if "tp" in predictions else predictions.iloc[:0]
    if labelled.empty and masked.empty:
        raise InputError(folder / "predictions.csv", "has neither true conditions nor true masks: nothing to score.")
    tables = _overlaps(masked, seed) if len(masked) else {}
    decided = one_row_a_decision(labelled)
    if len(labelled) and "fusion_weight" in labelled and not (decided["refusal"] == "").any():
        logger.warning("%s: no vertebra was found in any scan; every subject counts as wrong.", model)
        tables["scores"] = _all_lost(decided)
    elif len(labelled):
        tables |= _classification(decided, temperature, seed, sure=sure, band=band)
    clear_results(folder, overwrite=True, files=SCORE_FILES)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6g")
    own = predictions[predictions["copy"] == 0]
    counts = {
        "slices": len(own), "slices_refused": int((own["refusal"] != "").sum()),
        "subjects": int(own["subject"].nunique()), "subjects_with_a_condition": int(labelled["subject"].nunique()),
        "copies": int(predictions["copy"].max()),
    }  # fmt: skip
    said = {
        "model": model, "note": NOT_A_DEVICE, "scored": counts,
        "thresholds": {"sure": sure, "band": band, "temperature": temperature},
    }  # fmt: skip
    write_json(folder / "results.json", {**(read_json(folder / "results.json") or {}), **said, **about})
    if "scores" not in tables:
        return tables["overlap_scores"]
    scores = tables["scores"]
    for row in scores[scores["metric"].isin(["accuracy", "auc"]) & (scores["class"] == "all")].itertuples():
        logger.info("%s %s of %s: %.4f", row.level, row.metric, model, row.value)
    return scores


def calibrate_screening(checkpoint: str | Path, output_dir: str | Path, *, error_rate: float = 0.1) -> dict[str, Any]:
    """Fit temperature and abstain band on validation subjects, and put them into the card beside the weights.

    Args:
        checkpoint: the classifier's weights.
        output_dir: of a screening of the validation subjects; ``predictions.csv``.
        error_rate: of answers that are given, wanted of the band. Where no band is as good, the card has none and
            a warning is logged.

    Returns:
        What was put into the card.

    Raises:
        InputError: if too few slices have a true condition, or no temperature is best.
    """
    path = Path(output_dir) / "predictions.csv"
    predictions = read_screening_predictions(path)
    usable = predictions[(predictions["refusal"] == "") & (predictions["copy"] == 0) & (predictions["diagnosis"] != "")]
    if usable.empty:
        raise InputError(path, "holds no classified slice whose true condition is known.")
    usable = one_row_a_decision(usable)
    labels = usable["diagnosis"].map(list(SCREENING_CLASSES).index).to_numpy(dtype=np.int64)
    logits = usable[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy(dtype=np.float64)
    temperature = fit_temperature(logits, labels)
    if not 1 / LARGEST_TEMPERATURE < temperature < LARGEST_TEMPERATURE:
        raise InputError(path, f"makes no temperature best ({temperature:g} is the bound): validate on more.")
    entry: dict[str, Any] = {
        "temperature": temperature,
        "validation": calibration_table(_as_patches(usable), temperature).to_dict("records"),
    }
    values, known = _arrays(subject_probabilities(_calibrated(usable, temperature)))
    try:
        chosen = choose_band(values, known, error_rate=error_rate)
        entry |= {"band": chosen.band, "band_on_validation": chosen._asdict(), "band_error_rate": error_rate}
    except InputError as error:
        logger.warning("no band was chosen, the default stays: %s", error)
    add_to_card(checkpoint, {"calibration": entry})
    return entry


def one_row_a_decision(table: pd.DataFrame) -> pd.DataFrame:
    """Of vertebrae that are decided on together, whose rows repeat one decision, one row a scan and copy.

    Args:
        table: of slices; one without ``fusion_weight`` holds a decision a row, and comes back as it is.
    """
    if "fusion_weight" not in table:
        return table
    # a row that was classified, where there is one
    ordered = table.assign(_refused=table["refusal"] != "").sort_values(["scan", "copy", "_refused"], kind="stable")
    return ordered.drop_duplicates(["scan", "copy"]).drop(columns="_refused")


def _all_lost(decided: pd.DataFrame) -> pd.DataFrame:
    """The accuracy of a run in which nothing could be decided."""
    lost = int(decided["subject"].nunique())
    row = {"level": "subject", "class": "all", "metric": "accuracy", "value": 0.0, "interval": "", "low": np.nan}
    row |= {"high": np.nan, "images": 0, "subjects": 0, "refused": len(decided), "lost": lost}
    return pd.DataFrame([row])


def _overlaps(predictions: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    tp, fp, fn = (predictions[name].to_numpy(np.int64) for name in _OVERLAP_COUNTS)
    counted = predictions[["subject", "scan", "plane", "level", "copy"]].assign(
        true_pixels=tp + fn, predicted_pixels=tp + fp, shared_pixels=tp
    )
    tables = {
        "overlap_slices": with_overlap_scores(counted),
        "overlap_subjects": subject_overlaps(counted),
        "overlap_scores": score_overlaps(counted, seed=seed),
        "overlap_histogram": overlap_histogram(counted, lower=_LOWEST_SHOWN),
    }
    if (predictions["copy"] > 0).any():
        tables["overlap_scores_with_copies"] = score_overlaps(counted, copies=True, seed=seed)
    return tables


def _classification(
    labelled: pd.DataFrame, temperature: float, seed: int, *, sure: float, band: float
) -> dict[str, pd.DataFrame]:
    table = _calibrated(labelled, temperature)
    subjects = subject_probabilities(table)
    decided = decide_subjects(subjects, sure=sure, band=band).drop(columns=["probability", "advice"])
    probabilities, labels = _arrays(subjects)
    # logits as they were given: the table of calibration divides them itself
    classified = labelled[(labelled["refusal"] == "") & (labelled["copy"] == 0)]
    copied = bool((table["copy"] > 0).any())
    levels: tuple[ScreeningLevel, ...] = ("slice", "subject", "image") if copied else ("slice", "subject")
    tables = {
        "scores": score_screening(table, seed=seed),
        "subjects": subjects.merge(decided, on="subject"),
        "confusion_slice": screening_confusion(table, "slice").reset_index(),
        "confusion_subject": screening_confusion(table, "subject").reset_index(),
        "roc": pd.concat([screening_roc(table, level).assign(level=level) for level in levels]),
        "coverage": coverage_table(probabilities, labels),
        "calibration": calibration_table(_as_patches(classified), temperature),
    }
    if copied:
        tables["scores_with_copies"] = score_screening(table, copies=True, seed=seed)
        tables["confusion_image"] = screening_confusion(table, "image").reset_index()
    return tables


def _arrays(subjects: pd.DataFrame) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Probabilities (n, C) and true classes (n,) of subjects."""
    values = subjects[[f"probability_{name}" for name in SCREENING_CLASSES]].to_numpy(dtype=np.float64)
    return values, subjects["diagnosis"].map(list(SCREENING_CLASSES).index).to_numpy(dtype=np.int64)


def _calibrated(table: pd.DataFrame, temperature: float) -> pd.DataFrame:
    """Logits divided by the temperature; the one column that says what a slice's probabilities are."""
    logits = [f"logit_{name}" for name in SCREENING_CLASSES]
    scaled = table.drop(columns=[f"probability_{name}" for name in SCREENING_CLASSES], errors="ignore")
    return scaled.assign(**{name: table[name] / temperature for name in logits})


def _as_patches(classified: pd.DataFrame) -> pd.DataFrame:
    """The table that calibration takes, which knows patches by their corner."""
    columns: Sequence[str] = ["subject", "diagnosis", "plane", *(f"logit_{name}" for name in SCREENING_CLASSES)]
    return classified[list(columns)].assign(row=0, column=0)
