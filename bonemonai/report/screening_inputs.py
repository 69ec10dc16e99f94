"""What the report of paper 3 shows: folders that evaluations left, learning curves; read and checked, models' names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import softmax

from bonemonai.analysis.classification_scores import UNDECIDED
from bonemonai.analysis.screening_evaluation import read_screening_predictions
from bonemonai.analysis.screening_scores import SCREENING_CLASSES
from bonemonai.data.json_file import read_json
from bonemonai.errors import InputError
from bonemonai.report.data_notices import as_mapping

# the paper's own first
MODELS = {
    "bcc_net": "BCC-Net",
    "densenet_1": "DenseNet-1",
    "densenet_2": "DenseNet-2",
    "densenet121": "DenseNet-121",
}
LEVELS = ("subject", "slice", "image")  # image: augmented copies among them, the paper's way
OVERLAPS = ("dice_index", "iou", "pixel_accuracy")  # in Table 3's order
RELIABILITY_BINS = 10

_CURE = "evaluate the model again with evaluate.json"
_SCORED = ("value", "low", "high", "subjects")
_FILES = ("results.json", "scores.csv", "overlap_scores.csv", "subjects.csv", "predictions.csv")


class Screening(NamedTuple):
    """What an evaluation of a classifier left; None, or empty, where a file is not there.

    Attributes:
        name: of the classifier.
        record: how it came about (``results.json``).
        scores: a row a level, class, metric and kind of interval, shares; of copies the level is "image".
        overlaps: a row a level and metric of the marks, alike.
        histogram: slices by overlap, see :func:`bonemonai.analysis.overlap_histogram`.
        confusion: level to counts, true classes by row, decisions by column.
        roc: a row a point, with ``level`` and ``class``.
        subjects: a row a subject: ``diagnosis``, ``decision``, ``answer``, ``rule``.
        coverage: see :func:`bonemonai.analysis.coverage_table`.
        calibration: rows "before" and "after" the temperature.
        reliability: see :func:`reliability`.
        titles: names of models to what a reader meets.
        networks: entries of the record that are cards of weights.
    """

    name: str
    record: dict[str, Any]
    scores: pd.DataFrame | None
    overlaps: pd.DataFrame | None
    histogram: pd.DataFrame | None
    confusion: dict[str, pd.DataFrame]
    roc: pd.DataFrame | None
    subjects: pd.DataFrame | None
    coverage: pd.DataFrame | None
    calibration: pd.DataFrame | None
    reliability: pd.DataFrame | None
    titles: Mapping[str, str] = MODELS
    networks: Sequence[str] = ("weights", "segmentation")

    @property
    def title(self) -> str:
        """As a reader meets it."""
        return self.titles.get(self.name, self.name)

    @property
    def of_data(self) -> dict[str, Any]:
        """The record's words on data, of all networks, as :mod:`bonemonai.report.data_notices` takes them."""
        cards = [as_mapping(self.record.get(name)) for name in self.networks]
        return {"tested_on": self.record.get("tested_on"), "weights_of_folds": cards}


def read_screenings(
    given: Mapping[str, str | Path],
    titles: Mapping[str, str] = MODELS,
    *,
    option: str = "results",
    model: str | None = None,
    models: Iterable[str] | None = None,
) -> list[Screening]:
    """Read evaluations.

    Args:
        given: name of a classifier, or of a setting of one, to the folder of its evaluation.
        titles: the paper's names, in its order, to what a reader meets.
        option: what the user calls the folders.
        model: that all folders must be of; None: each of the one it is named after.
        models: names that a record may give and be taken at its word; by default those of ``titles``.

    Returns:
        In the paper's order, other models last.

    Raises:
        InputError: if that is no mapping, a folder holds no evaluation, is of another model, or a file is damaged.
    """
    if not isinstance(given, Mapping):
        raise InputError(option, f"must be model to folder, as in {{'{next(iter(titles))}': FOLDER}}; got {given!r}.")
    names = sorted((str(name) for name in given), key=lambda name: [*titles, name].index(name))
    folders = {str(name): path for name, path in given.items()}
    known = set(titles if models is None else models)
    found = []
    for name in names:
        each = _read_screening(name, folders[name], option)
        wanted, said = name if model is None else model, each.record.get("model")
        if wanted in known and isinstance(said, str) and said in known - {wanted}:
            raise InputError(Path(folders[name]), f"holds results of {said!r}, not of {wanted!r}.")
        found.append(each._replace(titles=titles))
    return found


def read_curves(given: str | Path | Mapping[str, str | Path] | None) -> dict[str, pd.DataFrame]:
    """Read learning curves, as training writes them beside the weights.

    Args:
        given: a file, or name to file.

    Returns:
        Name, "" where there is none, to a table: ``epoch``, ``loss`` and the metrics of the validation.

    Raises:
        InputError: if one is missing or damaged.
    """
    pairs = given.items() if isinstance(given, Mapping) else [] if given is None or given == "" else [("", given)]
    curves = {}
    for name, path in pairs:
        cure = "give the .curve.csv that training wrote"
        table = read_table(Path(path), (), ("epoch", "loss"), cure, more=True)
        if table is None:
            raise InputError(path, f"is not there; {cure}.")
        curves[str(name)] = table
    return curves


def reliability(predictions: pd.DataFrame, temperature: float | None) -> pd.DataFrame:
    """Sort slices by the probability of what was decided, and count how many are right.

    Args:
        predictions: see :func:`bonemonai.analysis.read_screening_predictions`; copies, refused slices and those
            without a true condition are left out.
        temperature: that logits are divided by; None or 1 gives no "after".

    Returns:
        Rows of ``stage`` ("before", "after"), ``confidence`` (mean of a bin), ``accuracy`` (share) and ``slices``;
        bins of equal width, empty ones left out.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, ICML 2017, Fig. 1.
    """
    own = predictions[(predictions["copy"] == 0) & (predictions["refusal"] == "") & (predictions["diagnosis"] != "")]
    logits = own[[f"logit_{name}" for name in SCREENING_CLASSES]].to_numpy(dtype=np.float64)
    labels = own["diagnosis"].map(list(SCREENING_CLASSES).index).to_numpy(dtype=np.int64)
    parts = []
    for stage, divisor in (("before", 1.0), ("after", temperature)):
        if divisor is None or not len(labels) or (stage, divisor) == ("after", 1.0):
            continue
        values = softmax(logits / divisor, axis=1)
        table = pd.DataFrame({"confidence": values.max(axis=1), "accuracy": values.argmax(axis=1) == labels})
        edges = np.linspace(0, 1, RELIABILITY_BINS + 1)[1:-1]
        groups = table.groupby(np.digitize(table["confidence"], edges, right=True))
        means = groups.mean().assign(slices=groups.size(), stage=stage)
        parts.append(means[["stage", "confidence", "accuracy", "slices"]])
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["stage"])


def _read_screening(name: str, path: str | Path, option: str) -> Screening:
    if not isinstance(path, str | Path) or not Path(path).is_dir():
        raise InputError(f"{option} {name}", f"{path} is no folder.")
    folder = Path(path)
    if not any((folder / file).is_file() for file in _FILES):
        raise InputError(folder, f"holds no evaluation; {_CURE}.")
    record = _read_record(folder / "results.json")
    words = ("level", "class", "metric", "interval")
    marks: Any = (("level", "metric"), (*_SCORED, "units", "left_out"))
    calibration = read_table(
        folder / "calibration.csv", ["stage"], ("temperature", "ece", "nll", "patches", "patients")
    )
    return Screening(
        name=name,
        record=record,
        scores=_joined(folder, ("scores", "scores_with_copies"), words, (*_SCORED, "images", "refused", "lost")),
        overlaps=_joined(folder, ("overlap_scores", "overlap_scores_with_copies"), *marks),
        histogram=read_table(folder / "overlap_histogram.csv", ["metric"], ("low", "high", "images", "left_out")),
        confusion={
            level: table for level in LEVELS if (table := _confusion(folder / f"confusion_{level}.csv")) is not None
        },
        roc=read_table(folder / "roc.csv", ("level", "class"), ("one_minus_specificity", "sensitivity")),
        subjects=read_table(
            folder / "subjects.csv", ("subject", "diagnosis", "decision", "answer", "rule"), ["margin"]
        ),
        coverage=read_table(folder / "coverage.csv", (), ("band", "answered", "coverage", "accuracy", "subjects")),
        calibration=calibration,
        reliability=_read_reliability(folder / "predictions.csv", calibration),
    )


def _read_record(path: Path) -> dict[str, Any]:
    record = read_json(path)
    if record is None and path.is_file():
        raise InputError(path, f"is no JSON object; {_CURE}.")
    return record or {}


def _joined(folder: Path, names: Sequence[str], words: Sequence[str], numbers: Sequence[str]) -> pd.DataFrame | None:
    tables = [read_table(folder / f"{name}.csv", words, numbers) for name in names]
    there = [table for table in tables if table is not None]
    return pd.concat(there, ignore_index=True) if there else None


def _confusion(path: Path) -> pd.DataFrame | None:
    table = read_table(path, ["diagnosis"], SCREENING_CLASSES, more=True)
    if table is None:
        return None
    columns = [*SCREENING_CLASSES, *([UNDECIDED] if UNDECIDED in table else [])]
    counts = table.set_index("diagnosis")[columns]
    if sorted(counts.index) != sorted(SCREENING_CLASSES) or not (counts >= 0).all(axis=None):
        raise InputError(path, f"must count {', '.join(SCREENING_CLASSES)}, a row each; {_CURE}.")
    return counts.loc[list(SCREENING_CLASSES)]


def _read_reliability(path: Path, calibration: pd.DataFrame | None) -> pd.DataFrame | None:
    if not path.is_file():
        return None
    after = (
        pd.Series(dtype=float) if calibration is None else calibration["temperature"][calibration["stage"] == "after"]
    )
    temperature = float(after.iloc[0]) if len(after) and after.iloc[0] > 0 else None
    table = reliability(read_screening_predictions(path), temperature)
    return None if table.empty else table


def read_table(
    path: Path, words: Sequence[str], numbers: Sequence[str], cure: str = _CURE, *, more: bool = False
) -> pd.DataFrame | None:
    """Read columns of a CSV file; an empty number is NaN, a word never is.

    Args:
        path: of the file.
        words: columns of text.
        numbers: columns of numbers.
        cure: of what is refused.
        more: read its other columns too, as numbers.

    Returns:
        The columns; None where there is no file.

    Raises:
        InputError: if it is damaged, a column is missing, or a number is none.
    """
    if not path.is_file():
        return None
    try:
        table: pd.DataFrame = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [name for name in (*words, *numbers) if name not in table]:
            raise InputError(path, f"has no column {', '.join(missing)}; {cure}.")
        found = [name for name in table if name not in words] if more else list(numbers)
        filled = table.replace({name: {"": "nan"} for name in found})
        return filled[[*words, *found]].astype(dict.fromkeys(found, float))
    except (OSError, ValueError) as error:
        raise InputError(path, f"cannot be read as a table: {error}; {cure}.") from error
