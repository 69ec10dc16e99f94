"""What the report of paper 2 shows: pooled cross-validations, a sweep and Grad-CAM, read and checked; models' names."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from bonemonai.analysis.damage_gradcam import summarise_damage_gradcam
from bonemonai.analysis.damage_scores import DAMAGE_METRICS
from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError
from bonemonai.report.gradcam_weights import fold_weights, weights_notice

# in the paper's order
MODELS = {
    "cnn": "CNN",
    "resnet_scratch": "ResNet-50 from scratch",
    "transfer": "transfer learning (TL)",
    "fine_tuning": "TL + fine-tuning",
}
BONES = ("cortical", "trabecular")
DEALS = ("sample", "mixed")

_LIMITS = ("load_state", "pristine", "loaded", "overall", "softmax_failed", "images")
_BAND = ("load_state", "mean", "sd", "low", "high", "folds")
_ARRAYS = ("image", "map", "crack")
_LABELS = ("subject", "load_state", "plane", "index", "decision")
_GRADCAM_NUMBERS = ("load_state", "index", "crack_share", "crack_area", "ring_share", "ring_area")


class Validation(NamedTuple):
    """What a cross-validation left.

    Attributes:
        bone: "cortical" or "trabecular"; "" where it was not said.
        model: its name.
        deal: "sample" where samples are apart, or "mixed".
        record: how it came about (``results.json``).
        scores: by metric: ``mean``, ``sd`` and ``folds``; shares in [0, 1].
        folds: a row a fold: ``fold``, ``test``, ``val``, scores.
        best: name of the fold of highest accuracy.
        limits: a row a loading state: accuracies of the best fold beside the spread over folds.
    """

    bone: str
    model: str
    deal: str
    record: dict[str, Any]
    scores: pd.DataFrame
    folds: pd.DataFrame
    best: str
    limits: pd.DataFrame

    @property
    def title(self) -> str:
        """As a reader meets it."""
        words = (self.bone, MODELS.get(self.model, self.model), "mixed deal" if self.deal == "mixed" else "")
        return ", ".join(filter(None, words))

    @property
    def leaks(self) -> bool:
        """Whether a test sample was trained on."""
        return self.deal == "mixed" or bool(self.record.get("leakage"))

    @property
    def best_fold(self) -> dict[Any, Any]:
        """The row of the best fold."""
        return dict(self.folds[self.folds["fold"] == self.best].iloc[0].to_dict())


class Gradcam(NamedTuple):
    """Where a network looks.

    Attributes:
        summary: mean shares on cracks and rings, see :func:`bonemonai.analysis.summarise_damage_gradcam`.
        slices: a slice each: ``image``, ``map``, ``crack`` (H, W), ``subject``, ``load_state``, ``plane``, ``index``
            and ``decision``.
        notice: what a reader must know of the weights that made the maps; "" if they are those of a best fold.
    """

    summary: dict[str, float]
    slices: list[dict[str, Any]]
    notice: str = ""


def read_validations(given: Mapping[str, str | Path]) -> dict[str, Validation]:
    """Read pooled cross-validations.

    Args:
        given: key to folder, see :func:`bonemonai.report.write_damage_report`.

    Returns:
        Key to results, in the paper's order.

    Raises:
        InputError: if that is no mapping, a key is none, a folder lacks a file, is damaged, or is of another model.
    """
    if not isinstance(given, Mapping):
        raise InputError("results", f"must be model to folder, as in {{'cortical/cnn': FOLDER}}; got {given!r}.")
    found = {key: _read_validation(str(key), path) for key, path in given.items()}
    return dict(sorted(found.items(), key=lambda pair: _order(pair[1])))


def read_sweeps(given: str | Path | Mapping[str, str | Path] | None) -> dict[str, pd.DataFrame]:
    """Read tables that :func:`bonemonai.analysis.write_sweep_table` wrote.

    Args:
        given: a file or its folder, or name, such as that of the bone, to file or folder.

    Returns:
        Name, "" where there is none, to table: ``parameter``, ``value``, ``baseline``, ``mean``, ``sd``, ``folds``.

    Raises:
        InputError: if one is missing or damaged.
    """
    tables = {}
    for name, path in _named(given).items():
        file = path / "sweep.csv" if path.is_dir() else path
        words = ("parameter", "value", "baseline")
        table = _read_table(file, words, ("mean", "sd", "folds"), "write the sweep's table again")
        table["baseline"] = table["baseline"].str.lower().isin(("true", "1"))
        tables[name] = table
    return tables


def read_gradcams(
    given: str | Path | Mapping[str, str | Path] | None, validations: Mapping[str, tuple[Validation, Path]]
) -> dict[str, Gradcam]:
    """Read what :func:`bonemonai.analysis.write_damage_gradcam` wrote.

    Args:
        given: a folder of ``gradcam.csv`` and ``gradcam_states.npz``, or key of a result to its folder.
        validations: key to results and folder; where none is given, the best fold's folder is looked into, then the
            cross-validation's.

    Returns:
        Title, "" where there is none, to what was found.

    Raises:
        InputError: if a folder that was given lacks ``gradcam.csv``, a file is damaged, or Grad-CAM of a result was
            made by weights that are of none of its folds.
    """
    folders = _named(given)
    found = {(validations[key][0].title if key in validations else key): path for key, path in folders.items()}
    for key, (validation, folder) in validations.items():
        for place in (folder / validation.best, folder):
            if key not in folders and (place / "gradcam.csv").is_file():
                found.setdefault(validation.title, place)
    weights = {each.title: fold_weights(each.title, each.record, each.best) for each, _ in validations.values()}
    gradcams = {}
    for title, path in found.items():
        claimed = title in weights
        notice = weights_notice(path, [weights[title]] if claimed else [*weights.values()], claimed=claimed)
        gradcams[title] = _read_gradcam(path)._replace(notice=notice)
    return gradcams


def _named(given: str | Path | Mapping[str, str | Path] | None) -> dict[str, Path]:
    pairs = given.items() if isinstance(given, Mapping) else [] if given is None or given == "" else [("", given)]
    return {str(name): Path(path) for name, path in pairs}


def _order(validation: Validation) -> tuple[int, int, int, str]:
    bones, models = [*BONES, validation.bone], [*MODELS, validation.model]
    model = validation.model
    return bones.index(validation.bone), DEALS.index(validation.deal), models.index(model), model


def _parse_key(key: str) -> tuple[str, str, str]:
    """Bone, model and deal."""
    parts = key.split("/")
    bone = parts.pop(0) if len(parts) > 1 and parts[0] in BONES else ""
    deal = parts.pop() if len(parts) > 1 and parts[-1] == "mixed" else "sample"
    if len(parts) != 1 or not parts[0].strip():
        rule = f"must be model, bone/model or bone/model/mixed, the bone {' or '.join(BONES)}"
        raise InputError(f"results {key!r}", f"{rule}; as in cortical/cnn.")
    return bone, parts[0], deal


def _read_validation(key: str, path: str | Path) -> Validation:
    bone, model, deal = _parse_key(key)
    if not isinstance(path, str | Path) or not Path(path).is_dir():
        raise InputError(f"results {key}", f"{path} is no folder.")
    folder, cure = Path(path), "pool the folds of the cross-validation again"
    record = read_json(folder / "results.json")
    if record is None:
        raise InputError(folder / "results.json", f"is not there, or is no JSON object; {cure}.")
    if model in MODELS and record.get("model") in MODELS and record["model"] != model:
        raise InputError(folder, f"holds results of {record['model']!r}, not of {model!r}.")
    if bone and record.get("bone") not in (None, bone):
        raise InputError(folder, f"holds results of {record['bone']} bone, not of {bone}.")
    scores = _read_table(folder / "scores.csv", ["metric"], ("mean", "sd", "folds"), cure).set_index("metric")
    if sorted(scores.index) != sorted(DAMAGE_METRICS):
        raise InputError(folder / "scores.csv", f"must hold {', '.join(DAMAGE_METRICS)}, each once; {cure}.")
    folds = _read_table(folder / "folds.csv", ("fold", "test", "val"), (*DAMAGE_METRICS, "images"), cure)
    limits = _read_table(folder / "detection_limits.csv", ["fold"], _LIMITS, cure)
    band = _read_table(folder / "detection_band.csv", [], _BAND, cure)
    best = record.get("best_fold")
    if best not in set(folds["fold"]) or best not in set(limits["fold"]):
        raise InputError(folder / "results.json", f"names the best fold {best!r}, which the tables lack; {cure}.")
    shown = limits[limits["fold"] == best].drop(columns="fold").merge(band, on="load_state", how="outer")
    return Validation(bone, model, deal, record, scores, folds, str(best), shown.sort_values("load_state"))


def _read_table(path: Path, words: Sequence[str], numbers: Sequence[str], cure: str) -> pd.DataFrame:
    """Read columns of a CSV file; an empty number is NaN, a word never is."""
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [name for name in (*words, *numbers) if name not in table]:
            raise InputError(path, f"has no column {', '.join(missing)}; {cure}.")
        filled = table.replace({name: {"": "nan"} for name in numbers})
        return filled[[*words, *numbers]].astype(dict.fromkeys(numbers, float))
    except FileNotFoundError as error:
        raise InputError(path, f"is not there, and the report needs it; {cure}.") from error
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as a table: {error}; {cure}.") from error


def _read_gradcam(folder: Path) -> Gradcam:
    cure = "visualise the network again"
    table = _read_table(folder / "gradcam.csv", ("subject", "plane", "decision"), _GRADCAM_NUMBERS, cure)
    path = folder / "gradcam_states.npz"
    if not path.is_file():
        return Gradcam(summarise_damage_gradcam(table), [])
    try:
        with open(path, "rb") as stream, np.load(stream) as stored:
            arrays = {name: stored[name] for name in (*_ARRAYS, *_LABELS)}
        shapes = {name: arrays[name].shape for name in _ARRAYS}
        if arrays["image"].ndim != 3 or len(set(shapes.values())) > 1:
            raise ValueError(f"the arrays have shapes {shapes}")
        rows = zip(*arrays.values(), strict=True)
        return Gradcam(summarise_damage_gradcam(table), [dict(zip(arrays, row, strict=True)) for row in rows])
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(path, f"holds no Grad-CAM of slices: {error}; {cure}.") from error
