"""What the report of paper 4 shows: folders that evaluations left, read and checked, and names of their settings."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.boundary_distance import BOUNDARY_METRICS
from bonemonai.analysis.classification_scores import UNDECIDED
from bonemonai.analysis.one_vs_rest_tables import CONVENTIONS, one_vs_rest_table
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.errors import InputError
from bonemonai.report.screening_inputs import Screening, read_screenings, read_table

# the paper's own first
MODELS = {
    "joint": "Joint framework",
    "alexnet": "AlexNet",
    "vgg19": "VGG-19",
    "googlenet": "GoogLeNet",
    "resnet50": "ResNet-50",
    "resnet101": "ResNet-101",
    "densenet121": "DenseNet-121",
    "shufflenet": "ShuffleNet",
    "efficientnet": "EfficientNet",
}
LEARNING_RATES = ("0.1", "0.01", "0.001", "0.0001", "0.00001")
ABLATIONS = ("none", "LF", "GC", "FF", "LF+GC", "LF+FF", "GC+FF", "LF+GC+FF")
METRICS = ("accuracy", "sensitivity", "specificity", "f1")

_SWITCHES = ("LF", "GC", "FF")
_NETWORKS = ("weights", "segmentation", "locator")
_CURE = "evaluate the model again"
_ROUNDED = 1e-4  # files have six digits
_CLOSE = 1e-3  # of half precision
_EXAMPLES = ("image", "map", "diagnosis", "decision", "subject", "right")


class GradcamCase(NamedTuple):
    """A subject's two crops and what the classifier looked at.

    Attributes:
        image: (2, H, W), L1 and L2, in [0, 1].
        heat: (2, H, W), Grad-CAM, in [0, 1].
        diagnosis: the true condition.
        decision: the most probable one.
    """

    image: NDArray[np.float32]
    heat: NDArray[np.float32]
    diagnosis: str
    decision: str

    @property
    def right(self) -> bool:
        """The decision is the true condition."""
        return self.diagnosis == self.decision


class Multitask(NamedTuple):
    """What an evaluation left; None, or empty, where a file is not there.

    Attributes:
        screening: what evaluations of paper 3 leave too.
        one_vs_rest: subjects, see :func:`bonemonai.analysis.one_vs_rest_table`, lost ones counted as wrong; from the
            counts of decisions where it has no file and none was lost.
        precision: boxes, see :func:`bonemonai.analysis.average_precision`.
        boundary: distances, see :func:`bonemonai.analysis.summarise_boundary_distances`.
        overlap_slices: a row an un-augmented slice, ``dice_index`` and ``iou``.
        examples: of Grad-CAM.
    """

    screening: Screening
    one_vs_rest: pd.DataFrame | None
    precision: pd.DataFrame | None
    boundary: pd.DataFrame | None
    overlap_slices: pd.DataFrame | None
    examples: list[GradcamCase]

    @property
    def name(self) -> str:
        """Of the model or of its setting."""
        return self.screening.name

    @property
    def title(self) -> str:
        """As a reader meets it."""
        return self.screening.title

    @property
    def lost(self) -> int:
        """Subjects of whom no vertebra was found, who are called nothing."""
        return _lost(self.screening)


def read_models(given: Mapping[str, str | Path] | None) -> list[Multitask]:
    """Read evaluations of models.

    Args:
        given: name of a model, see :data:`MODELS`, or another, to the folder of its evaluation.

    Returns:
        In the paper's order, other models last.

    Raises:
        InputError: if that is no mapping, a folder holds no evaluation, is of another model, or a file is damaged.
    """
    return _read(given, "results", MODELS, str, model=None)


def read_learning_rates(given: Mapping[str, str | Path] | None) -> list[Multitask]:
    """Read evaluations of the joint model at several learning rates.

    Args:
        given: learning rate, a number or its text, to a folder.

    Returns:
        In the paper's order, other learning rates last; named as the paper writes them.

    Raises:
        InputError: see :func:`read_models`; also if a name is no learning rate, or is given twice.
    """
    names = [learning_rate_name(key) for key in given] if isinstance(given, Mapping) else []
    others = sorted(set(names) - set(LEARNING_RATES), key=float, reverse=True)
    titles = {rate: f"learning rate {rate}" for rate in (*LEARNING_RATES, *others)}
    return _read(given, "learning_rates", titles, learning_rate_name, model="joint")


def read_ablation(given: Mapping[str, str | Path] | None) -> list[Multitask]:
    """Read evaluations of the joint model with some of its modules.

    Args:
        given: "none", or the modules LF, GC and FF that are on, joined by +, to a folder.

    Returns:
        In the paper's order.

    Raises:
        InputError: see :func:`read_models`; also if a name is no combination, or is given twice.
    """
    titles = {name: f"ablation {name}" for name in ABLATIONS}
    return _read(given, "ablation", titles, ablation_name, model="joint")


def learning_rate_name(given: Any) -> str:
    """Write a learning rate as the paper's Table 1 does.

    Args:
        given: a number, or its text.

    Raises:
        InputError: if it is no number above 0.

    Example:
        >>> learning_rate_name(1e-5), learning_rate_name("1e-3"), learning_rate_name(0.05)
        ('0.00001', '0.001', '0.05')
    """
    try:
        value = float(given)
    except (TypeError, ValueError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise InputError("learning_rates", f"has the name {given!r}; names are numbers above 0, as 0.001.")
    same = [name for name in LEARNING_RATES if math.isclose(float(name), value)]
    return same[0] if same else f"{value:g}"


def ablation_name(given: Any) -> str:
    """Write a combination of modules as the report does.

    Args:
        given: "none", or modules joined by +, in any order.

    Raises:
        InputError: if it is no combination.

    Example:
        >>> ablation_name("FF+LF"), ablation_name("none")
        ('LF+FF', 'none')
    """
    parts = [part.strip() for part in str(given).split("+")]
    if parts == ["none"]:
        return "none"
    if len(set(parts)) < len(parts) or not set(parts) <= set(_SWITCHES):
        raise InputError("ablation", f"has the name {given!r}; names are {', '.join(ABLATIONS)}.")
    return "+".join(switch for switch in _SWITCHES if switch in parts)


def _read(
    given: Mapping[str, str | Path] | None,
    option: str,
    titles: Mapping[str, str],
    name_of: Callable[[Any], str],
    *,
    model: str | None,
) -> list[Multitask]:
    if given is None or (isinstance(given, str) and not given):
        return []
    named: Any = given
    if isinstance(given, Mapping):
        named = {}
        for key, folder in given.items():
            if (name := name_of(key)) in named:
                raise InputError(option, f"has {name} twice; give each once.")
            named[name] = folder
    found = read_screenings(named, titles, option=option, model=model, models=MODELS)
    shown = [each.title for each in found]
    if twice := [title for title in shown if shown.count(title) > 1]:
        raise InputError(option, f"has two models that a reader would meet as {twice[0]}; give one another name.")
    return [_complete(each, Path(named[each.name])) for each in found]


def _complete(screening: Screening, folder: Path) -> Multitask:
    """Add what paper 3 has not."""
    # a network may be one for all tasks: only cards that are there tell what was trained on
    networks = [name for name in _NETWORKS if name in screening.record] or ["weights"]
    return Multitask(
        screening=screening._replace(networks=networks),
        one_vs_rest=_one_vs_rest(folder, screening),
        precision=_precision(folder / "average_precision.csv"),
        boundary=_boundary(folder / "boundary_scores.csv"),
        overlap_slices=_overlap_slices(folder / "overlap_slices.csv"),
        examples=_examples(folder / "gradcam_examples.npz"),
    )


def _lost(screening: Screening) -> int:
    scores = screening.scores
    lost = math.nan if scores is None or scores.empty else float(scores["lost"].iloc[0])
    return int(lost) if math.isfinite(lost) else 0


def _one_vs_rest(folder: Path, screening: Screening) -> pd.DataFrame | None:
    # the counts lack subjects that were lost, of whom only the file knows the condition
    confusion = None if _lost(screening) else screening.confusion.get("subject")
    try:
        counted = None if confusion is None else one_vs_rest_table(confusion)
    except InputError as error:
        raise InputError(folder / "confusion_subject.csv", f"{error.cause} {_CURE.capitalize()}.") from error
    path = folder / "one_vs_rest.csv"
    table = read_table(path, ("class", "convention"), METRICS, _CURE)
    if table is None:
        return counted
    wanted = [(name, way) for name in SCREENING_CLASSES for way in CONVENTIONS]
    pairs = list(zip(table["class"], table["convention"], strict=True))
    values = table[list(METRICS)].to_numpy(np.float64)
    if sorted(pairs) != sorted(wanted) or ((values < 0) | (values > 1)).any():
        raise InputError(path, f"must hold shares of {', '.join(SCREENING_CLASSES)}, two rows each; {_CURE}.")
    ordered = table.iloc[[pairs.index(pair) for pair in wanted]].reset_index(drop=True)
    if (
        screening.scores is not None
        and counted is not None
        and not np.allclose(ordered[list(METRICS)], counted[list(METRICS)], rtol=0, atol=_ROUNDED, equal_nan=True)
    ):
        raise InputError(path, f"does not fit the counts in confusion_subject.csv; {_CURE}.")
    return ordered


def _precision(path: Path) -> pd.DataFrame | None:
    table = read_table(path, ("class", "iou"), ("average_precision", "boxes", "found"), _CURE)
    if table is not None and not table["average_precision"].dropna().between(0, 1).all():
        raise InputError(path, f"holds an average precision outside [0, 1]; {_CURE}.")
    return table


def _boundary(path: Path) -> pd.DataFrame | None:
    numbers = ("mean_mm", "sd_mm", "median_mm", "slices", "empty_truth", "empty_prediction", "empty_both")
    table = read_table(path, ["metric"], numbers, _CURE)
    if table is not None and sorted(table["metric"]) != sorted(BOUNDARY_METRICS):
        raise InputError(path, f"must hold {' and '.join(BOUNDARY_METRICS)}, a row each; {_CURE}.")
    return table


def _overlap_slices(path: Path) -> pd.DataFrame | None:
    table = read_table(path, (), ("copy", "dice_index", "iou"), _CURE)
    return None if table is None else table[table["copy"] == 0].reset_index(drop=True)


def _examples(path: Path) -> list[GradcamCase]:
    if not path.is_file():
        return []
    try:
        # a file of our own: NumPy leaves a damaged one open
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            image, heat, diagnosis, decision, subject, right = (stored[name] for name in _EXAMPLES)
        _check_examples(image, heat, diagnosis, decision, subject, right)
    except (
        OSError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, NotImplementedError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        raise InputError(path, f"holds no Grad-CAM examples: {error}; {_CURE}.") from error
    images, maps = (np.clip(each.astype(np.float32), 0, 1) for each in (image, heat))
    words = (each.astype(str).tolist() for each in (diagnosis, decision))
    return [GradcamCase(*case) for case in zip(images, maps, *words, strict=True)]


def _check_examples(
    image: NDArray[Any],
    heat: NDArray[Any],
    diagnosis: NDArray[Any],
    decision: NDArray[Any],
    subject: NDArray[Any],
    right: NDArray[Any],
) -> None:
    """Raise ValueError for arrays that do not fit each other."""
    if image.ndim != 4 or image.shape[1] != 2 or image.shape != heat.shape or 0 in image.shape[2:]:
        raise ValueError(f"image and map have shapes {image.shape} and {heat.shape}, which must be (n, 2, H, W)")
    if any(each.shape != image.shape[:1] for each in (diagnosis, decision, subject, right)):
        raise ValueError("the cases' words are not as many as their images")
    for name, values in (("image", image), ("map", heat)):
        numbers = values.astype(np.float32)
        if not ((numbers >= -_CLOSE) & (numbers <= 1 + _CLOSE)).all():  # NaN is neither
            raise ValueError(f"{name} has values outside [0, 1]")
    for name, words, more in (("diagnosis", diagnosis, ()), ("decision", decision, (UNDECIDED,))):
        if others := set(words.astype(str).tolist()) - {*SCREENING_CLASSES, *more}:
            raise ValueError(f"{name} names {sorted(others)[0]!r}, which is no condition")
    if right.dtype != np.bool_ or (right != (diagnosis.astype(str) == decision.astype(str))).any():
        raise ValueError("right does not say where the decision is the diagnosis")
