"""The report of paper 1: semi-supervised segmentation and mask-guided classification beside the paper's Table I."""

from __future__ import annotations

import itertools
import json
import math
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from bonemonai.analysis.classification_scores import UNDECIDED, Level
from bonemonai.data.atomic import atomic_path
from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError, OutputError
from bonemonai.report.figures import _data_url
from bonemonai.report.lacuna_report import PAPER_TABLE_1A

# Poles et al., Table I (b), percent: accuracy, precision, recall, F1
PAPER_TABLE_1B = {
    "resnet50": (50.72, 50.66, 50.51, 50.58),
    "alexnet": (50.91, 56.42, 50.62, 53.36),
    "vgg16": (51.21, 51.72, 51.51, 51.61),
    "mga": (62.89, 65.53, 61.11, 63.24),
}

_FILES = ("report.html", "table_1a.csv", "table_1b.csv", "gradcam_share.csv")
_SEGMENTERS = dict(zip(("vgg16-1", "unet-1", "vgg16-2", "unet-2"), PAPER_TABLE_1A, strict=True))
_TITLES = {key: row[0].split(",")[0] for key, row in _SEGMENTERS.items()}
_TITLES |= {"resnet50": "ResNet50", "alexnet": "AlexNet", "vgg16": "vgg16", "mga": "MGA"}
_METRICS = ("accuracy", "precision", "recall", "f1")
_SCORES = tuple(itertools.product(get_args(Level), _METRICS))
_RECORDED = ("bonemonai", "python", "packages", "configs", "options", "seed", "inputs", "weights", "weights_of_folds")
_GRADCAM = ("share", "area", "enrichment", "patches", "patches_without_map")
_EXAMPLES = ("subject", "diagnosis", "decision", "image", "mask", "map")
_EXAMPLES_A_CLASS = 3
_COLUMNS_1B = (
    "model", "level", "metric", "paper_percent", "value_percent", "low_percent", "high_percent", "folds",
    "fold_mean_percent", "fold_sd_percent", "patches", "patients",
)  # fmt: skip
_SENTENCES = {
    "synthetic": "trained and tested on a synthetic phantom: these figures say nothing about patients.",
    "unknown": "trained and tested on data of unknown kind, real or synthetic.",
}
# Okabe and Ito's palette; in print dashes tell models apart, a white edge outlines from bone, and heat grows lighter
_OUTLINE, _HEAT = "#0072B2", "inferno"
_LINES = (("#D55E00", "-"), ("#0072B2", "--"), ("#009E73", "-."), ("#000000", ":"), ("#CC79A7", (0, (5, 1, 1, 1))))


class _Classifier(NamedTuple):
    """What an evaluation or a cross-validation left."""

    record: dict[str, Any]
    scores: pd.DataFrame
    folds: pd.DataFrame
    patients: pd.DataFrame
    confusion: dict[str, pd.DataFrame]
    calibration: dict[str, pd.DataFrame]
    curves: list[pd.DataFrame]
    examples: list[dict[str, Any]]


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
    for path in files:
        if path.exists() and not overwrite:
            raise OutputError(path, "exists already; say --overwrite True, or choose another --output_dir.")
    segmenters, classifiers = _folders(segmentation, "segmentation"), _folders(classification, "classification")
    if not segmenters and not classifiers:
        raise InputError("report", "has nothing to show: give segmentation or classification, model name to folder.")
    given = {name: Path(path) for name, path in (curves or {}).items()}
    if unknown := sorted(set(given) - set(classifiers)):
        raise InputError("curves", f"are of {', '.join(unknown)}, which classification does not name.")
    models = {name: _read_classifier(folder, classes, given.get(name)) for name, folder in classifiers.items()}
    tables = [_table_1a(segmenters), _table_1b(models), _gradcam_table(models)]
    records = {f"Segmentation {_title(name)}": read_json(path / "results.json") for name, path in segmenters.items()}
    records |= {f"Classifier {_title(name)}": model.record for name, model in models.items()}
    page = _page(tables, models, {name: record or {} for name, record in records.items()}, classes)
    for path, table in zip(files[1:], tables, strict=True):
        with atomic_path(path) as partial:
            table.to_csv(partial, index=False, float_format="%.15g", lineterminator="\n")
    with atomic_path(files[0]) as partial:
        partial.write_text(page, encoding="utf-8")
    return files


def _folders(given: Mapping[str, str | Path] | None, option: str) -> dict[str, Path]:
    """Models in the paper's order, others after them."""
    if given is not None and not isinstance(given, Mapping):
        raise InputError(option, f"must be model name to folder, as in {{'mga': FOLDER}}; got {given!r}.")
    folders = {}
    for name in sorted(given or {}, key=lambda key: [*_TITLES, key].index(key)):
        path = (given or {})[name]
        if not isinstance(path, str | Path) or not Path(path).is_dir():
            raise InputError(f"{option} {name}", f"{path} is no folder.")
        folders[name] = Path(path)
    return folders


def _title(name: str) -> str:
    return _TITLES.get(name, name)


def _read_table(
    path: Path, numbers: Sequence[str], words: Sequence[str], optional: Sequence[str] = (), **options: Any
) -> pd.DataFrame:
    """Read columns of a CSV file; an empty number is NaN, a word never is."""
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False, **options)
        if missing := [name for name in (*words, *numbers) if name not in table]:
            raise InputError(path, f"has no column {', '.join(missing)}; evaluate the model again, or say --classes.")
        found = [*numbers, *(name for name in optional if name in table)]
        filled = table.replace({name: {"": "nan"} for name in found})
        return filled[[*words, *found]].astype(dict.fromkeys(found, float))
    except FileNotFoundError as error:
        raise InputError(path, "is not there, and the report needs it; evaluate the model again.") from error
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as a table: {error}.") from error


def _read_classifier(folder: Path, classes: Sequence[str], curve: Path | None) -> _Classifier:
    record = read_json(folder / "results.json")
    if record is None:
        raise InputError(folder / "results.json", "is not there, or is no JSON object; evaluate the model again.")
    places = {"": folder, **{str(name): folder / str(name) for name in record.get("folds") or ()}}
    shares = [f"{kind}_{name}" for kind in ("votes", "probability") for name in classes]
    curves = [curve] if curve else [found for path in places.values() if (found := _find_curve(path))]
    return _Classifier(
        record=record,
        scores=_read_scores(folder / "scores.csv"),
        folds=_read_folds(folder / "folds.csv"),
        patients=_read_table(folder / "patients.csv", ["patches", *shares], ("subject", "diagnosis", "decision")),
        confusion={level: _read_confusion(folder / f"confusion_{level}.csv", classes) for level in get_args(Level)},
        calibration={
            name: _read_table(path / "calibration.csv", ("temperature", "ece", "nll", "patches", "patients"), ["stage"])
            for name, path in places.items()
            if (path / "calibration.csv").is_file()
        },
        curves=[_read_table(path, ("epoch", "loss"), (), ("patch_accuracy",)) for path in curves],
        examples=[patch for name, path in places.items() for patch in _read_examples(path, name)],
    )


def _read_scores(path: Path) -> pd.DataFrame:
    table = _read_table(path, ("value", "low", "high", "patches", "patients"), ("level", "metric"))
    if sorted(zip(table["level"], table["metric"], strict=True)) != sorted(_SCORES):
        raise InputError(path, "must hold each score once, of patches and of patients; evaluate the model again.")
    return table


def _read_folds(path: Path) -> pd.DataFrame:
    columns = ("fold", "level", "metric")
    return _read_table(path, ["value"], columns) if path.is_file() else pd.DataFrame(columns=[*columns, "value"])


def _read_confusion(path: Path, classes: Sequence[str]) -> pd.DataFrame:
    table = _read_table(path, classes, ["diagnosis"], [UNDECIDED]).set_index("diagnosis")
    if sorted(table.index) != sorted(classes):
        raise InputError(path, f"is of {', '.join(table.index)}; the report's classes are {', '.join(classes)}.")
    return table.loc[list(classes)]


def _find_curve(folder: Path) -> Path | None:
    """The learning curve in a folder, unless it could be another model's."""
    found = sorted(folder.glob("*.curve.csv"))
    usual = folder / "model.curve.csv"
    return usual if usual in found else found[0] if len(found) == 1 else None


def _read_examples(folder: Path, fold: str) -> list[dict[str, Any]]:
    path = folder / "gradcam_examples.npz"
    if not path.is_file():
        return []
    try:
        with np.load(path) as stored:
            arrays = [stored[name] for name in _EXAMPLES]
        image, mask, heat = arrays[-3:]
        if image.ndim != 3 or not image.shape == mask.shape == heat.shape:
            raise ValueError(f"image, mask and map have shapes {image.shape}, {mask.shape} and {heat.shape}")
        return [{"fold": fold, **dict(zip(_EXAMPLES, patch, strict=True))} for patch in zip(*arrays, strict=True)]
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(path, f"holds no Grad-CAM examples: {error}; evaluate the model again.") from error


def _table_1a(folders: Mapping[str, Path]) -> pd.DataFrame:
    rows = []
    for name in [*_SEGMENTERS, *(name for name in folders if name not in _SEGMENTERS)]:
        row: dict[str, Any] = {"model": name}
        paper = _SEGMENTERS.get(name, (name, "nan", "nan"))[1:]
        found = _read_dsc(folders[name] / "metrics.csv") if name in folders else (math.nan, math.nan)
        for part, published, own in zip(("lacunae", "background"), paper, found, strict=True):
            row |= {f"paper_dsc_{part}_percent": float(published), f"dsc_{part}_percent": 100 * own}
        rows.append(row)
    return pd.DataFrame(rows)


def _read_dsc(path: Path) -> tuple[float, float]:
    table = _read_table(path, ["value"], ["metric"], header=None, names=["metric", "value"])
    values = dict(zip(table["metric"], table["value"], strict=True))
    if not {"lacuna_dsc", "background_dsc"} <= set(values):
        raise InputError(path, "has no lacuna_dsc and background_dsc; evaluate with the bundle's evaluate.json.")
    return values["lacuna_dsc"], values["background_dsc"]


def _table_1b(models: Mapping[str, _Classifier]) -> pd.DataFrame:
    rows: list[dict[str, Any]] = []
    for name in [*PAPER_TABLE_1B, *(name for name in models if name not in PAPER_TABLE_1B)]:
        paper = dict(zip(_METRICS, PAPER_TABLE_1B.get(name, ()), strict=False))
        for level, metric in _SCORES:
            published = paper.get(metric, math.nan) if level == "patch" else math.nan
            own = _score(models[name], level, metric) if name in models else {}
            rows.append({"model": name, "level": level, "metric": metric, "paper_percent": published, **own})
    return pd.DataFrame(rows, columns=_COLUMNS_1B)


def _score(model: _Classifier, level: str, metric: str) -> dict[str, float]:
    def of(table: pd.DataFrame) -> pd.DataFrame:
        return table[(table["level"] == level) & (table["metric"] == metric)]

    score, folds = of(model.scores).iloc[0], of(model.folds)["value"].astype(float)
    found = {f"{name}_percent": 100 * float(score[name]) for name in ("value", "low", "high")}
    found |= {"folds": len(folds), "fold_mean_percent": 100 * folds.mean(), "fold_sd_percent": 100 * folds.std()}
    return found | {name: float(score[name]) for name in ("patches", "patients")}


def _gradcam_table(models: Mapping[str, _Classifier]) -> pd.DataFrame:
    found = [{"model": name, **_mapping(model.record.get("gradcam"))} for name, model in models.items()]
    table = pd.DataFrame(found, columns=["model", *_GRADCAM])
    return table.astype(dict.fromkeys(_GRADCAM, float))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _page(
    tables: Sequence[pd.DataFrame],
    models: Mapping[str, _Classifier],
    records: Mapping[str, dict[str, Any]],
    classes: Sequence[str],
) -> str:
    environment = Environment(loader=PackageLoader("bonemonai.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"number": _number, "named": _title}
    scores = {
        name: {level: cells.set_index("metric").to_dict("index") for level, cells in rows.groupby("level", sort=False)}
        for name, rows in tables[1].groupby("model", sort=False)
    }
    page: str = environment.get_template("attention_report.html.j2").render(
        synthetic=any("synthetic" in _kinds(record) for record in records.values()),
        known=any(_kinds(record) != {"unknown"} for record in records.values()),
        notices=_notices(records),
        classes=classes,
        metrics=_METRICS,
        segmentation=tables[0].to_dict("records"),
        scores=scores,
        gradcam=tables[2].to_dict("records"),
        models=models,
        same_patches=len({model.patients[["subject", "patches"]].to_csv() for model in models.values()}) < 2,
        calibration=[
            {**row, "model": f"{_title(name)} {place}"}
            for name, model in models.items()
            for place, table in model.calibration.items()
            for row in table.to_dict("records")
        ],
        panels=_panels(models, classes),
        curves=_curve_figure({name: model.curves for name, model in models.items()}),
        records={
            name: json.dumps({key: record[key] for key in _RECORDED if key in record}, indent=2)
            for name, record in records.items()
        },
    )
    return page


def _number(value: Any, form: str = "{:.2f}") -> str:
    return "n/a" if value is None or pd.isna(value) else form.format(value)


def _trainings(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What each of a model's weights was trained on."""
    cards = record.get("weights_of_folds") or [record.get("weights")]
    return [_mapping(_mapping(card).get("trained_on")) for card in cards]


def _kinds(record: Mapping[str, Any]) -> set[str]:
    return {str(training.get("kind") or "unknown") for training in _trainings(record)}


def _notices(records: Mapping[str, dict[str, Any]]) -> list[str]:
    """What a reader must know of the data before any figure."""
    said: dict[str, list[str]] = {}
    for name, record in records.items():
        for kind in sorted(_kinds(record)):
            said.setdefault(_SENTENCES.get(kind, f"trained on data of this kind: {kind}."), []).append(name)
        for leakage in sorted({str(training["leakage"]) for training in _trainings(record) if training.get("leakage")}):
            said.setdefault(f"LEAKAGE: {leakage}; scores say nothing of other patients.", []).append(name)
    worst_first = sorted(said.items(), key=lambda pair: pair[0] != _SENTENCES["synthetic"])
    return [f"{', '.join(names)}: {sentence}" for sentence, names in worst_first]


def _panels(models: Mapping[str, _Classifier], classes: Sequence[str]) -> list[tuple[str, str]]:
    """Figures of the same patches seen by several models; a model with patches of its own has its own figure."""
    figures = []
    left = {name: model.examples for name, model in reversed(list(models.items())) if model.examples}
    while left:
        lead = next(iter(left))
        shown = _shown(left[lead], classes)
        if not shown:
            del left[lead]
            continue
        seen = {name: [_same(patch, patches) for patch in shown] for name, patches in left.items()}
        columns = {name: patches for name, patches in seen.items() if all(patches)}
        figures.append((", ".join(map(_title, columns)), _gradcam_figure(shown, columns)))
        left = {name: patches for name, patches in left.items() if name not in columns}
    return figures


def _shown(patches: Iterable[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """A few patches of each class, those first that are of different patients."""
    turns: Counter[str] = Counter()
    ranked: list[tuple[int, dict[str, Any]]] = []
    for patch in patches:
        turns[patch["subject"]] += 1
        ranked.append((turns[patch["subject"]], patch))
    ranked.sort(key=lambda pair: pair[0])
    return [patch for name in classes for patch in [p for _, p in ranked if p["diagnosis"] == name][:_EXAMPLES_A_CLASS]]


def _same(patch: dict[str, Any], others: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The same patch as another model saw it, of the same fold; empty if it did not."""
    for other in others:
        words = all(patch[key] == other[key] for key in ("fold", "subject", "diagnosis"))
        if words and all(np.array_equal(patch[key], other[key], equal_nan=True) for key in ("image", "mask")):
            return other
    return {}


def _gradcam_figure(shown: Sequence[dict[str, Any]], columns: Mapping[str, Sequence[dict[str, Any]]]) -> str:
    size = " x ".join(map(str, shown[0]["image"].shape))
    titles = [f"patch, {size} pixels", "lacuna mask", *map(_title, columns)]
    figure = Figure(figsize=(2.0 * len(titles) + 1.0, 2.3 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), len(titles), squeeze=False)
    for number, patch in enumerate(shown):
        for axis in axes[number]:
            axis.imshow(patch["image"].astype(np.float32), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.set(xticks=[], yticks=[])
        axes[number, 0].set_ylabel(f"{patch['diagnosis']}\n{patch['subject']}")
        _draw_mask(axes[number, 1], patch["mask"])
        for axis, patches in zip(axes[number, 2:], columns.values(), strict=True):
            _draw_map(axis, patches[number])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=10)
    scale = ScalarMappable(Normalize(0, 1), _HEAT)
    figure.colorbar(scale, ax=axes, label="Grad-CAM (1: the patch's highest value)", shrink=0.6, aspect=40)
    return _data_url(figure)


def _draw_mask(axis: Any, mask: NDArray[np.bool_]) -> None:
    if mask.any():
        lines = axis.contour(mask, levels=[0.5], colors=_OUTLINE, linewidths=1.2)
        lines.set_path_effects([withStroke(linewidth=2.6, foreground="white")])
    else:
        _say(axis, "no lacuna")


def _draw_map(axis: Any, patch: Mapping[str, Any]) -> None:
    right = "right" if patch["decision"] == patch["diagnosis"] else "wrong"
    axis.set_xlabel(f"{patch['decision']} ({right})")
    heat = np.nan_to_num(patch["map"].astype(np.float32))
    if heat.max() <= 0:
        _say(axis, "no map")
        return
    axis.imshow(heat / heat.max(), cmap=_HEAT, vmin=0, vmax=1, alpha=0.6)
    if patch["mask"].any():
        _draw_mask(axis, patch["mask"])


def _say(axis: Any, words: str) -> None:
    box = {"facecolor": "white", "edgecolor": "none"}
    axis.text(0.5, 0.5, words, transform=axis.transAxes, ha="center", va="center", bbox=box)


def _curve_figure(curves: Mapping[str, Sequence[pd.DataFrame]]) -> str:
    """Learning curves, a line a fold; empty where there are none."""
    drawn = [name for name, tables in curves.items() if tables]
    if not drawn:
        return ""
    scored = any("patch_accuracy" in table for name in drawn for table in curves[name])
    figure = Figure(figsize=(10.5 if scored else 6.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + scored, squeeze=False)[0]
    for name, (colour, dash) in zip(drawn, itertools.cycle(_LINES), strict=False):
        for number, table in enumerate(curves[name]):
            label = "_" if number else f"{_title(name)} ({len(curves[name])})"
            style = {"color": colour, "linestyle": dash, "linewidth": 1.0, "marker": "." if len(table) < 10 else ""}
            axes[0].plot(table["epoch"], table["loss"], label=label, **style)
            if "patch_accuracy" in table:
                axes[1].plot(table["epoch"], 100 * table["patch_accuracy"], label=label, **style)
    axes[0].set(title="training", ylabel="loss (mean over batches)")
    if scored:
        axes[1].set(title="validation", ylabel="accuracy of patches (%)", ylim=(0, 100))
    for axis in axes:
        axis.set(xlabel="epoch")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].legend(frameon=False, title="model (trainings)")
    return _data_url(figure)
