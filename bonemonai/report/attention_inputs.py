"""What the report of paper 1 shows: folders that evaluations left, read and checked, and the models' names."""

from __future__ import annotations

import itertools
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from bonemonai.analysis.classification_scores import UNDECIDED, Level
from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError

METRICS = ("accuracy", "precision", "recall", "f1")
SCORES = tuple(itertools.product(get_args(Level), METRICS))

# of segmentation, then of classification, in the paper's order
_TITLES = {
    "vgg16-1": "vgg16-1", "unet-1": "U-Net-1", "vgg16-2": "vgg16-2", "unet-2": "U-Net-2",
    "resnet50": "ResNet50", "alexnet": "AlexNet", "vgg16": "vgg16", "mga": "MGA",
}  # fmt: skip
_EXAMPLES = ("subject", "diagnosis", "decision", "image", "mask", "map")


class Classifier(NamedTuple):
    """What an evaluation or a cross-validation of a classifier left.

    Attributes:
        record: how it came about (``results.json``).
        scores: a row a level and metric, with the ends of its interval; shares in [0, 1].
        folds: the same a fold, without intervals; no row if there were no folds.
        patients: a row a patient: patches, votes, probabilities, decision.
        confusion: level to patches or patients, true classes by row, decisions by column.
        calibration: fold to calibration before and after, where it was calibrated; an evaluation's fold is "".
        curves: a learning curve a training, a row an epoch.
        examples: a patch each, ``fold``, ``subject``, ``diagnosis``, ``decision``; arrays ``image``, ``mask``, ``map``
            (H, W).
    """

    record: dict[str, Any]
    scores: pd.DataFrame
    folds: pd.DataFrame
    patients: pd.DataFrame
    confusion: dict[str, pd.DataFrame]
    calibration: dict[str, pd.DataFrame]
    curves: list[pd.DataFrame]
    examples: list[dict[str, Any]]


def model_folders(given: Mapping[str, str | Path] | None, option: str) -> dict[str, Path]:
    """Check which folders are given.

    Args:
        given: model to folder.
        option: what the user calls them.

    Returns:
        Model to folder, in the paper's order, other models after them.

    Raises:
        InputError: if that is no mapping, or a folder is not there.
    """
    if given is not None and not isinstance(given, Mapping):
        raise InputError(option, f"must be model name to folder, as in {{'mga': FOLDER}}; got {given!r}.")
    folders = {}
    for name in sorted(given or {}, key=lambda key: [*_TITLES, key].index(key)):
        path = (given or {})[name]
        if not isinstance(path, str | Path) or not Path(path).is_dir():
            raise InputError(f"{option} {name}", f"{path} is no folder.")
        folders[name] = Path(path)
    return folders


def model_title(name: str) -> str:
    """Name a model as the paper does; other models keep their name."""
    return _TITLES.get(name, name)


def read_classifier(folder: Path, classes: Sequence[str], curve: Path | None) -> Classifier:
    """Read what evaluate_classification.json or cross_validate.json left in a folder.

    Args:
        folder: of the results; those of folds lie in folders of it.
        classes: of the classifier, in the order to show them.
        curve: the learning curve, where that lies elsewhere.

    Returns:
        The tables, in which an empty number is NaN.

    Raises:
        InputError: if a file that the report needs is missing, a file is damaged, or the classes are others.
    """
    record = read_json(folder / "results.json")
    if record is None:
        raise InputError(folder / "results.json", "is not there, or is no JSON object; evaluate the model again.")
    places = {"": folder, **{str(name): folder / str(name) for name in record.get("folds") or ()}}
    shares = [f"{kind}_{name}" for kind in ("votes", "probability") for name in classes]
    curves = [curve] if curve else [found for path in places.values() if (found := _find_curve(path))]
    return Classifier(
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


def read_dsc(path: Path) -> tuple[float, float]:
    """Read what the bundle's evaluate.json measured.

    Args:
        path: of ``metrics.csv``.

    Returns:
        DSC of lacunae and of background, in [0, 1]; NaN if there was none.

    Raises:
        InputError: if the file is missing or damaged, or lacks one of them.
    """
    table = _read_table(path, ["value"], ["metric"], header=None, names=["metric", "value"])
    values = dict(zip(table["metric"], table["value"], strict=True))
    if not {"lacuna_dsc", "background_dsc"} <= set(values):
        raise InputError(path, "has no lacuna_dsc and background_dsc; evaluate with the bundle's evaluate.json.")
    return values["lacuna_dsc"], values["background_dsc"]


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


def _read_scores(path: Path) -> pd.DataFrame:
    table = _read_table(path, ("value", "low", "high", "patches", "patients"), ("level", "metric"))
    if sorted(zip(table["level"], table["metric"], strict=True)) != sorted(SCORES):
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
