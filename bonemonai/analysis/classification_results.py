"""Predictions of patches become the files a reader wants: scores, decisions, confusion, calibration, Grad-CAM."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.analysis.calibration import LARGEST_TEMPERATURE, calibration_table, fit_temperature
from bonemonai.analysis.classification_scores import (
    confusion,
    logits_and_labels,
    patient_decisions,
    score_predictions,
)
from bonemonai.analysis.gradcam import summarise_gradcam
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import read_json, write_json
from bonemonai.engines.weights import add_to_card
from bonemonai.errors import InputError, OutputError

logger = logging.getLogger(__name__)

_TABLES = (
    "predictions",
    "scores",
    "patients",
    "confusion_patch",
    "confusion_patient",
    "calibration",
    "folds",
    "gradcam",
)
_FILES = (*(f"{name}.csv" for name in _TABLES), "gradcam_examples.npz", "results.json")


def read_predictions(path: str | Path) -> pd.DataFrame:
    """Read a table that :class:`bonemonai.engines.PredictionTable` wrote.

    Raises:
        InputError: if it cannot be read.
    """
    try:
        return pd.read_csv(path, dtype={"subject": str, "diagnosis": str}, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no table of predictions: {error}") from error


def calibrate_weights(checkpoint: str | Path, predictions: str | Path) -> float:
    """Fit a temperature on the validation patients' predictions and put it into the card beside the weights.

    Args:
        checkpoint: the file of weights.
        predictions: CSV file of the validation patients.

    Returns:
        The temperature.

    Raises:
        InputError: if patients of one class only are there, or too few patches.
    """
    table = read_predictions(predictions)
    temperature = fit_temperature(*logits_and_labels(table))
    if math.isclose(abs(math.log(temperature)), math.log(LARGEST_TEMPERATURE)):
        raise InputError(predictions, f"make no temperature best ({temperature:g} is the bound): validate on more.")
    rows = calibration_table(table, temperature).to_dict("records")
    add_to_card(checkpoint, {"calibration": {"temperature": temperature, "validation": rows}})
    logger.info("temperature %.3f, fitted on %d patches.", temperature, len(table))
    return temperature


def clear_results(output_dir: str | Path, *, overwrite: bool = False, files: Sequence[str] = _FILES) -> None:
    """Remove an earlier evaluation from a folder, all its files, so that none is taken for the next one's.

    Args:
        output_dir: of the results.
        overwrite: must be said where there are any.
        files: names of an evaluation's files; those of this module by default.

    Raises:
        OutputError: if there are, and it was not.
    """
    there = [Path(output_dir) / name for name in files if (Path(output_dir) / name).exists()]
    if there and not overwrite:
        raise OutputError(there[0], "exists already; say --overwrite True, or choose another --output_dir.")
    for file in there:
        file.unlink()


def write_classification_results(
    output_dir: str | Path, *, model: str, about: Mapping[str, Any], seed: int = 0
) -> pd.DataFrame:
    """Write scores of the predictions in a folder, beside them.

    ``scores.csv``, ``patients.csv``, ``confusion_patch.csv``, ``confusion_patient.csv``, with a calibrated model
    ``calibration.csv``, and ``results.json``: which model, how it came about, and where Grad-CAM looks.

    Args:
        output_dir: holds ``predictions.csv`` and, optionally, ``gradcam.csv``.
        model: its name.
        about: provenance; JSON values. ``weights`` holds the weights' card, and in it the temperature.
        seed: of the intervals.

    Returns:
        The scores.
    """
    folder = Path(output_dir)
    predictions = read_predictions(folder / "predictions.csv")
    tables = _tables(predictions, seed)
    temperature = (((about.get("weights") or {}).get("calibration")) or {}).get("temperature")
    if temperature is not None:
        tables["calibration"] = calibration_table(predictions, temperature)
    _write(folder, tables)
    results = {"model": model, "note": NOT_A_DEVICE, "gradcam": _gradcam([folder]), **about}
    write_json(folder / "results.json", results)
    for score in tables["scores"].itertuples():
        logger.info("%s %s of %s: %.4f", score.level, score.metric, model, score.value)
    return tables["scores"]


def pool_folds(output_dir: str | Path, folders: Sequence[Path], *, model: str, seed: int = 0) -> pd.DataFrame:
    """Pool the folds of a cross-validation into one set of files, as one evaluation writes them.

    A patient who is tested in several folds is decided upon by the votes of all of them. ``folds.csv`` has each fold's
    scores; mean and standard deviation over folds stand in ``results.json``.

    Args:
        output_dir: of the pooled files.
        folders: of the folds.
        model: its name.
        seed: of the intervals.

    Returns:
        The pooled scores.
    """
    folder = Path(output_dir)
    predictions = pd.concat(
        [read_predictions(path / "predictions.csv").assign(fold=path.name) for path in folders], ignore_index=True
    )
    with atomic_path(folder / "predictions.csv") as partial:
        predictions.to_csv(partial, index=False, float_format="%.9g")
    folds = pd.concat([pd.read_csv(path / "scores.csv").assign(fold=path.name) for path in folders], ignore_index=True)
    tables = {**_tables(predictions, seed), "folds": folds[["fold", "level", "metric", "value", "patches", "patients"]]}
    _write(folder, tables)
    records = [read_json(path / "results.json") or {} for path in folders]
    kept = {name: records[0].get(name) for name in ("bonemonai", "packages", "configs", "options", "seed", "tested_on")}
    results = {
        "model": model, "note": NOT_A_DEVICE, "folds": [path.name for path in folders], "over_folds": _spread(folds),
        "gradcam": _gradcam(folders), "weights": records[0].get("weights"),
        "weights_of_folds": [record.get("weights") for record in records],
    }  # fmt: skip
    write_json(folder / "results.json", {**results, **kept})
    return tables["scores"]


def _tables(predictions: pd.DataFrame, seed: int) -> dict[str, pd.DataFrame]:
    return {
        "scores": score_predictions(predictions, seed=seed),
        "patients": patient_decisions(predictions),
        "confusion_patch": confusion(predictions, "patch").reset_index(),
        "confusion_patient": confusion(predictions, "patient").reset_index(),
    }


def _spread(folds: pd.DataFrame) -> dict[str, dict[str, float | None]]:
    """Mean and standard deviation over folds of each score; JSON knows no NaN, and a single fold has no spread."""
    found = {}
    for level in folds["level"].unique():
        for metric in folds["metric"].unique():
            values = folds.loc[(folds["level"] == level) & (folds["metric"] == metric), "value"]
            pair = {"mean": values.mean(), "sd": values.std()}
            found[f"{level} {metric}"] = {k: None if pd.isna(v) else float(v) for k, v in pair.items()}
    return found


def _write(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6g")


def _gradcam(folders: Sequence[Path]) -> dict[str, float | None] | None:
    files = [path / "gradcam.csv" for path in folders if (path / "gradcam.csv").is_file()]
    if not files:
        return None
    summary = summarise_gradcam(pd.concat([pd.read_csv(file) for file in files], ignore_index=True))
    return {name: None if pd.isna(value) else value for name, value in summary.items()}
