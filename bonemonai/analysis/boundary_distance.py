"""How far the border of a predicted mask lies from the true one, slice by slice, in mm."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from numpy.typing import NDArray

from bonemonai.errors import InputError

BOUNDARY_METRICS = ("hd95_mm", "mean_surface_distance_mm")


def slice_boundary_distances(
    subject: str,
    truth: Iterable[NDArray[np.bool_]],
    predicted: Iterable[NDArray[np.bool_]],
    *,
    spacing_mm: Sequence[float],
    first_plane: int = 0,
    copy: int = 0,
) -> pd.DataFrame:
    """Measure the distances of two masks' borders, slice by slice.

    HD95 is the larger of both directions' 95th percentiles, MONAI's; the mean surface distance that of both directions'
    points together. Where either mask is empty there is no border to measure to: NaN, for MONAI's answers (NaN, or
    infinity) are averaged without a word.

    Args:
        subject: pseudonym of the patient.
        truth: planes of bool (rows, columns), or anything that yields them.
        predicted: as many planes, of the same size.
        spacing_mm: of rows and of columns.
        first_plane: number of the first one.
        copy: 0 for the slices themselves, 1, 2, ... for augmented copies of them.

    Returns:
        One row a slice: ``subject``, ``plane``, ``copy``, ``empty`` ("", "truth", "prediction" or "both"), ``hd95_mm``
        and ``mean_surface_distance_mm``.

    Raises:
        InputError: if the masks differ in size or in the number of planes, or a plane is not bool.
        ValueError: if ``spacing_mm`` is not two numbers above 0.

    Source:
        monai.metrics.compute_hausdorff_distance and compute_average_surface_distance.

    Example:
        >>> one, other = np.zeros((2, 1, 9, 9), bool)
        >>> one[0, 2:7, 2:7], other[0, 2:7, 3:8] = True, True
        >>> float(slice_boundary_distances("p1", one, other, spacing_mm=(0.5, 0.5))["hd95_mm"].iloc[0])
        0.5
    """
    spacing = [float(step) for step in spacing_mm]
    if len(spacing) != 2 or not all(np.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing_mm must be two numbers > 0 (of rows and columns, mm), got {spacing_mm}.")
    rows: list[tuple[str, float, float]] = []
    planes, others = iter(truth), iter(predicted)
    for plane in planes:
        other = next(others, None)
        if other is None:
            raise InputError(subject, f"has more planes of truth than the {len(rows)} that were predicted.")
        rows.append(_distances(subject, plane, other, spacing))
    if next(others, None) is not None:
        raise InputError(subject, f"has {len(rows)} planes of truth, but more were predicted.")
    table = pd.DataFrame(rows, columns=["empty", *BOUNDARY_METRICS])
    table = table.assign(subject=subject, plane=first_plane + np.arange(len(table)), copy=copy)
    return table[["subject", "plane", "copy", "empty", *BOUNDARY_METRICS]]


def summarise_boundary_distances(slices: pd.DataFrame) -> pd.DataFrame:
    """Average over slices, saying how many had no distance.

    Args:
        slices: see :func:`slice_boundary_distances`.

    Returns:
        A row a metric: ``metric``, ``mean_mm``, ``sd_mm`` (of slices, n - 1), ``median_mm``, ``slices`` (that have a
        value), and those that have none: ``empty_truth``, ``empty_prediction`` (missed altogether: no distance tells),
        ``empty_both``.

    Raises:
        InputError: if a column is missing, or there is no slice.
    """
    missing = [name for name in ("empty", *BOUNDARY_METRICS) if name not in slices]
    if missing or slices.empty:
        raise InputError("slices", f"need a row or more, and the columns {', '.join(missing) or 'they have'}.")
    words = {"empty_truth": "truth", "empty_prediction": "prediction", "empty_both": "both"}
    empty = {name: int((slices["empty"] == word).sum()) for name, word in words.items()}
    rows = []
    for metric in BOUNDARY_METRICS:
        values = slices[metric].dropna()
        row = {"metric": metric, "mean_mm": values.mean(), "sd_mm": values.std(), "median_mm": values.median()}
        rows.append({**row, "slices": len(values), **empty})
    return pd.DataFrame(rows)


def _distances(
    subject: str, plane: NDArray[np.bool_], other: NDArray[np.bool_], spacing: list[float]
) -> tuple[str, float, float]:
    for name, mask in (("truth", plane), ("prediction", other)):
        if mask.dtype != bool or mask.ndim != 2:
            raise InputError(subject, f"has a {name} of {mask.dtype} {mask.shape}; a plane is bool, (rows, columns).")
    if plane.shape != other.shape:
        raise InputError(subject, f"has a truth of {plane.shape} and a prediction of {other.shape} pixels.")
    if not plane.any() or not other.any():
        neither = not plane.any() and not other.any()
        return "both" if neither else "prediction" if plane.any() else "truth", np.nan, np.nan
    # a margin: MONAI crops to the masks, and a border on the crop's edge must still be one
    one, two = (torch.from_numpy(np.pad(mask, 1)[None, None].astype(np.float32)) for mask in (plane, other))
    with warnings.catch_warnings():
        # MONAI 1.6 calls itself with an argument that it has deprecated
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        hd95 = compute_hausdorff_distance(two, one, include_background=True, percentile=95, spacing=spacing)
        mean = compute_average_surface_distance(two, one, include_background=True, symmetric=True, spacing=spacing)
    return "", float(hd95), float(mean)
