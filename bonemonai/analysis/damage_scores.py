"""Predictions of slices of loaded bone become accuracies, detection limits, and the files of a fold and of all folds.

A table of predictions has one row a slice image: ``subject`` (pseudonym of the bone sample), ``load_state`` (1 is
unloaded), ``plane`` ("XY", "XZ", "YZ"), ``index`` (of the slice) and ``logit_pristine``, ``logit_failed``. Pristine
images are those of a subject's lowest state, failed ones those of its highest; all states between are in no training.
An image is decided to be failed if that logit is the higher one; a tie is pristine. Scores are shares in [0, 1].
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from bonemonai.analysis.classification_results import clear_results
from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import read_json, write_json
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

DAMAGE_METRICS = ("accuracy", "accuracy_pristine", "accuracy_failed", "softmax_pristine", "softmax_failed")

_PLACE = ("subject", "load_state", "plane", "index")
_NUMBERS = ("load_state", "index", "logit_pristine", "logit_failed")
_PLANES = ("XY", "XZ", "YZ")
_TABLES = ("predictions", "scores", "detection_limits", "detection_band", "folds", "gradcam")
_FILES = (*(f"{name}.csv" for name in _TABLES), "gradcam_states.npz", "gradcam.json", "results.json")
_AGAIN = "predict the images again"


def read_damage_predictions(path: str | Path) -> pd.DataFrame:
    """Read a fold's ``predictions.csv``.

    Args:
        path: the CSV file, see the module.

    Returns:
        The seven columns, ``load_state`` and ``index`` as int64, logits as float64; other columns are left out.

    Raises:
        InputError: if it is no table, holds no row, lacks a column, doubles an image, leaves a subject empty, names
            another plane, or holds a logit that is no finite number or a state or index that is no whole one.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no table of predictions: {error}") from error
    return _checked(table, path)


def score_damage(predictions: pd.DataFrame, failed_state: int | None = None) -> dict[str, float]:
    """Score the pristine and the failed images; states between are not counted.

    Args:
        predictions: one row an image, see the module.
        failed_state: state that was trained on as failed, where that is not the highest.

    Returns:
        ``accuracy`` over both, ``accuracy_pristine``, ``accuracy_failed``; ``softmax_pristine`` and
        ``softmax_failed``, the mean softmax of the true class over its images, not calibrated (temperature 1); and
        ``images``, the count of both.

    Raises:
        InputError: if a subject has one state only, or see :func:`read_damage_predictions`.

    Source:
        Shen et al., Figs. 4c and 8.
    """
    table = _judged(predictions)
    if failed_state is not None:
        table = _judged(predictions[table["load_state"].to_numpy() <= failed_state])
    single = table["subject"][table["first"] == table["last"]]
    if len(single):
        cause = f"hold one loading state of {single.iloc[0]}; pristine and failed are its lowest and its highest"
        raise InputError("predictions", f"{cause}: predict all its states.")
    pristine, failed = (table[table["load_state"] == table[end]] for end in ("first", "last"))
    right = int((~pristine["failed"]).sum()), int(failed["failed"].sum())
    images = len(pristine) + len(failed)
    return {
        "accuracy": sum(right) / images,
        "accuracy_pristine": right[0] / len(pristine),
        "accuracy_failed": right[1] / len(failed),
        # not 1 - softmax of failed: a sure network's would be rounded to 0
        "softmax_pristine": float(expit(-pristine["margin"]).mean()),
        "softmax_failed": float(expit(failed["margin"]).mean()),
        "images": images,
    }


def detection_limits(predictions: pd.DataFrame) -> pd.DataFrame:
    """Tell each loading state from the pristine one: from which load on is damage seen?

    All images of a state are labelled failed, whether damage shows in them or not. At the pristine state the same
    images stand on both sides, so that overall is 0.5 whatever the network does. Where several subjects are tested, a
    state is scored over those that have it, with the pristine images of just those.

    Args:
        predictions: one row an image, see the module.

    Returns:
        One row a state, ascending: ``load_state``; the accuracies ``pristine``, ``loaded`` and ``overall``, which is
        what is right of both over all of both; ``softmax_failed``, the mean over the state's images; and ``images``,
        the count of both.

    Raises:
        InputError: see :func:`read_damage_predictions`.

    Source:
        Shen et al., 2.3 and Figs. 5b, 6b and 9.
    """
    table = _judged(predictions)
    rows = []
    for state, loaded in table.groupby("load_state", sort=True):
        subjects = table["subject"].isin(loaded["subject"].unique())
        pristine = table[subjects & (table["load_state"] == table["first"])]
        right = int((~pristine["failed"]).sum()), int(loaded["failed"].sum())
        images = len(pristine) + len(loaded)
        shares = right[0] / len(pristine), right[1] / len(loaded), sum(right) / images
        rows.append((state, *shares, float(expit(loaded["margin"]).mean()), images))
    return pd.DataFrame(rows, columns=["load_state", "pristine", "loaded", "overall", "softmax_failed", "images"])


def detection_band(folds: pd.DataFrame) -> pd.DataFrame:
    """Spread of the overall accuracy over folds.

    Args:
        folds: what :func:`detection_limits` returns for each fold, with a column ``fold``.

    Returns:
        One row a state, ascending: ``load_state``, ``mean``, ``sd`` (sample standard deviation; NaN for one fold),
        ``low`` and ``high`` (lowest and highest fold), and ``folds``, the count of those that have the state.
    """
    overall = folds.groupby("load_state", sort=True)["overall"]
    table = overall.agg(mean="mean", sd="std", low="min", high="max", folds="size")
    return table.reset_index()


def clear_damage_results(output_dir: str | Path, *, overwrite: bool = False) -> None:
    """Remove an earlier evaluation, all its files, see :func:`bonemonai.analysis.clear_results`.

    Args:
        output_dir: of the results.
        overwrite: must be said where there are any.

    Raises:
        OutputError: if there are, and it was not.
    """
    clear_results(output_dir, overwrite=overwrite, files=_FILES)


def write_damage_results(
    output_dir: str | Path, *, model: str, about: Mapping[str, Any], split: Mapping[str, Any] | None = None
) -> dict[str, float]:
    """Write scores of the predictions in a folder, beside them.

    ``scores.csv`` (``metric``, ``value``; see :func:`score_damage`), ``detection_limits.csv`` (see
    :func:`detection_limits`) and ``results.json``: which model, which split, and how it came about.

    Args:
        output_dir: holds ``predictions.csv``.
        model: its name.
        about: provenance; JSON values.
        split: JSON values: ``test`` and ``val``, lists of subjects, ``failed_state``, where another than the highest
            was trained on, and ``leakage``, why the scores say nothing of an
            unseen sample, where that is so.

    Returns:
        The scores.

    Raises:
        InputError: see :func:`read_damage_predictions` and :func:`score_damage`.
        OutputError: if the folder cannot be written to.
    """
    folder = Path(output_dir)
    predictions = read_damage_predictions(folder / "predictions.csv")
    scores = score_damage(predictions, _mapping(split).get("failed_state"))
    _write(folder / "scores.csv", pd.DataFrame({"metric": list(scores), "value": list(scores.values())}))
    _write(folder / "detection_limits.csv", detection_limits(predictions))
    said = None if split is None else dict(split)
    write_json(folder / "results.json", {"model": model, "note": NOT_A_DEVICE, "split": said, **about})
    logger.info("accuracy of %s: %.4f of %d images.", model, scores["accuracy"], scores["images"])
    return scores


def pool_damage_folds(output_dir: str | Path, folders: Sequence[Path], *, model: str) -> pd.DataFrame:
    """Put the folds of a cross-validation side by side; each fold's scores come from its own predictions.

    ``folds.csv``: ``fold``, ``test``, ``val`` (subjects, "; " between), scores and ``images``. ``scores.csv``:
    ``metric``, ``mean``, ``sd`` (sample standard deviation over folds; empty for one) and ``folds``.
    ``detection_limits.csv``: a row a ``fold`` and state; ``detection_band.csv``: their spread.  ``results.json``:
    provenance, and ``best_fold``, the first of highest accuracy, which the paper shows. Being chosen by its test set,
    that fold's accuracy is no estimate of how a network does on other samples: the mean is.

    Args:
        output_dir: of the pooled files.
        folders: of the folds, as :func:`write_damage_results` left them.
        model: its name.

    Returns:
        What ``scores.csv`` holds.

    Raises:
        InputError: if there is no fold, two have one name, or one is damaged.
        OutputError: if the folder cannot be written to.

    Source:
        Shen et al., 2.2 and Fig. 8: mean and standard deviation over 20 folds, every ordered pair of test and
        validation sample.
    """
    names = [Path(path).name for path in folders]
    if not names or len(set(names)) < len(names):
        raise InputError("folds", f"must be one or more, each name once, got {', '.join(names) or 'none'}.")
    records = [read_json(Path(path) / "results.json") or {} for path in folders]
    rows, limits = [], []
    for path, name, record in zip(folders, names, records, strict=True):
        predictions = read_damage_predictions(Path(path) / "predictions.csv")
        split = _mapping(record.get("split"))
        try:
            scores = score_damage(predictions, split.get("failed_state"))
        except InputError as error:
            raise InputError(Path(path) / "predictions.csv", error.cause) from error
        test = split.get("test") or sorted(predictions["subject"].unique())
        rows.append({"fold": name, "test": _named(test), "val": _named(split.get("val")), **scores})
        limits.append(detection_limits(predictions).assign(fold=name))
    folds, every = pd.DataFrame(rows), pd.concat(limits, ignore_index=True)
    values = folds[list(DAMAGE_METRICS)]
    pooled = pd.DataFrame({"metric": DAMAGE_METRICS, "mean": values.mean().array, "sd": values.std().array})
    pooled["folds"] = len(folds)
    folder = Path(output_dir)
    _write(folder / "folds.csv", folds)
    _write(folder / "scores.csv", pooled)
    _write(folder / "detection_limits.csv", every[["fold", *every.columns.drop("fold")]])
    _write(folder / "detection_band.csv", detection_band(every))
    names_kept = ("bonemonai", "packages", "configs", "options", "seed", "tested_on", "bone", "deal")
    kept = {name: records[0].get(name) for name in names_kept if name in records[0]}
    results = {
        "model": model, "note": NOT_A_DEVICE, "folds": names, "best_fold": names[int(folds["accuracy"].argmax())],
        "weights": records[0].get("weights"), "weights_of_folds": [record.get("weights") for record in records],
    }  # fmt: skip
    leakage = {"leakage": "; ".join(said)} if (said := _leakage(records)) else {}
    write_json(folder / "results.json", {**results, **leakage, **kept})
    mean, sd = pooled[["mean", "sd"]].iloc[0]
    logger.info("accuracy of %s over %d folds: mean %.4f, SD %.4f.", model, len(folds), mean, sd)
    return pooled


def _checked(predictions: pd.DataFrame, name: str | Path) -> pd.DataFrame:
    """The table with its types, or a refusal that says what is wrong in which row."""
    columns = list(dict.fromkeys((*_PLACE, *_NUMBERS)))
    if missing := [column for column in columns if column not in predictions]:
        raise InputError(name, f"has no column {', '.join(missing)}; {_AGAIN}.")
    if predictions.empty:
        raise InputError(name, f"holds no image; {_AGAIN}.")
    numbers = {column: _finite(predictions[column], name) for column in _NUMBERS}
    for column in ("load_state", "index"):
        wrong = numbers[column] != np.rint(numbers[column])
        _refuse_first(predictions[column], wrong, name, f"{column} must be a whole number")
        numbers[column] = numbers[column].astype(np.int64)
    subjects, planes = predictions["subject"], predictions["plane"]
    _refuse_first(subjects, (subjects.isna() | (subjects == "")).to_numpy(), name, "each image needs a subject")
    _refuse_first(planes, ~planes.isin(_PLANES).to_numpy(), name, f"plane must be one of {', '.join(_PLANES)}")
    table = predictions[columns].assign(**numbers).reset_index(drop=True)
    doubled = table.duplicated(list(_PLACE))
    if doubled.any():
        place = " ".join(str(table.loc[int(doubled.argmax()), column]) for column in _PLACE)
        raise InputError(name, f"doubles the image {place} in row {int(doubled.argmax())}; {_AGAIN}.")
    return table


def _finite(values: pd.Series[Any], name: str | Path) -> NDArray[Any]:
    found = pd.to_numeric(values, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    _refuse_first(values, ~np.isfinite(found), name, f"{values.name} must be a finite number")
    return found


def _refuse_first(values: pd.Series[Any], wrong: NDArray[np.bool_], name: str | Path, rule: str) -> None:
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(name, f"holds {values.name} = {values.iloc[row]!r} in row {row}, but {rule}; {_AGAIN}.")


def _judged(predictions: pd.DataFrame) -> pd.DataFrame:
    """The table with ``margin`` and decision of each image, and each subject's ``first`` and ``last`` state."""
    table = _checked(predictions, "predictions")
    states = table.groupby("subject")["load_state"]
    # compared, not subtracted: the decision is that of the logits as they stand
    failed = table["logit_failed"] > table["logit_pristine"]
    margin = table["logit_failed"] - table["logit_pristine"]
    return table.assign(margin=margin, failed=failed, first=states.transform("min"), last=states.transform("max"))


def _leakage(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """What folds say of test images whose sample was trained on, each thing once."""
    said = []
    for record in records:
        trained = _mapping(_mapping(record.get("weights")).get("trained_on"))
        said += [_mapping(record.get("split")).get("leakage"), trained.get("leakage")]
    return list(dict.fromkeys(str(each) for each in said if each))


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _named(subjects: Any) -> str:
    return "; ".join(map(str, subjects)) if isinstance(subjects, list | tuple) else str(subjects or "")


def _write(path: Path, table: pd.DataFrame) -> None:
    with atomic_path(path) as partial:
        table.to_csv(partial, index=False, float_format="%.9g")
