"""The report of paper 1: semi-supervised segmentation and mask-guided classification beside the paper's Table I."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError
from bonemonai.report.attention_figures import curve_figure, gradcam_panels
from bonemonai.report.attention_inputs import (
    METRICS,
    SCORES,
    Classifier,
    model_folders,
    model_title,
    read_classifier,
    read_dsc,
)
from bonemonai.report.data_notices import as_mapping, collect_notices, data_sentence, heading_flags, trainings
from bonemonai.report.lacuna_report import PAPER_TABLE_1A
from bonemonai.report.report_files import number_filter, refuse_earlier_report, render_page, shown_record, write_report

# Poles et al., Table I (b), percent: accuracy, precision, recall, F1
PAPER_TABLE_1B = {
    "resnet50": (50.72, 50.66, 50.51, 50.58),
    "alexnet": (50.91, 56.42, 50.62, 53.36),
    "vgg16": (51.21, 51.72, 51.51, 51.61),
    "mga": (62.89, 65.53, 61.11, 63.24),
}

_FILES = ("report.html", "table_1a.csv", "table_1b.csv", "gradcam_share.csv")
_SEGMENTERS = dict(zip(("vgg16-1", "unet-1", "vgg16-2", "unet-2"), PAPER_TABLE_1A, strict=True))
_RECORDED = ("bonemonai", "python", "packages", "configs", "options", "seed", "inputs", "weights", "weights_of_folds")
_GRADCAM = (
    "share", "share_features", "area", "enrichment", "enrichment_features", "patches", "patches_without_map"
)  # fmt: skip
_COLUMNS_1B = (
    "model", "level", "metric", "paper_percent", "value_percent", "low_percent", "high_percent", "folds",
    "fold_mean_percent", "fold_sd_percent", "patches", "patients",
)  # fmt: skip


def write_attention_report(
    output_dir: str | Path,
    *,
    segmentation: Mapping[str, str | Path] | None = None,
    classification: Mapping[str, str | Path] | None = None,
    curves: Mapping[str, str | Path] | None = None,
    classes: Sequence[str] = ("healthy", "osteoporotic"),
    overwrite: bool = False,
) -> list[Path]:
    """Write ``report.html``, which needs no other file, and ``table_1a.csv``, ``table_1b.csv``, ``gradcam_share.csv``.

    What was not run, or cannot be computed, is n/a. No output names a path; patients appear by their pseudonyms.

    Args:
        output_dir: of the four files.
        segmentation: model to output folder of the bundle's evaluate.json. The paper has ``unet-1``, ``unet-2``,
            ``vgg16-1`` and ``vgg16-2``; other names are shown without its figures.
        classification: model to output folder of evaluate_classification.json or cross_validate.json. The paper has
            ``mga``, ``vgg16``, ``alexnet`` and ``resnet50``.
        curves: model to learning curve (CSV), where that does not lie in the model's folder or its folds'.
        classes: of every classifier, in the order to show them.
        overwrite: replace an earlier report.

    Returns:
        The four files.

    Raises:
        InputError: if nothing is given, a folder lacks a file that the report needs, a file is damaged, or a classifier
            is of other classes.
        OutputError: if there is a report already, or the folder cannot be written to.

    Source:
        Poles et al., Table I and Fig. 2. Intervals, Grad-CAM shares and calibration are ours.
    """
    files = [Path(output_dir) / name for name in _FILES]
    refuse_earlier_report(files, overwrite=overwrite)
    segmenters = model_folders(segmentation, "segmentation")
    classifiers = model_folders(classification, "classification")
    if not segmenters and not classifiers:
        raise InputError("report", "has nothing to show: give segmentation or classification, model name to folder.")
    given = {name: Path(path) for name, path in (curves or {}).items()}
    if unknown := sorted(set(given) - set(classifiers)):
        raise InputError("curves", f"are of {', '.join(unknown)}, which classification does not name.")
    models = {name: read_classifier(folder, classes, given.get(name)) for name, folder in classifiers.items()}
    for name, model in models.items():
        if name in PAPER_TABLE_1B and model.record.get("model") != name:
            raise InputError(classifiers[name], f"holds results of {model.record.get('model')!r}, not of {name!r}.")
    tables = [_table_1a(segmenters), _table_1b(models), _gradcam_table(models)]
    records = {
        f"Segmentation {model_title(name)}": read_json(path / "results.json") for name, path in segmenters.items()
    }
    records |= {f"Classifier {model_title(name)}": model.record for name, model in models.items()}
    page = _page(tables, models, {name: record or {} for name, record in records.items()}, classes)
    write_report(files, page, tables, float_format="%.15g")
    return files


def _table_1a(folders: Mapping[str, Path]) -> pd.DataFrame:
    rows = []
    for name in [*_SEGMENTERS, *(name for name in folders if name not in _SEGMENTERS)]:
        row: dict[str, Any] = {"model": name}
        paper = _SEGMENTERS.get(name, (name, "nan", "nan"))[1:]
        found = read_dsc(folders[name] / "metrics.csv") if name in folders else (math.nan, math.nan)
        for part, published, own in zip(("lacunae", "background"), paper, found, strict=True):
            row |= {f"paper_dsc_{part}_percent": float(published), f"dsc_{part}_percent": 100 * own}
        rows.append(row)
    return pd.DataFrame(rows)


def _table_1b(models: Mapping[str, Classifier]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name in [*PAPER_TABLE_1B, *(name for name in models if name not in PAPER_TABLE_1B)]:
        paper = dict(zip(METRICS, PAPER_TABLE_1B.get(name, ()), strict=False))
        for level, metric in SCORES:
            published = paper.get(metric, math.nan) if level == "patch" else math.nan
            own = _score(models[name], level, metric) if name in models else {}
            rows.append({"model": name, "level": level, "metric": metric, "paper_percent": published, **own})
    return pd.DataFrame(rows, columns=_COLUMNS_1B)


def _score(model: Classifier, level: str, metric: str) -> dict[str, float]:
    def of(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["level"] == level) & (table["metric"] == metric)]

    score, folds = of(model.scores).iloc[0], of(model.folds)["value"].astype(float)
    found = {f"{name}_percent": 100 * float(score[name]) for name in ("value", "low", "high")}
    found |= {"folds": len(folds), "fold_mean_percent": 100 * folds.mean(), "fold_sd_percent": 100 * folds.std()}
    return found | {name: float(score[name]) for name in ("patches", "patients")}


def _gradcam_table(models: Mapping[str, Classifier]) -> pd.DataFrame:
    found = [{"model": name, **as_mapping(model.record.get("gradcam"))} for name, model in models.items()]
    table = pd.DataFrame(found, columns=["model", *_GRADCAM])
    return table.astype(dict.fromkeys(_GRADCAM, float))


def _page(
    tables: Sequence[pd.DataFrame],
    models: Mapping[str, Classifier],
    records: Mapping[str, dict[str, Any]],
    classes: Sequence[str],
) -> str:
    return render_page(
        "attention_report.html.j2",
        {"number": number_filter("{:.2f}"), "named": model_title},
        **heading_flags(records.values()),
        notices=_notices(records),
        classes=classes,
        metrics=METRICS,
        segmentation=tables[0].to_dict("records"),
        scores=_by_model_and_level(tables[1]),
        gradcam=tables[2].to_dict("records"),
        models=models,
        same_patches=len({model.patients[["subject", "patches"]].to_csv() for model in models.values()}) < 2,
        calibration=_calibration_rows(models),
        panels=gradcam_panels({name: model.examples for name, model in models.items()}, classes),
        curves=curve_figure({name: model.curves for name, model in models.items()}),
        records={name: shown_record(record, _RECORDED) for name, record in records.items()},
    )


def _by_model_and_level(scores: pd.DataFrame) -> dict[Any, dict[Any, Any]]:
    return {
        name: {level: cells.set_index("metric").to_dict("index") for level, cells in rows.groupby("level", sort=False)}
        for name, rows in scores.groupby("model", sort=False)
    }


def _calibration_rows(models: Mapping[str, Classifier]) -> list[dict[Any, Any]]:
    return [
        {**row, "model": f"{model_title(name)} {place}"}
        for name, model in models.items()
        for place, table in model.calibration.items()
        for row in table.to_dict("records")
    ]


def _notices(records: Mapping[str, dict[str, Any]]) -> list[str]:
    said = []
    for name, record in records.items():
        said.append((name, data_sentence(record, nothing_about="patients")))
        for leakage in sorted({str(training["leakage"]) for training in trainings(record) if training.get("leakage")}):
            said.append((name, f"LEAKAGE: {leakage}; scores say nothing of other patients."))
    return collect_notices(said, nothing_about="patients", between=", ")
