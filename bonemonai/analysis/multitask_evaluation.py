"""Scores of paper 4's network where the truth is known: the files behind its Tables 1 to 3 and Figs. 7 to 13."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.average_precision import average_precision
from bonemonai.analysis.boundary_distance import slice_boundary_distances, summarise_boundary_distances
from bonemonai.analysis.classification_results import clear_results
from bonemonai.analysis.one_vs_rest_tables import one_vs_rest_table
from bonemonai.analysis.screening_decision import BAND, SURE
from bonemonai.analysis.screening_evaluation import read_screening_predictions, write_screening_scores
from bonemonai.analysis.screening_scores import SCREENING_CLASSES, screening_confusion
from bonemonai.data.atomic import atomic_path
from bonemonai.data.json_file import read_json
from bonemonai.data.lumbar_pairs import PAIR
from bonemonai.errors import InputError

MULTITASK_FILES = ("one_vs_rest.csv", "average_precision.csv", "boundary_slices.csv", "boundary_scores.csv")
_SIDES = ["x1", "y1", "x2", "y2"]


def vertebra_distances(
    truth: NDArray[np.bool_], predicted: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> dict[str, Any]:
    """Distances of a vertebra's borders in its slice, for the evaluator's table.

    Args:
        truth: (rows, columns).
        predicted: of the same size.
        spacing_mm: of rows and of columns.

    Returns:
        ``empty``, ``hd95_mm`` and ``mean_surface_distance_mm``, see
        :func:`bonemonai.analysis.slice_boundary_distances`.
    """
    row = slice_boundary_distances("", [truth], [predicted], spacing_mm=spacing_mm).iloc[0]
    return {name: row[name] for name in ("empty", "hd95_mm", "mean_surface_distance_mm")}


def write_multitask_scores(
    output_dir: str | Path,
    *,
    model: str = "joint",
    about: Mapping[str, Any],
    pair: Sequence[str] = PAIR,
    temperature: float = 1.0,
    sure: float = SURE,
    band: float = BAND,
    seed: int = 0,
) -> None:
    """Score the predictions in a folder against the truth in them, and write the scores beside them.

    What :func:`bonemonai.analysis.write_screening_scores` writes, and where conditions are known ``one_vs_rest.csv``
    (of subjects, in the paper's convention and the usual one), where vertebrae have truth masks
    ``average_precision.csv`` (of boxes: of each vertebra by name, and of any, "vertebra"), ``boundary_slices.csv`` and
    ``boundary_scores.csv`` (distances, mm). Scores of an earlier evaluation are removed first.

    Args:
        output_dir: holds ``predictions.csv`` and ``boxes.csv``.
        model: the network's name.
        about: provenance; JSON values.
        pair: names of both vertebrae.
        temperature: that logits are divided by.
        sure: see :func:`bonemonai.analysis.decide`.
        band: see there.
        seed: of the intervals.

    Raises:
        InputError: see :func:`bonemonai.analysis.write_screening_scores`.

    Source:
        Zhang et al., 4.3.1 and 4.5.
    """
    folder = Path(output_dir)
    predictions = read_screening_predictions(folder / "predictions.csv")
    clear_results(folder, overwrite=True, files=MULTITASK_FILES)
    masked = "tp" in predictions and predictions["tp"].notna().any()
    tables = {}
    if masked:
        slices = predictions.dropna(subset=["tp"])
        tables["average_precision"] = _precision(folder / "boxes.csv", set(slices["scan"]), pair)
        columns = ["subject", "scan", "plane", "level", "copy", "empty", "hd95_mm", "mean_surface_distance_mm"]
        tables["boundary_slices"] = slices[columns]
        tables["boundary_scores"] = summarise_boundary_distances(slices)
    # a fine-tuned network is tested on scans of which no condition is known: their rows have no class to score
    write_screening_scores(folder, model=model, about=about, temperature=temperature, sure=sure, band=band, seed=seed)
    if (predictions["diagnosis"] != "").any():
        write_one_vs_rest(folder)
    for name, table in tables.items():
        with atomic_path(folder / f"{name}.csv") as partial:
            table.to_csv(partial, index=False, float_format="%.6g")


def pool_multitask_folds(
    output_dir: str | Path,
    folders: Sequence[str | Path],
    *,
    model: str = "joint",
    pair: Sequence[str] = PAIR,
    seed: int = 0,
) -> None:
    """Score the test subjects of all folds of a cross-validation together, each once.

    Writes ``predictions.csv`` and ``boxes.csv`` of all folds, and what :func:`write_multitask_scores` writes.

    Args:
        output_dir: of the pooled files.
        folders: of the folds.
        model: the network's name.
        pair: names of both vertebrae.
        seed: of the intervals.

    Raises:
        InputError: if a scan was tested in two folds, or a fold has no results.

    Source:
        Zhang et al., 4.4.
    """
    tables = [read_screening_predictions(Path(folder) / "predictions.csv") for folder in folders]
    for table, other in combinations(tables, 2):
        if shared := sorted(set(table["scan"]) & set(other["scan"])):
            raise InputError(output_dir, f"has folds that tested {shared[0]} twice; were they dealt alike?")
    records = [read_json(Path(folder) / "results.json") or {} for folder in folders]
    about = {name: value for name, value in records[0].items() if name not in ("weights", "scored", "thresholds")}
    about["weights_of_folds"] = [record.get("weights") for record in records]
    folder = Path(output_dir)
    boxes = [pd.read_csv(Path(each) / "boxes.csv") for each in folders if (Path(each) / "boxes.csv").is_file()]
    for name, parts in (("predictions", tables), ("boxes", boxes)):
        if parts:
            with atomic_path(folder / f"{name}.csv") as partial:
                pd.concat(parts, ignore_index=True).to_csv(partial, index=False, float_format="%.9g")
    write_multitask_scores(folder, model=model, about=about, pair=pair, seed=seed)


def write_one_vs_rest(output_dir: str | Path) -> None:
    """Write ``one_vs_rest.csv``, see :func:`write_multitask_scores`, of predictions that are there.

    Args:
        output_dir: holds ``predictions.csv``.

    Raises:
        InputError: if that cannot be read, or no condition is known.
    """
    predictions = read_screening_predictions(Path(output_dir) / "predictions.csv")
    with atomic_path(Path(output_dir) / "one_vs_rest.csv") as partial:
        one_vs_rest_table(_confusion_of_all(predictions)).to_csv(partial, index=False, float_format="%.6g")


def _confusion_of_all(predictions: pd.DataFrame) -> pd.DataFrame:
    """Counts by subject; one of which neither vertebra was found is called nothing, which is wrong."""
    known = predictions[predictions["diagnosis"] != ""]
    if (known["refusal"] == "").any():
        counts = screening_confusion(known, "subject")
    else:
        names = list(SCREENING_CLASSES)
        counts = pd.DataFrame(0, index=pd.Index(names, name="diagnosis"), columns=pd.Index(names, name="decision"))
    lost = known.groupby("subject").filter(lambda rows: bool((rows["refusal"] != "").all()))
    if lost.empty:
        return counts
    missing = lost.drop_duplicates("subject")["diagnosis"].value_counts().reindex(counts.index, fill_value=0)
    return counts.assign(undecided=counts.get("undecided", 0) + missing)


def _precision(path: Path, scans: set[str], pair: Sequence[str]) -> pd.DataFrame:
    """Of the scans whose truth is known."""
    try:
        boxes = pd.read_csv(path, dtype={"scan": str, "kind": str, "level": str})
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no table of boxes: {error}; screen the scans again.") from error
    if missing := [name for name in ("scan", "plane", "kind", "level", "score", *_SIDES) if name not in boxes]:
        raise InputError(path, f"has no column {', '.join(missing)}; screen the scans again.")
    boxes = boxes[boxes["scan"].isin(scans)]
    images = [rows for _, rows in boxes.groupby(["scan", "plane"], sort=True)]
    if not images:
        raise InputError(path, "holds no box of a scan whose truth is known; screen the scans again.")
    tables = []
    for names in (list(pair), ["vertebra"]):
        own = [rows[rows["level"].isin(names)] for rows in images]
        found, true = ([_arrays(rows[rows["kind"] == kind], names) for rows in own] for kind in ("found", "true"))
        tables.append(average_precision(found, true, names))
    # of one class there is no mean over classes
    return pd.concat([tables[0], tables[1][tables[1]["class"] != "all"]], ignore_index=True)


def _arrays(rows: pd.DataFrame, pair: Sequence[str]) -> dict[str, Any]:
    return {
        "boxes": rows[_SIDES].to_numpy(dtype=np.float64),
        "labels": rows["level"].map(list(pair).index).to_numpy(dtype=np.int64),
        "scores": rows["score"].to_numpy(dtype=np.float64),
    }
