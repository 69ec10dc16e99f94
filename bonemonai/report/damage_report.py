"""The report of paper 2: pristine and failed bone told apart, beside the paper's figures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.errors import InputError
from bonemonai.report.damage_figures import comparison_figure, detection_figure, state_panels, sweep_figure
from bonemonai.report.damage_inputs import (
    BONES,
    DEALS,
    MODELS,
    Gradcam,
    Validation,
    read_gradcams,
    read_sweeps,
    read_validations,
)
from bonemonai.report.data_notices import collect_notices, data_sentence, heading_flags
from bonemonai.report.report_files import number_filter, refuse_earlier_report, render_page, shown_record, write_report

# Shen et al., 3.2, 3.4 and 3.5: mean accuracy over folds, in Fig. 8; what stands there as a bar only is not here
PAPER_FIG_8 = {
    ("cortical", "sample"): {"cnn": 0.983, "transfer": 0.959, "fine_tuning": 0.988},
    ("trabecular", "sample"): {"cnn": 0.901, "transfer": 0.951, "fine_tuning": 0.996},
    ("cortical", "mixed"): {"cnn": 0.967, "fine_tuning": 0.997},
    ("trabecular", "mixed"): {"cnn": 0.926, "fine_tuning": 0.990},
}
# the same, 3.3: accuracy of the CNN of the best fold
PAPER_BEST_FOLD = {"cortical": 1.0, "trabecular": 0.986}
LEAKAGE = "LEAKAGE: slices of the same sample on both sides: says nothing about an unseen sample"

_FILES = ("report.html", "table_fig8.csv", "detection_limits.csv")
_RECORDED = (
    "model", "bonemonai", "packages", "configs", "options", "seed", "tested_on", "leakage", "folds", "best_fold",
    "weights", "weights_of_folds",
)  # fmt: skip
_COLUMNS_8 = ["bone", "deal", "model", "paper_accuracy", "mean", "sd", "folds", "leakage"]
_COLUMNS_LIMITS = [
    "bone", "deal", "model", "load_state", "best_fold", "pristine", "loaded", "overall", "softmax_failed", "images",
    "mean", "sd", "low", "high", "folds",
]  # fmt: skip


def write_damage_report(
    output_dir: str | Path,
    *,
    results: Mapping[str, str | Path],
    sweep: str | Path | Mapping[str, str | Path] | None = None,
    gradcam: str | Path | Mapping[str, str | Path] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write ``report.html``, which needs no other file, ``table_fig8.csv`` and ``detection_limits.csv``.

    ``table_fig8.csv``: a row a bone, deal and model: ``paper_accuracy``, this run's ``mean``, ``sd`` and ``folds``,
    and ``leakage``, empty where samples are apart. ``detection_limits.csv``: a row a model and loading state:
    accuracies of the best fold, and ``mean``, ``sd``, ``low`` and ``high`` of overall over folds. All are shares in
    [0, 1]. What was not run, or cannot be computed, is n/a. No output names a path; samples appear by pseudonyms.

    Args:
        output_dir: of the three files.
        results: model to folder of a pooled cross-validation, see :func:`bonemonai.analysis.pool_damage_folds`. The
            paper has ``cnn``, ``resnet_scratch``, ``transfer`` and ``fine_tuning``; other names are shown without its
            figures. ``cortical/cnn`` and ``trabecular/cnn`` say the bone, without which there are no figures of the
            paper either; ``cortical/cnn/mixed`` says that slices of one sample stand on both sides.
        sweep: a ``sweep.csv`` or its folder, or name, such as the bone's, to that.
        gradcam: a folder of ``gradcam.csv`` and ``gradcam_states.npz``, or key of ``results`` to that; by default what
            the folder of a best fold, or of its cross-validation, holds. The page says so where the weights that
            made it are not those of the best fold, or are not known.
        overwrite: replace an earlier report.

    Returns:
        The three files.

    Raises:
        InputError: if nothing is given, a key is none, a folder lacks a file that the report needs, a file is damaged,
            a folder holds another model's results, or Grad-CAM of a result was made by weights of none of its folds.
        OutputError: if there is a report already, or the folder cannot be written to.

    Source:
        Shen et al., Figs. 3, 4c, 5b, 6b, 7, 8 and 9. Bands, crack outlines and shares of Grad-CAM are ours.
    """
    files = [Path(output_dir) / name for name in _FILES]
    refuse_earlier_report(files, overwrite=overwrite)
    if not results:
        raise InputError("report", "has nothing to show: give results, model name to folder.")
    found = read_validations(results)
    sweeps = read_sweeps(sweep)
    gradcams = read_gradcams(gradcam, {key: (each, Path(results[key])) for key, each in found.items()})
    validations = list(found.values())
    tables = [_table_fig8(validations), _table_limits(validations)]
    page = _page(tables[0], validations, sweeps, gradcams)
    write_report(files, page, tables, float_format="%.9g")
    return files


def _table_fig8(validations: list[Validation]) -> pd.DataFrame:
    given = {(each.bone, each.deal, each.model): each for each in validations}
    published = [(bone, deal, model) for bone in BONES for deal in DEALS for model in MODELS]
    order = [
        pair for bone in (*BONES, "") for deal in DEALS for pair in [*published, *given] if pair[:2] == (bone, deal)
    ]
    rows = []
    for bone, deal, model in dict.fromkeys(order):
        paper = PAPER_FIG_8.get((bone, deal), {}).get(model, math.nan)
        own = given.get((bone, deal, model))
        mean, sd, folds = (own.scores[name]["accuracy"] if own else math.nan for name in ("mean", "sd", "folds"))
        leaks = own.leaks if own else deal == "mixed"
        rows.append((bone, deal, model, paper, mean, sd, folds, LEAKAGE if leaks else ""))
    return pd.DataFrame(rows, columns=_COLUMNS_8)


def _table_limits(validations: list[Validation]) -> pd.DataFrame:
    tables = [
        each.limits.assign(bone=each.bone, deal=each.deal, model=each.model, best_fold=each.best)
        for each in validations
    ]
    return pd.concat(tables, ignore_index=True)[_COLUMNS_LIMITS]


def _page(
    fig8: pd.DataFrame,
    validations: list[Validation],
    sweeps: Mapping[str, pd.DataFrame],
    gradcams: Mapping[str, Gradcam],
) -> str:
    return render_page(
        "damage_report.html.j2",
        {"number": number_filter("{:.3f}"), "named": lambda name: MODELS.get(name, name)},
        **heading_flags(each.record for each in validations),
        notices=_notices(validations),
        fig8=_groups(fig8),
        validations=validations,
        paper_best=PAPER_BEST_FOLD,
        detection={each.title: detection_figure(each.limits) for each in validations},
        comparisons=_comparisons(validations),
        sweeps=[(name, sweep_figure(table), table.to_dict("records")) for name, table in sweeps.items()],
        gradcam_notices=[(title, each.notice) for title, each in gradcams.items() if each.notice],
        gradcams={title: (each.summary, *state_panels(each.slices)) for title, each in gradcams.items()},
        records={each.title: shown_record(each.record, _RECORDED) for each in validations},
    )


def _groups(fig8: pd.DataFrame) -> list[tuple[str, str, list[dict[Any, Any]]]]:
    groups = fig8.groupby(["bone", "deal"], sort=False)
    return [(str(bone), str(deal), rows.to_dict("records")) for (bone, deal), rows in groups]


def _comparisons(validations: list[Validation]) -> list[tuple[str, list[Validation], str]]:
    """CNN and TL + fine-tuning of the same bone and deal in one figure, where both were run."""
    given = {(each.bone, each.deal, each.model): each for each in validations}
    figures = []
    for bone, deal in dict.fromkeys((each.bone, each.deal) for each in validations):
        pair = [given[key] for model in ("cnn", "fine_tuning") if (key := (bone, deal, model)) in given]
        if len(pair) == 2:
            name = " ".join(filter(None, (bone, "mixed deal" if deal == "mixed" else "")))
            figures.append((name, pair, comparison_figure({MODELS[each.model]: each.limits for each in pair})))
    return figures


def _notices(validations: list[Validation]) -> list[str]:
    said = []
    for each in validations:
        said.append((each.title, data_sentence(each.record, nothing_about="bone")))
        if each.leaks:
            why = f" ({each.record['leakage']})" if each.record.get("leakage") else ""
            said.append((each.title, f"{LEAKAGE}{why}."))
    return collect_notices(said, nothing_about="bone", between="; ")
