"""Tables 3 to 6 of paper 3: the paper's figures beside a run's."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from bonemonai.analysis.reader_study import reader_scores
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.report.data_notices import as_mapping
from bonemonai.report.screening_inputs import LEVELS, MODELS, OVERLAPS, Screening

# Tang et al., Tables 3 to 6; figures of augmented copies, 12 a case (Table 3) and 48 a case (the others)
PAPER_TABLE_3 = {"dice_index": 0.9992, "iou": 0.9984, "pixel_accuracy": 0.9991}
PAPER_TABLE_4 = {
    ("normal", "precision"): 0.8057, ("normal", "auc"): 0.9715,
    ("low bone mass", "precision"): 0.6621, ("low bone mass", "auc"): 0.8320,
    ("osteoporosis", "precision"): 0.8255, ("osteoporosis", "auc"): 0.9467,
}  # fmt: skip
PAPER_TABLE_5 = {
    ("bcc_net", "accuracy"): 0.7665, ("bcc_net", "auc"): 0.9167,
    ("densenet_1", "accuracy"): 0.6581, ("densenet_1", "auc"): 0.8120,
    ("densenet_2", "accuracy"): 0.6412, ("densenet_2", "auc"): 0.7923,
    ("densenet121", "accuracy"): 0.5498, ("densenet121", "auc"): 0.6842,
}  # fmt: skip
NETWORK = "BCC-Net (network)"
PAPER_TABLE_6 = {  # accuracy; precision of normal, low bone mass, osteoporosis
    "radiologist_1": (0.5079, 0.6250, 0.3571, 0.6316),
    "radiologist_2": (0.4921, 0.6471, 0.3333, 0.6250),
    "radiologist_3": (0.5556, 0.7500, 0.3929, 0.6316),
    NETWORK: (0.7665, 0.8057, 0.6621, 0.8255),
}
# Fig. 7; rows true, columns decided: data_manifests/paper_tang_confusion.csv
PAPER_FIG_7 = ((879, 127, 2), (205, 635, 168), (7, 197, 804))

_OF_TABLE_6 = (("all", "accuracy"), *((name, "precision") for name in SCREENING_CLASSES))


def table_3(found: Sequence[Screening]) -> pd.DataFrame:
    """Overlap of marks with the truth, un-augmented subjects first.

    Args:
        found: evaluations, one or more.

    Returns:
        Rows of ``models`` (titles of those that share the marks), ``metric``, ``paper``, of each level the value with
        ``_low`` and ``_high``, and ``subjects``, ``slices`` and ``left_out`` of the un-augmented slices.
    """
    rows = []
    for models, each in distinct_marks(found):
        for metric in OVERLAPS:
            said = None if each.overlaps is None else each.overlaps[each.overlaps["metric"] == metric]
            of_slices = {} if said is None else said.set_index("level").to_dict("index").get("slice", {})
            counts = {name: of_slices.get(name, math.nan) for name in ("subjects", "units", "left_out")}
            rows.append({"models": models, "metric": metric, "paper": PAPER_TABLE_3[metric], **_values(said), **counts})
    return pd.DataFrame(rows).rename(columns={"units": "slices"})


def distinct_marks(found: Sequence[Screening]) -> list[tuple[str, Screening]]:
    """Marks, each once, for classifiers are tested with one segmentation.

    Args:
        found: evaluations, one or more.

    Returns:
        Titles of the models that share them, and an evaluation; without any marks "" and one that has none.
    """
    groups: dict[tuple[Any, str], tuple[list[str], Screening]] = {}
    for each in found:
        if each.overlaps is not None:
            key = (as_mapping(each.record.get("segmentation")).get("sha256"), each.overlaps.to_csv())
            groups.setdefault(key, ([], each))[0].append(each.title)
    return [(", ".join(titles), each) for titles, each in groups.values()] or [("", found[0]._replace(overlaps=None))]


def table_4(found: Sequence[Screening]) -> pd.DataFrame:
    """Precision and AUC of each condition, of BCC-Net as in the paper and of every model that was run.

    Args:
        found: evaluations.

    Returns:
        Rows of ``model``, ``class``, ``metric``, ``paper``, of each level the value with its interval, and DeLong's
        interval of the subjects' AUC.
    """
    rows = []
    for name, each in _with_papers(found, ["bcc_net"]).items():
        for (of_class, metric), paper in PAPER_TABLE_4.items():
            values = _values(_of(each, of_class, metric))
            delong = _of(each, of_class, metric, interval="DeLong")
            bounds = [math.nan] * 2 if delong is None or delong.empty else delong[["low", "high"]].iloc[0].tolist()
            first = {
                "model": name,
                "class": of_class,
                "metric": metric,
                "paper": paper if name == "bcc_net" else math.nan,
            }
            rows.append({**first, **values, "subject_delong_low": bounds[0], "subject_delong_high": bounds[1]})
    return pd.DataFrame(rows)


def table_5(found: Sequence[Screening]) -> pd.DataFrame:
    """Accuracy and mean AUC of the paper's models and of others that were run.

    Args:
        found: evaluations.

    Returns:
        Rows of ``model``, ``metric``, ``paper``, of each level the value with its interval, and ``subjects``.
    """
    rows = []
    for name, each in _with_papers(found, MODELS).items():
        for metric in ("accuracy", "auc"):
            said = _of(each, "all", metric)
            subjects = math.nan if said is None or said.empty else said["subjects"].max()
            paper = PAPER_TABLE_5.get((name, metric), math.nan)
            rows.append({"model": name, "metric": metric, "paper": paper, **_values(said), "subjects": subjects})
    return pd.DataFrame(rows)


def _with_papers(found: Sequence[Screening], names: Iterable[str]) -> dict[str, Screening | None]:
    """What was run, and of the paper's models those that were not, in its order."""
    given: dict[str, Screening | None] = {each.name: each for each in found}
    every = dict.fromkeys([*names, *given])
    return {name: given.get(name) for name in sorted(every, key=lambda name: [*MODELS, name].index(name))}


def _of(each: Screening | None, of_class: str, metric: str, interval: str = "bootstrap") -> pd.DataFrame | None:
    if each is None or each.scores is None:
        return None
    table = each.scores
    return table[(table["class"] == of_class) & (table["metric"] == metric) & (table["interval"] == interval)]


def _values(said: pd.DataFrame | None) -> dict[str, float]:
    """Value, low and high of each level."""
    found = {} if said is None else said.drop_duplicates("level").set_index("level").to_dict("index")
    values: dict[str, float] = {}
    for level in LEVELS:
        row = found.get(level, {})
        ends = {level: "value", f"{level}_low": "low", f"{level}_high": "high"}
        values |= {name: float(row.get(end, math.nan)) for name, end in ends.items()}
    return values


def table_6(found: Sequence[Screening], readings: pd.DataFrame | None) -> pd.DataFrame:
    """Precision and accuracy of readers, and below them of BCC-Net.

    Args:
        found: evaluations.
        readings: see :func:`bonemonai.analysis.read_reader_study`; None gives the paper's figures alone.

    Returns:
        Rows of ``reader``, ``class``, ``metric``, ``paper``, ``value``, ``low``, ``high`` and ``subjects``.
    """
    columns = ["reader", "class", "metric", "paper", "value", "low", "high", "subjects"]
    scores = pd.DataFrame(columns=columns) if readings is None else reader_scores(readings)
    rows: list[dict[str, Any]] = []
    for reader in dict.fromkeys([*(PAPER_TABLE_6 if readings is None else scores["reader"]), NETWORK]):
        own = scores[scores["reader"] == reader].set_index(["class", "metric"]).to_dict("index")
        papers = dict(zip(_OF_TABLE_6, PAPER_TABLE_6.get(str(reader), ()), strict=False))
        for pair in _OF_TABLE_6:
            row: dict[Any, Any] = own.get(pair, {}) if reader != NETWORK else _run_of_bcc_net(found, pair)
            first = {"reader": reader, "class": pair[0], "metric": pair[1], "paper": papers.get(pair, math.nan)}
            rows.append({**first, **{name: row.get(name, math.nan) for name in columns[4:]}})
    return pd.DataFrame(rows, columns=columns)


def _run_of_bcc_net(found: Sequence[Screening], pair: tuple[str, str]) -> dict[Any, Any]:
    """Of subjects, as readers see them."""
    own = next((each for each in found if each.name == "bcc_net"), None)
    said = _of(own, *pair)
    rows = [] if said is None else said[said["level"] == "subject"].to_dict("records")
    return rows[0] if rows else {}


def kappa_rows(agreement: pd.DataFrame) -> pd.DataFrame:
    """Agreement as rows of Table 6.

    Args:
        agreement: see :func:`bonemonai.analysis.reader_agreement`.
    """
    both = [
        first + (f" / {second}" if second else "")
        for first, second in zip(agreement["first"], agreement["second"], strict=True)
    ]
    kept = agreement[["value", "low", "high", "subjects"]]
    return kept.assign(reader=both, metric="kappa, " + agreement["kappa"], **{"class": "all"})
