"""Agreement of predicted masks with the truth, a slice and a subject, with intervals over subjects.

Where truth and prediction are both empty, nothing is divided by nothing: the slice has no Dice index and no IoU (NaN);
without truth it has no pixel accuracy. Such values are left out of means and histograms, and their number stands
beside. An empty prediction of what is there scores 0, and so do the Dice index and IoU of one where nothing is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.analysis.screening_scores import without_copies
from bonemonai.analysis.subject_bootstrap import resample_subjects, share
from bonemonai.errors import InputError

OVERLAP_METRICS = ("dice_index", "pixel_accuracy", "iou")

_COUNTS = ["true_pixels", "predicted_pixels", "shared_pixels"]
_COLUMNS = ["subject", "plane", "copy", *_COUNTS, *OVERLAP_METRICS]


def slice_overlaps(
    subject: str,
    truth: Iterable[NDArray[np.bool_]],
    predicted: Iterable[NDArray[np.bool_]],
    *,
    first_plane: int = 0,
    copy: int = 0,
) -> pd.DataFrame:
    """Count the agreement of two masks, slice by slice; no more than a slice of each is held.

    Args:
        subject: pseudonym of the patient.
        truth: planes of bool (rows, columns): an array (planes, rows, columns), or anything that yields planes.
        predicted: as many planes, of the same size.
        first_plane: number of the first one.
        copy: 0 for the slices themselves, 1, 2, ... for augmented copies of them.

    Returns:
        One row a slice: ``subject``, ``plane``, ``copy``, ``true_pixels``, ``predicted_pixels``, ``shared_pixels``
        (TP), ``dice_index``, ``pixel_accuracy`` (TP / (TP + FN)) and ``iou``, shares in [0, 1] or NaN, see the module.
        Tables of several scans are put together with ``pandas.concat``.

    Raises:
        InputError: if the masks differ in size or in the number of planes, or a plane is not bool.

    Source:
        Tang et al., eqs. (2) to (4).

    Example:
        >>> table = slice_overlaps("p1", [np.array([[True, True]])], [np.array([[True, False]])])
        >>> table[["dice_index", "pixel_accuracy", "iou"]].round(3).to_numpy().tolist()
        [[0.667, 0.5, 0.5]]
    """
    counts: list[list[int]] = []
    planes, others = iter(truth), iter(predicted)
    for plane in planes:
        other = next(others, None)
        if other is None:
            raise InputError(subject, f"has more planes of truth than the {len(counts)} that were predicted.")
        for name, mask in (("truth", plane), ("prediction", other)):
            if mask.dtype != bool or mask.ndim != 2:
                raise InputError(
                    subject, f"has a {name} of {mask.dtype} {mask.shape}; a plane is bool, (rows, columns)."
                )
        if plane.shape != other.shape:
            raise InputError(subject, f"has a truth of {plane.shape} and a prediction of {other.shape} pixels.")
        counts.append([int(np.count_nonzero(mask)) for mask in (plane, other, plane & other)])
    if next(others, None) is not None:
        raise InputError(subject, f"has {len(counts)} planes of truth, but more were predicted.")
    table = pd.DataFrame(np.array(counts, dtype=np.int64).reshape(-1, 3), columns=_COUNTS)
    table = table.assign(subject=subject, plane=first_plane + np.arange(len(table)), copy=copy)
    return with_overlap_scores(table)[_COLUMNS]


def subject_overlaps(slices: pd.DataFrame) -> pd.DataFrame:
    """Pool each subject's pixels over its slices.

    Args:
        slices: see :func:`slice_overlaps`; copies are left out.

    Returns:
        One row a subject, sorted: ``subject``, ``slices`` (count), the pixel counts summed, and ``dice_index``,
        ``pixel_accuracy`` and ``iou`` of the sums: large slices weigh more than small ones.

    Raises:
        InputError: if a column is missing, a count is none, or every slice is a copy.
    """
    grouped = _checked(slices, copies=False).groupby("subject", sort=True)
    table = grouped[_COUNTS].sum()
    table.insert(0, "slices", grouped.size())
    return with_overlap_scores(table.reset_index())


def score_overlaps(
    slices: pd.DataFrame,
    *,
    copies: bool = False,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Average over slices and over subjects, with intervals over subjects; or over all images, the paper's way.

    Args:
        slices: see :func:`slice_overlaps`.
        copies: False takes un-augmented slices. True takes every image, augmented copies among them, as the paper
            does with 12 images a case; intervals are over subjects here too.
        resamples: how many, at least 2.
        confidence: of the intervals, in (0, 1).
        seed: of the draws; the order of the rows changes nothing.

    Returns:
        Rows of ``level`` ("slice": mean over slices, and "subject": mean over subjects of their pooled scores; only
        "image" with ``copies``), ``metric``, ``value``, ``low``, ``high`` (see
        :func:`bonemonai.analysis.resample_subjects`), ``units`` (slices or subjects that have a value), ``left_out``
        (those that have none, see the module) and ``subjects``.

    Raises:
        InputError: see :func:`subject_overlaps`.
        ValueError: if ``resamples`` or ``confidence`` is out of range.

    Source:
        Tang et al., Table 3: means over 756 images. Subjects and intervals are ours.
    """
    options: Any = {"resamples": resamples, "confidence": confidence, "seed": seed}
    chosen = _checked(slices, copies=copies)
    if copies:
        return _averaged("image", chosen, **options)
    levels = {"slice": chosen, "subject": subject_overlaps(chosen)}
    return pd.concat([_averaged(level, each, **options) for level, each in levels.items()], ignore_index=True)


def overlap_histogram(
    slices: pd.DataFrame, *, bins: int = 20, lower: float = 0.0, copies: bool = False
) -> pd.DataFrame:
    """Count slices by their scores.

    Args:
        slices: see :func:`slice_overlaps`.
        bins: of equal width between ``lower`` and 1, at least 1; the last one holds 1.
        lower: where they begin, in [0, 1); above 0, a first bin more holds all that is lower.
        copies: True counts augmented copies too, as the paper's figure does.

    Returns:
        Rows of ``metric``, ``low``, ``high`` (bounds of a bin), ``images`` (count) and ``left_out`` (images of all that
        have no value).

    Raises:
        InputError: see :func:`subject_overlaps`.
        ValueError: if ``bins`` or ``lower`` is out of range.

    Source:
        Tang et al., Fig. 5.
    """
    if bins < 1 or not 0 <= lower < 1:
        raise ValueError(f"bins must be >= 1 and lower in [0, 1), got {bins} and {lower}.")
    table = _checked(slices, copies=copies)
    edges = np.linspace(lower, 1, bins + 1)
    edges = edges if lower == 0 else np.concatenate([[0.0], edges])
    parts = []
    for metric in OVERLAP_METRICS:
        values = table[metric].dropna()
        counts, _ = np.histogram(values, edges)
        part = pd.DataFrame({"metric": metric, "low": edges[:-1], "high": edges[1:], "images": counts})
        parts.append(part.assign(left_out=len(table) - len(values)))
    return pd.concat(parts, ignore_index=True)


def with_overlap_scores(table: pd.DataFrame) -> pd.DataFrame:
    """Add ``dice_index``, ``pixel_accuracy`` and ``iou`` to counts, see :func:`slice_overlaps`; 0/0 is NaN."""
    true, predicted, both = (table[name].to_numpy() for name in _COUNTS)
    return table.assign(
        dice_index=share(2 * both, true + predicted),
        pixel_accuracy=share(both, true),
        iou=share(both, true + predicted - both),
    )


def _checked(slices: pd.DataFrame, *, copies: bool) -> pd.DataFrame:
    """The slices of a table, scores computed anew from its counts."""
    missing = [name for name in ("subject", *_COUNTS) if name not in slices]
    if missing:
        raise InputError("slices", f"have no column {', '.join(missing)}; count the masks again.")
    table = slices if copies else without_copies(slices, "slices")
    if table.empty or table["subject"].isna().any():
        raise InputError("slices", "need a row or more, and a subject in each.")
    values = table[_COUNTS].apply(pd.to_numeric, errors="coerce").to_numpy(np.float64, na_value=np.nan)
    whole = (values >= 0).all(axis=1) & (values == np.rint(values)).all(axis=1)
    wrong = ~(whole & (values[:, 2] <= values[:, :2].min(axis=1)))
    if wrong.any():
        row = int(wrong.argmax())
        rule = "counts are whole, and no more pixels are shared than are in either"
        raise InputError("slices", f"hold {values[row].tolist()} pixels in row {row}; {rule}.")
    counted: dict[str, Any] = dict(zip(_COUNTS, values.astype(np.int64).T, strict=True))
    return with_overlap_scores(table.assign(**counted))


def _averaged(level: str, table: pd.DataFrame, *, resamples: int, confidence: float, seed: int) -> pd.DataFrame:
    codes, names = pd.factorize(table["subject"].to_numpy(), sort=True)
    values = table[list(OVERLAP_METRICS)].to_numpy(np.float64)
    there = np.isfinite(values)
    sums, counts = np.zeros((len(names), 3)), np.zeros((len(names), 3))
    np.add.at(sums, codes, np.where(there, values, 0))
    np.add.at(counts, codes, there)
    found = resample_subjects(
        lambda drawn: share(drawn @ sums, drawn @ counts),
        ["all"] * len(names),
        resamples=resamples,
        confidence=confidence,
        seed=seed,
    )
    scored = pd.DataFrame({"level": level, "metric": OVERLAP_METRICS, **found._asdict()})
    return scored.assign(units=there.sum(axis=0), left_out=(~there).sum(axis=0), subjects=len(names))
