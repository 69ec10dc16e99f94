"""How like images are to what they should be: PSNR and SSIM, a plane and a specimen, with paired tests (paper 5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from skimage.metrics import structural_similarity

from bonemonai.errors import InputError

QUALITY_METRICS = ("psnr_db", "ssim")
_WINDOW = 11  # pixels of SSIM's Gaussian window, sigma 1.5


def plane_quality(
    specimen: str,
    reference: Iterable[NDArray[np.floating[Any]]],
    images: Mapping[str, Iterable[NDArray[np.floating[Any]]]],
    *,
    data_range: float = 1.0,
) -> pd.DataFrame:
    """Compare images with a reference, plane by plane; no more than a plane of each is held.

    PSNR is 10 log10(range^2 / mean squared error), infinite for equal planes; SSIM that of Wang et al. in 11 x 11
    Gaussian windows, the mean over the plane.

    Args:
        specimen: name of the specimen.
        reference: planes (rows, columns), scaled as the images are.
        images: method, such as "lr" or "dl", to as many planes.
        data_range: of the values; 1 after the shared scaling.

    Returns:
        One row a plane and method: ``specimen``, ``plane``, ``method``, ``squared_error`` (mean), ``psnr_db`` and
        ``ssim``.

    Raises:
        InputError: if planes differ in size or number, are smaller than 11 x 11, or hold NaN.
        ValueError: if ``data_range`` is not above 0.

    Source:
        David et al., 2.4 (the range and the window are ours); ``skimage.metrics.structural_similarity``.

    Example:
        >>> plane = np.linspace(0, 1, 256).reshape(16, 16)
        >>> plane_quality("s1", [plane], {"dl": [plane + 0.1]})["psnr_db"].round(3).tolist()
        [20.0]
    """
    if not data_range > 0:
        raise ValueError(f"data_range must be > 0, got {data_range}.")
    rows: list[dict[str, Any]] = []
    others = {method: iter(planes) for method, planes in images.items()}
    count = 0
    for number, plane in enumerate(reference):
        count = number + 1
        for method, planes in others.items():
            other = next(planes, None)
            if other is None:
                raise InputError(specimen, f"has {number} planes of {method!r}, and more of the reference.")
            rows.append({"specimen": specimen, "plane": number, "method": method,
                         **_quality(specimen, plane, other, data_range)})  # fmt: skip
    if more := [method for method, planes in others.items() if next(planes, None) is not None]:
        raise InputError(specimen, f"has {count} planes of the reference, and more of {more[0]!r}.")
    return pd.DataFrame(rows, columns=["specimen", "plane", "method", "squared_error", *QUALITY_METRICS])


def specimen_quality(planes: pd.DataFrame, *, data_range: float = 1.0) -> pd.DataFrame:
    """Pool a specimen's planes: PSNR of the mean squared error over all of them, mean SSIM.

    The mean of planes' PSNRs would be infinite as soon as one plane is empty on both sides.

    Args:
        planes: see :func:`plane_quality`, of one specimen or more.
        data_range: as there.

    Returns:
        One row a specimen and method: ``specimen``, ``method``, ``planes``, ``psnr_db``, ``ssim``.

    Raises:
        InputError: if there is no plane.
    """
    if planes.empty:
        raise InputError("planes", "there is no plane to score.")
    grouped = planes.groupby(["specimen", "method"], sort=True)
    table = grouped[["squared_error", "ssim"]].mean()
    table.insert(0, "planes", grouped.size())
    table["psnr_db"] = _psnr(table["squared_error"].to_numpy(), data_range)
    return table.reset_index()[["specimen", "method", "planes", *QUALITY_METRICS]]


def compare_methods(specimens: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Test whether one method is better than another on the same specimens, by paired t-tests.

    Args:
        specimens: see :func:`specimen_quality`.
        first: method, such as "lr".
        second: method that is compared with it, such as "dl".

    Returns:
        A row a metric: ``metric``, ``first_mean``, ``second_mean``, ``difference`` (second - first), ``low``, ``high``
        (95 % confidence interval of the mean difference), ``p`` (two-sided), ``specimens``. Of one specimen, or where
        a value is infinite, there is no interval and no p (NaN).

    Raises:
        InputError: if a method has not scored every specimen that the other has, or none.

    Source:
        David et al., 2.4 (paired tests and 95 % are ours); ``scipy.stats.ttest_rel``.
    """
    sides = [specimens[specimens["method"] == method].set_index("specimen").sort_index() for method in (first, second)]
    if sides[0].empty or not sides[0].index.equals(sides[1].index):
        raise InputError("specimens", f"must each be scored by {first!r} and {second!r}, once.")
    rows = []
    for metric in QUALITY_METRICS:
        one, other = (side[metric].to_numpy(dtype=np.float64) for side in sides)
        row = {"metric": metric, "first_mean": one.mean(), "second_mean": other.mean(), **_paired(one, other)}
        rows.append({**row, "specimens": len(one)})
    return pd.DataFrame(rows)


def _paired(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, float]:
    difference = other - one
    found = {"difference": float(difference.mean()), "low": np.nan, "high": np.nan, "p": np.nan}
    if len(one) < 2 or not np.isfinite(difference).all() or difference.std() == 0:
        return found
    test = stats.ttest_rel(other, one)
    low, high = test.confidence_interval(0.95)
    return {**found, "low": float(low), "high": float(high), "p": float(test.pvalue)}


def _quality(
    specimen: str, plane: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]], data_range: float
) -> dict[str, float]:
    if plane.shape != other.shape or plane.ndim != 2 or min(plane.shape) < _WINDOW:
        raise InputError(
            specimen, f"has planes of {plane.shape} and {other.shape} pixels; they must be alike, and 11 x 11 at least."
        )
    one, two = plane.astype(np.float64), other.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        raise InputError(specimen, "has a plane with NaN or infinite values.")
    error = float(((one - two) ** 2).mean())
    similarity = structural_similarity(
        one, two, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    return {
        "squared_error": error,
        "psnr_db": float(_psnr(np.array([error]), data_range)[0]),
        "ssim": float(similarity),
    }


def _psnr(errors: NDArray[np.float64], data_range: float) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.asarray(10 * np.log10(data_range**2 / errors))
