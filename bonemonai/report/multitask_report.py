"""The report of paper 4: bone conditions from L1 and L2, located, outlined and classified by one network."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.errors import InputError
from bonemonai.report.data_notices import heading_flags
from bonemonai.report.multitask_inputs import (
    METRICS,
    MODELS,
    Multitask,
    read_ablation,
    read_learning_rates,
    read_models,
)
from bonemonai.report.multitask_paper import PAPER_CONFUSION, PAPER_MISPRINTS, PAPER_NOTES, PAPER_TRUE
from bonemonai.report.multitask_report_figures import (
    ablation_figure,
    bars_figure,
    confusion_figure,
    gradcam_figure,
    training_figure,
)
from bonemonai.report.multitask_tables import PAIRS, localisation_table, table_1, table_2, table_3
from bonemonai.report.report_files import number_filter, refuse_earlier_report, render_page, shown_record, write_report
from bonemonai.report.screening_inputs import read_curves
from bonemonai.report.screening_report import RECORDED, grouped, scored_counts, screening_notices, short_cards
from bonemonai.report.screening_report_figures import roc_figure

_FILES = ("report.html", "table_1.csv", "table_2.csv", "table_3.csv", "table_localisation.csv")
_MISPRINT = 1.1e-3  # printed figures are cut or rounded after the third digit
_PAIR_TITLES = {name: f"LF+FF or GC+FF {name.removeprefix('a pair ')}" for name in PAIRS}
_LOCALISATION_TITLES = {
    "average_precision": "AP of boxes",
    "iou": "IoU",
    "dice_index": "Dice index",
    "hd95_mm": "HD95 (mm)",
    "mean_surface_distance_mm": "mean distance (mm)",
}


def write_multitask_report(
    output_dir: str | Path,
    *,
    results: Mapping[str, str | Path] | None,
    learning_rates: Mapping[str, str | Path] | None = None,
    ablation: Mapping[str, str | Path] | None = None,
    curves: str | Path | Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``report.html``, which needs no other file, and tables 1 to 3 and ``table_localisation.csv``.

    Tables 1 to 3 have two rows a condition, one in each ``convention``: the paper takes the other two conditions for
    the positive ones. Beside the figures as printed stand those of the paper's counts, and a run's, with an interval
    over subjects where the evaluation has one; see :func:`bonemonai.report.multitask_tables.table_2`. What was not run
    is n/a (empty in CSV). No output names a path or a subject.

    Args:
        output_dir: of the five files.
        results: model to the folder of its evaluation, which holds what
            :func:`bonemonai.analysis.write_screening_scores` writes and, optionally, ``one_vs_rest.csv``,
            ``average_precision.csv``, ``boundary_scores.csv`` and ``gradcam_examples.npz``. The paper has ``joint``,
            ``alexnet``, ``vgg19``, ``googlenet``, ``resnet50``, ``resnet101``, ``densenet121``, ``shufflenet`` and
            ``efficientnet``; other names are shown without its figures.
        learning_rates: learning rate to a folder of the joint model; the paper has 0.1 to 0.00001.
        ablation: modules that are on to a folder of the joint model: "none", "LF", "GC", "FF", "LF+GC", "LF+FF",
            "GC+FF" or "LF+GC+FF".
        curves: learning curve of a training, ``epoch``, ``loss``, ``loss_<task>``, ``weight_<task>`` and metrics, or
            name to that.
        overwrite: replace an earlier report.

    Returns:
        The five files.

    Raises:
        InputError: if nothing is given, a name is none, a folder holds no evaluation or another model's, or a file is
            damaged.
        OutputError: if there is a report already, or the folder cannot be written to.

    Source:
        Zhang et al., Tables 1 to 3, Figs. 7 to 13. Intervals and distances of the border are ours.
    """
    files = [Path(output_dir) / name for name in _FILES]
    refuse_earlier_report(files, overwrite=overwrite)
    found = (read_models(results), read_learning_rates(learning_rates), read_ablation(ablation))
    if not any(found):
        raise InputError("report", "has nothing to show: give results, model name to folder.")
    drawn = read_curves(curves)
    tables = [table_1(found[1]), table_2(found[0]), table_3(found[2]), localisation_table(found[0])]
    write_report(files, _page(found, tables, drawn), tables, float_format="%.6g")
    return files


def _page(
    found: tuple[list[Multitask], list[Multitask], list[Multitask]],
    tables: Sequence[pd.DataFrame],
    curves: Mapping[str, pd.DataFrame],
) -> str:
    models, every = found[0], [each for group in found for each in group]
    screenings = [each.screening for each in every]
    confusions = _confusions(models)
    return render_page(
        "multitask_report.html.j2",
        {"number": number_filter("{:.3f}"), "named": _named, "misprinted": _misprinted},
        **heading_flags(each.of_data for each in screenings),
        notices=screening_notices(screenings),
        scored=[(each.title, scored_counts(each)) for each in screenings],
        tables=[grouped(table, str(table.columns[0])) for table in tables[:3]],
        table_titles=_table_titles(),
        localisation=grouped(tables[3], "model"),
        localisation_titles=_LOCALISATION_TITLES,
        metrics=METRICS,
        classes=SCREENING_CLASSES,
        paper_true=PAPER_TRUE,
        misprints=[*_row_notes(), *PAPER_MISPRINTS],
        confusions=confusions,
        confusion_url=confusion_figure(confusions),
        uncounted=[each.title for each in models if "subject" not in each.screening.confusion],
        bars=bars_figure(tables[1], MODELS),
        rocs=[
            (each.name, each.title, "" if (roc := each.screening.roc) is None else roc_figure(roc)) for each in models
        ],
        curves=[(name or "training", training_figure(curve)) for name, curve in curves.items()],
        cams=[(each.title, _cams(each)) for each in models if each.examples],
        ablation=ablation_figure(tables[2]),
        records={each.title: shown_record(short_cards(each.record, each.networks), RECORDED) for each in screenings},
    )


def _named(name: Any) -> str:
    return {**MODELS, **_PAIR_TITLES}.get(str(name), str(name))


def _misprinted(row: Mapping[str, Any], metric: str) -> float | None:
    """What the paper's counts give, where its print differs."""
    printed, counted = (float(row[f"{side}_{metric}"]) for side in ("paper", "counts"))
    return counted if math.isfinite(printed) and abs(printed - counted) > _MISPRINT else None


def _table_titles() -> list[tuple[str, str]]:
    return [
        ("learning rate", "Table 1: the joint framework at five learning rates."),
        ("model", "Table 2: the joint framework and the baselines."),
        ("modules on", "Table 3: LF, segmentation's features fused in; GC, gated convolutions; FF, L1 and L2 weighed."),
    ]


def _row_notes() -> list[str]:
    """Rows that are printed otherwise than their counts have them; those of all conditions are said elsewhere."""
    notes: dict[tuple[str, str, str], list[str]] = {}
    for (table, row, name), note in PAPER_NOTES.items():
        if name in SCREENING_CLASSES:
            notes.setdefault((table, row, note), []).append(name)
    return [f"Table {table}, {_named(row)}, {_listed(names)}: {note}." for (table, row, note), names in notes.items()]


def _listed(names: Sequence[str]) -> str:
    return "all conditions" if len(names) == len(SCREENING_CLASSES) else ", ".join(names)


def _confusions(models: Iterable[Multitask]) -> dict[str, pd.DataFrame]:
    """The paper's counts of the joint framework, and those of each run."""
    papers = pd.DataFrame(PAPER_CONFUSION, index=pd.Index(SCREENING_CLASSES), columns=pd.Index(SCREENING_CLASSES))
    counted = {each.title: each.screening.confusion.get("subject") for each in models}
    own = {f"this run: {title}": table for title, table in counted.items() if table is not None}
    return {f"the paper: {MODELS['joint']}": papers, **own}


def _cams(each: Multitask) -> list[tuple[str, str, int, str]]:
    """Figure, words, cases and URL of the right ones and of the wrong."""
    sides = (("Fig. 11", "decided rightly", True), ("Fig. 12", "decided wrongly", False))
    return [
        (name, words, sum(case.right == right for case in each.examples), gradcam_figure(each.examples, right=right))
        for name, words, right in sides
    ]
