"""The report of paper 3: marks and bone conditions on lumbar CT, beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.analysis.classification_scores import UNDECIDED
from bonemonai.analysis.reader_study import read_reader_study, reader_agreement
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.errors import InputError
from bonemonai.report.data_notices import as_mapping, collect_notices, data_sentence, heading_flags
from bonemonai.report.report_files import number_filter, refuse_earlier_report, render_page, shown_record, write_report
from bonemonai.report.screening_inputs import MODELS, Screening, read_curves, read_screenings
from bonemonai.report.screening_report_figures import (
    LEVEL_TITLES,
    coverage_figure,
    decisions_figure,
    learning_figure,
    overlap_figure,
    reliability_figure,
    roc_figure,
)
from bonemonai.report.screening_tables import (
    PAPER_FIG_7,
    distinct_marks,
    kappa_rows,
    table_3,
    table_4,
    table_5,
    table_6,
)

_FILES = ("report.html", "table_3.csv", "table_4.csv", "table_5.csv", "table_6.csv")
RECORDED = (
    "model", "bonemonai", "packages", "configs", "options", "seed", "inputs", "tested_on", "scored", "thresholds",
    "weights", "segmentation",
)  # fmt: skip
_RULES = ("sure, normal", "normal, not sure", "sure, reduced", "reduced, not sure", "comparable")
_OTHER_SUBJECTS = "were not tested on the same subjects: differences between them are those of subjects too."


def write_screening_report(
    output_dir: str | Path,
    *,
    results: Mapping[str, str | Path],
    readers: str | Path | None = None,
    curves: str | Path | Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``report.html``, which needs no other file, and ``table_3.csv`` to ``table_6.csv``.

    Tables 3 to 5 have a row a model and metric: ``paper``, and of ``subject``, ``slice`` and ``image`` (augmented
    copies among them, the paper's way) the value with ``_low`` and ``_high``, the interval over subjects. Table 6 has
    a row a reader and metric, agreement among them. All are shares in [0, 1], kappas in [-1, 1]. What was not run, or
    cannot be computed, is n/a (empty in CSV). No output names a path; subjects appear by no name at all.

    Args:
        output_dir: of the five files.
        results: classifier to the folder of its evaluation, see :func:`bonemonai.analysis.write_screening_scores`. The
            paper has ``bcc_net``, ``densenet_1``, ``densenet_2`` and ``densenet121``; other names are shown without its
            figures.
        readers: readings of a reader study, see :func:`bonemonai.analysis.read_reader_study`;
            ``data_manifests/paper_tang_readers.csv`` is the paper's.
        curves: learning curve of a training, ``epoch``, ``loss`` and metrics, or name to that.
        overwrite: replace an earlier report.

    Returns:
        The five files.

    Raises:
        InputError: if nothing is given, a folder holds no evaluation or another model's, or a file is damaged.
        OutputError: if there is a report already, or the folder cannot be written to.

    Source:
        Tang et al., Tables 3 to 6, Figs. 5 to 7. Intervals, calibration, bands and kappas are ours.
    """
    files = [Path(output_dir) / name for name in _FILES]
    refuse_earlier_report(files, overwrite=overwrite)
    if not results:
        raise InputError("report", "has nothing to show: give results, model name to folder.")
    found, drawn = read_screenings(results), read_curves(curves)
    readings = None if readers is None or readers == "" else read_reader_study(readers)
    tables = [table_3(found), table_4(found), table_5(found), table_6(found, readings)]
    agreement = None if readings is None else reader_agreement(readings)
    page = _page(found, tables, agreement, drawn)
    if agreement is not None:
        tables[3] = pd.concat([tables[3], kappa_rows(agreement)], ignore_index=True)
    write_report(files, page, tables, float_format="%.6g")
    return files


def _page(
    found: Sequence[Screening],
    tables: Sequence[pd.DataFrame],
    agreement: pd.DataFrame | None,
    curves: Mapping[str, pd.DataFrame],
) -> str:
    marks = distinct_marks(found)
    return render_page(
        "screening_report.html.j2",
        {"number": number_filter("{:.4f}"), "named": lambda name: MODELS.get(name, name)},
        **heading_flags(each.of_data for each in found),
        notices=screening_notices(found),
        scored=[(each.title, scored_counts(each)) for each in found],
        tables=[tables[0].to_dict("records"), grouped(tables[1], "model"), tables[2].to_dict("records")],
        readers=grouped(tables[3], "reader"),
        copies=any("image" in set(table["level"]) for each in found for table in _leveled(each)),
        classes=SCREENING_CLASSES,
        level_titles=LEVEL_TITLES,
        histograms=[(models, _histogram(each)) for models, each in marks],
        rocs=[(each.title, "" if each.roc is None else roc_figure(each.roc)) for each in found],
        decisions=[(each.title, each.confusion, decisions_figure(_confusions(each))) for each in found],
        rules=_rules(found),
        rule_names=_RULES,
        pairs=None if agreement is None else _pairs(agreement),
        curves=learning_figure(curves),
        calibrations=[(each.title, *_calibration(each)) for each in found],
        answers=[(each.title, *_answers(each)) for each in found],
        coverage=_coverage(found),
        records={each.title: shown_record(short_cards(each.record), RECORDED) for each in found},
    )


def grouped(table: pd.DataFrame, name: str) -> list[tuple[str, list[dict[Any, Any]]]]:
    """Rows of a table by a column.

    Args:
        table: any.
        name: of the column.

    Returns:
        Each value in the order of its first row, and its rows.
    """
    return [(str(key), rows.to_dict("records")) for key, rows in table.groupby(name, sort=False)]


def _leveled(each: Screening) -> list[pd.DataFrame]:
    return [table for table in (each.scores, each.overlaps) if table is not None]


def screening_notices(found: Sequence[Screening]) -> list[str]:
    """What must be known of the data before any figure.

    Args:
        found: evaluations.

    Returns:
        Sentences, of phantoms first, and last that models saw other subjects, where they did.
    """
    said = [(each.title, data_sentence(each.of_data, nothing_about="patients")) for each in found]
    notices = collect_notices(said, nothing_about="patients", between="; ")
    tested = [each.subjects[["subject", "diagnosis"]].to_csv() for each in found if each.subjects is not None]
    if len(set(tested)) > 1:
        notices.append(f"Models {_OTHER_SUBJECTS}")
    return notices


def scored_counts(each: Screening) -> dict[str, Any]:
    """How much was scored.

    Args:
        each: an evaluation.

    Returns:
        ``subjects``, ``slices``, ``slices_refused``, ``copies`` and ``lost`` subjects; None where that is not said.
    """
    counts = as_mapping(each.record.get("scored"))
    lost = None if each.scores is None or each.scores.empty else each.scores["lost"].iloc[0]
    names = ("subjects", "slices", "slices_refused", "copies")
    return {**{name: _number(counts.get(name)) for name in names}, "lost": lost}


def _number(value: Any) -> float | None:
    """An entry of a record, or nothing, where it is not what it should be."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _histogram(each: Screening) -> str:
    empty = each.histogram is None or each.overlaps is None or each.histogram.empty
    return "" if empty or each.histogram is None else overlap_figure(each.histogram)


def _confusions(each: Screening) -> dict[str, pd.DataFrame]:
    papers = pd.DataFrame(PAPER_FIG_7, index=pd.Index(SCREENING_CLASSES), columns=pd.Index(SCREENING_CLASSES))
    first = {"the paper: 3024 images": papers} if each.name == "bcc_net" else {}
    own = {f"this run: {LEVEL_TITLES[level]}": table for level, table in each.confusion.items()}
    return {**first, **own} if own else {}


def _rules(found: Sequence[Screening]) -> list[tuple[str, list[tuple[str, list[int]]]]]:
    """How often each rule of the text holds, by true class."""
    counted = []
    for each in found:
        if each.subjects is not None:
            counts = pd.crosstab(each.subjects["diagnosis"], each.subjects["rule"])
            table = counts.reindex(index=list(SCREENING_CLASSES), columns=list(_RULES), fill_value=0)
            counted.append((each.title, [(str(name), row.tolist()) for name, row in table.iterrows()]))
    return counted


def _pairs(agreement: pd.DataFrame) -> list[dict[str, Any]]:
    """A row two readers, with each kappa."""
    rows = []
    for (first, second), part in agreement.groupby(["first", "second"], sort=False):
        name = f"{first} and {second}" if second else str(first)
        rows.append({"pair": name, **{str(row["kappa"]): row for row in part.to_dict("records")}})
    return rows


def _calibration(each: Screening) -> tuple[dict[Any, Any], str]:
    rows = {} if each.calibration is None else each.calibration.set_index("stage").to_dict("index")
    return rows, "" if each.reliability is None else reliability_figure(each.reliability)


def _answers(each: Screening) -> tuple[float | None, dict[str, Any] | None]:
    """The band, and what answers it left."""
    band = _number(as_mapping(each.record.get("thresholds")).get("band"))
    if each.subjects is None or each.subjects.empty:
        return band, None
    answered = each.subjects[each.subjects["answer"] != UNDECIDED]
    right = int((answered["answer"] == answered["diagnosis"]).sum())
    every = int((each.subjects["decision"] == each.subjects["diagnosis"]).sum())
    count, total = len(answered), len(each.subjects)
    shares = {"coverage": count / total, "accuracy": right / count if count else math.nan, "always": every / total}
    return band, {"answered": count, "subjects": total, **shares}


def _coverage(found: Sequence[Screening]) -> str:
    tables = {each.title: each.coverage for each in found if each.coverage is not None}
    chosen = {each.title: answers for each in found if (answers := _answers(each)[1])}
    places = {name: (row["coverage"], row["accuracy"]) for name, row in chosen.items() if row["answered"]}
    return coverage_figure(tables, places)


def short_cards(record: Mapping[str, Any], networks: Iterable[str] = ("weights", "segmentation")) -> dict[str, Any]:
    """Leave out the digests of all scans that were trained on.

    Args:
        record: how a result came about.
        networks: its entries that are cards of weights.
    """
    cards: dict[str, Any] = {}
    for name in networks:
        card = as_mapping(record.get(name))
        trained = as_mapping(card.get("trained_on"))
        kept = {key: card[key] for key in ("sha256", "epoch", "accuracy", "mark_dice", "options") if key in card}
        data = {key: trained[key] for key in ("data", "kind", "licence", "patients", "pretrained") if key in trained}
        cards[name] = {**kept, "trained_on": data} if card else None
    return {**record, **cards} if record else {}
