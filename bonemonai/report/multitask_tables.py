"""Tables 1 to 3 of paper 4, and how well vertebrae are found and outlined: the paper's figures beside a run's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis.one_vs_rest_tables import CONVENTIONS
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.report.multitask_inputs import ABLATIONS, LEARNING_RATES, METRICS, MODELS, Multitask
from bonemonai.report.multitask_paper import (
    PAPER_ACCURACY,
    PAPER_AUC,
    PAPER_LOCALISATION,
    PAPER_NOTES,
    paper_accuracy,
    paper_scores,
)

# rows of the paper's Table 3 whose ticks are lost
PAIRS = ("a pair (1)", "a pair (2)")
ALL = "all"

_UNPLACED = "the paper's figures are those of one of the two pairs above"
_OF_TABLE_2 = "all modules on: the paper's row is that of Table 2"
# what the paper's way takes for sensitivity is the usual specificity; intervals go with them
_PAPERS_WAY = {"sensitivity": "specificity", "specificity": "sensitivity"}
_COLUMNS = (
    "class",
    "metric",
    "level",
    "paper",
    "paper_sd",
    "value",
    "low",
    "high",
    "sd",
    "median",
    "count",
    "left_out",
)


def table_1(found: Sequence[Multitask]) -> pd.DataFrame:
    """Scores of the joint model at several learning rates.

    Args:
        found: evaluations, named by learning rate.

    Returns:
        See :func:`table_2`, with ``learning_rate`` for ``model``.
    """
    names = [*LEARNING_RATES, *(each.name for each in found)]
    return _table("1", "learning_rate", dict.fromkeys(names), found)


def table_2(found: Sequence[Multitask]) -> pd.DataFrame:
    """Scores of the paper's models, the joint one first, and of others that were run.

    Args:
        found: evaluations.

    Returns:
        Rows of ``model``, ``class`` and ``convention`` ("paper": the other two classes are positive; "usual": the class
        is), then a row of all classes, whose accuracy is the share of right decisions. For each of accuracy,
        sensitivity, specificity and f1: ``paper_<metric>`` as printed, ``counts_<metric>`` from the paper's counts,
        ``<metric>`` of the run's subjects with ``_low`` and ``_high``, an interval over subjects; then AUC alike,
        ``subjects`` and ``note``. A subject of whom no vertebra was found counts as wrong, and leaves no
        interval but that of AUC, which is of the others.
    """
    table = _table("2", "model", dict.fromkeys([*MODELS, *(each.name for each in found)]), found)
    of_paper = table["class"].map(PAPER_AUC).where(table["model"] == "joint").astype(float)
    table.insert(table.columns.tolist().index("auc"), "paper_auc", of_paper)
    return table


def table_3(found: Sequence[Multitask]) -> pd.DataFrame:
    """Scores of the joint model with some of its modules.

    Two rows of the paper, of pairs, cannot be told apart; they stand alone, and no run beside them.

    Args:
        found: evaluations, named by the modules that are on.

    Returns:
        See :func:`table_2`, with ``modules`` for ``model``.
    """
    before = ABLATIONS.index("LF+FF")
    names = [*ABLATIONS[:before], *PAIRS, *ABLATIONS[before:]]
    table = _table("3", "modules", dict.fromkeys(names), found)
    for name, note in {"LF+FF": _UNPLACED, "GC+FF": _UNPLACED, "LF+GC+FF": _OF_TABLE_2}.items():
        table.loc[(table["modules"] == name) & (table["class"] == ALL), "note"] = note
    return table


def localisation_table(found: Sequence[Multitask]) -> pd.DataFrame:
    """How well vertebrae are found (average precision) and outlined (IoU, Dice, distances of the border).

    Args:
        found: evaluations; a model without masks or boxes, as a baseline that is given crops, has no rows.

    Returns:
        Rows of ``model``, ``class`` ("L1", "L2", "all"), ``metric`` and ``level``: for ``average_precision`` the IoU
        of a box that is found, for others "slice" or "subject"; ``paper``, ``paper_sd``, ``value`` with its interval
        over subjects, ``sd`` and ``median`` over slices; ``count`` of boxes, slices or subjects, and ``left_out``,
        slices that have no value. Distances are in mm.
    """
    given = {each.name: each for each in found}
    rows: list[dict[str, Any]] = []
    for name in dict.fromkeys(["joint", *given]):
        each = given.get(name)
        own = [*_precision_rows(each), *_overlap_rows(each), *_boundary_rows(each)]
        if name == "joint":
            own = _with_papers(own)
        rows += [{"model": name, **row} for row in own]
    return pd.DataFrame(rows, columns=["model", *_COLUMNS])


def overall_accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of all classes.

    Args:
        table: one of :func:`table_1` to :func:`table_3`.

    Returns:
        Indexed by the table's first column: ``paper``, from the counts, ``run``, ``low`` and ``high``.
    """
    names = {"counts_accuracy": "paper", "accuracy": "run", "accuracy_low": "low", "accuracy_high": "high"}
    rows = table[table["class"] == ALL].set_index(table.columns[0])
    return rows[list(names)].rename(columns=names)


def _table(number: str, key: str, names: Iterable[str], found: Sequence[Multitask]) -> pd.DataFrame:
    given = {each.name: each for each in found}
    parts = [_rows_of(number, name, given.get(name)).assign(**{key: name}) for name in names]
    table = pd.concat(parts, ignore_index=True)
    return table[[key, *(name for name in table if name != key)]]


def _rows_of(number: str, name: str, each: Multitask | None) -> pd.DataFrame:
    """Two rows a class, and one of all."""
    # all modules on is what Table 2 has
    place = ("2", "joint") if (number, name) == ("3", "LF+GC+FF") else (number, name)
    run = _run_scores(each)
    subjects = _subjects(each)
    rows = []
    for paper in paper_scores(*place).to_dict("records"):
        pair = (str(paper["class"]), str(paper["convention"]))
        note = PAPER_NOTES.get((*place, pair[0]), "") if pair[1] == "paper" else ""
        rows.append({**_ordered(paper, run.get(pair, {})), "subjects": subjects, "note": note})
    printed = {"class": ALL, "convention": "", "paper_accuracy": PAPER_ACCURACY.get(place, math.nan)}
    printed |= {"counts_accuracy": paper_accuracy(*place)}
    note = PAPER_NOTES.get((*place, ALL), "")
    rows.append({**_ordered(printed, run.get((ALL, ""), {})), "subjects": subjects, "note": note})
    return pd.DataFrame(rows)


def _ordered(paper: Mapping[Any, Any], run: Mapping[str, float]) -> dict[str, Any]:
    row: dict[str, Any] = {"class": paper["class"], "convention": paper["convention"]}
    for metric in METRICS:
        row |= {f"{side}_{metric}": paper.get(f"{side}_{metric}", math.nan) for side in ("paper", "counts")}
        row |= {f"{metric}{end}": run.get(f"{metric}{end}", math.nan) for end in ("", "_low", "_high")}
    return row | {f"auc{end}": run.get(f"auc{end}", math.nan) for end in ("", "_low", "_high")}


def _run_scores(each: Multitask | None) -> dict[tuple[str, str], dict[str, float]]:
    """Class and convention to scores, with intervals where the evaluation has them."""
    if each is None:
        return {}
    known = _intervals(each)
    rows: dict[tuple[str, str], dict[str, float]] = {}
    values = [] if each.one_vs_rest is None else each.one_vs_rest.to_dict("records")
    for row in values:
        name, way = str(row["class"]), str(row["convention"])
        scores = {metric: float(row[metric]) for metric in METRICS}
        # intervals are of those who were classified
        for metric in () if each.lost else ("sensitivity", "specificity", *(["f1"] if way == "usual" else [])):
            usual = metric if way == "usual" else _PAPERS_WAY[metric]
            scores |= {f"{metric}{end}": value for end, value in known.get((name, usual), {}).items() if end}
        rows[name, way] = scores
    for name in SCREENING_CLASSES:
        for way in CONVENTIONS:  # the area is the same
            areas = {f"auc{end}": value for end, value in known.get((name, "auc"), {}).items()}
            rows[name, way] = rows.get((name, way), {}) | areas
    shown = ("auc",) if each.lost else ("accuracy", "auc")
    both = {f"{metric}{end}": v for metric in shown for end, v in known.get((ALL, metric), {}).items()}
    rows[ALL, ""] = {"accuracy": _counted_accuracy(each), **both}
    return rows


def _intervals(each: Multitask) -> dict[tuple[str, str], dict[str, float]]:
    """Class and metric to the value ("") of subjects and the ends of its interval."""
    scores = each.screening.scores
    if scores is None:
        return {}
    own = scores[(scores["level"] == "subject") & (scores["interval"] == "bootstrap")]
    ends = {"": "value", "_low": "low", "_high": "high"}
    return {
        (str(row["class"]), str(row["metric"])): {end: float(row[name]) for end, name in ends.items()}
        for row in own.to_dict("records")
    }


def _counted_accuracy(each: Multitask) -> float:
    counts = each.screening.confusion.get("subject")
    if counts is None or not counts.to_numpy().any():
        return math.nan
    return float(np.trace(counts.to_numpy(np.float64)) / (counts.to_numpy(np.float64).sum() + each.lost))


def _subjects(each: Multitask | None) -> float:
    """Those who were lost among them."""
    if each is None:
        return math.nan
    counts, scores = each.screening.confusion.get("subject"), each.screening.scores
    if counts is not None:
        return float(counts.to_numpy().sum()) + each.lost
    return math.nan if scores is None or scores.empty else float(scores["subjects"].max()) + each.lost


def _precision_rows(each: Multitask | None) -> list[dict[str, Any]]:
    if each is None or each.precision is None:
        return []
    return [
        {
            "class": row["class"],
            "metric": "average_precision",
            "level": row["iou"],
            "value": row["average_precision"],
            "count": row["boxes"],
        }
        for row in each.precision.to_dict("records")
    ]


def _overlap_rows(each: Multitask | None) -> list[dict[str, Any]]:
    if each is None or each.screening.overlaps is None:
        return []
    table, slices = each.screening.overlaps, each.overlap_slices
    rows = []
    for metric in ("iou", "dice_index"):
        for level in ("slice", "subject"):
            for row in table[(table["metric"] == metric) & (table["level"] == level)].to_dict("records"):
                values = {end: row[end] for end in ("value", "low", "high", "left_out")}
                spread = {}
                if level == "slice" and slices is not None:
                    spread = {"sd": slices[metric].std(), "median": slices[metric].median()}
                first = {"class": ALL, "metric": metric, "level": level, "count": row["units"]}
                rows.append({**first, **values, **spread})
    return rows


def _boundary_rows(each: Multitask | None) -> list[dict[str, Any]]:
    rows = [] if each is None or each.boundary is None else each.boundary.to_dict("records")
    return [
        {
            "class": ALL,
            "metric": row["metric"],
            "level": "slice",
            "value": row["mean_mm"],
            "sd": row["sd_mm"],
            "median": row["median_mm"],
            "count": row["slices"],
            "left_out": row["empty_truth"] + row["empty_prediction"] + row["empty_both"],
        }
        for row in rows
    ]


def _with_papers(own: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The paper's figures beside those of all vertebrae, and rows for what was not run."""
    rows = list(own)
    for metric, (mean, deviation) in PAPER_LOCALISATION.items():
        # the average precision's IoU is not said: beside the easier one
        level = "0.50" if metric == "average_precision" else "slice"
        there = [row for row in rows if (row["class"], row["metric"], row["level"]) == (ALL, metric, level)]
        if not there:
            there = [{"class": ALL, "metric": metric, "level": level}]
            rows += there
        there[0] |= {"paper": mean, "paper_sd": deviation}
    if not any(row["metric"] == "hd95_mm" for row in rows):
        rows.append({"class": ALL, "metric": "hd95_mm", "level": "slice"})
    return rows
