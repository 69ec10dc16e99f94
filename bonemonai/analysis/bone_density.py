"""Density of the trabecular bone inside vertebral bodies, from their grey values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import ndimage

from bonemonai.errors import InputError

EROSION_MM = 3.0  # ours: cortex and endplates with their partial volume are 1 to 2 mm thick in clinical CT

# American College of Radiology, practice parameter for the performance of QCT: trabecular BMD of the lumbar spine
_ACR_LOW, _ACR_HIGH = 80.0, 120.0  # mg/cm3
_FAR_MM = 1e6  # planes so far apart have nothing to do with each other
_COLUMNS = ["vertebra", "mask_voxels", "voxels", "volume_mm3", "mean_hu", "sd_hu"]


@dataclass(frozen=True)
class DensityCalibration:
    """A line from Hounsfield units to bone mineral density; it belongs to one scanner, voltage and phantom.

    Attributes:
        slope_mg_cm3_per_hu: mg/cm3 a HU, above 0.
        intercept_mg_cm3: mg/cm3 at 0 HU.
        source: where the line is from: the phantom and the date, or a publication.

    Raises:
        InputError: if a number is not finite, the slope is not above 0, or there is no source.

    Example:
        >>> DensityCalibration(0.8, -5.0, "phantom of 2024-05-01").bmd_mg_cm3(150.0)
        115.0
    """

    slope_mg_cm3_per_hu: float
    intercept_mg_cm3: float
    source: str

    def __post_init__(self) -> None:
        line = (self.slope_mg_cm3_per_hu, self.intercept_mg_cm3)
        if not all(map(math.isfinite, line)) or self.slope_mg_cm3_per_hu <= 0:
            found = f"has slope {line[0]:g} mg/cm3 a HU and intercept {line[1]:g} mg/cm3"
            raise InputError("calibration", f"{found}; both are finite and the slope is above 0.")
        if not self.source.strip():
            raise InputError("calibration", "has no source; name the phantom and its date, or the publication.")

    def bmd_mg_cm3(self, hu: float) -> float:
        """Density of a mean grey value.

        Args:
            hu: Hounsfield units.

        Returns:
            BMD, mg/cm3, of the phantom's mineral.
        """
        return self.slope_mg_cm3_per_hu * hu + self.intercept_mg_cm3


def measure_density(
    hu: NDArray[Any],
    bodies: NDArray[Any],
    voxel_size_um: Sequence[float],
    *,
    erosion_mm: float = EROSION_MM,
    in_plane: bool = False,
    calibration: DensityCalibration | None = None,
) -> pd.DataFrame:
    """Measure the trabecular bone of vertebral bodies.

    Each body's mask is eroded: kept are voxels of which no part lies less than ``erosion_mm`` below the surface of the
    mask, which is the faces of the voxels outside, so that cortex and endplates are left out, however coarse voxels
    are: at 5 mm slices an erosion of 3 mm drops the first and the last slice. It takes up to a voxel more than
    ``erosion_mm`` with it. The border of the array counts as outside, for a tightly cropped mask ends there too; a
    single plane is eroded within the plane only, and so is each plane of a volume with ``in_plane``, where slices were
    marked here and there, and nothing is known above and below.
    Basivertebral vein, bone islands, haemangiomas, fractures and cement stay in: look at the mask. With masks of whole
    vertebrae, as VerSe's, the posterior elements, which are mostly cortex, would count: give bodies.

    Hounsfield units are no density. They depend on the voltage, the scanner, the reconstruction and contrast medium;
    BMD is given only with a calibration line.

    Args:
        hu: Hounsfield units, (planes, rows, columns).
        bodies: of the same shape: bool for one body, or integers, 0 outside and a number for each body.
        voxel_size_um: (plane, row, column), micrometres.
        erosion_mm: 0 or more; 0 measures the mask as it is.
        in_plane: whether to erode within planes only; end plates stay in if slices are near them.
        calibration: from HU to mg/cm3.

    Returns:
        One row a body, then "all voxels" (of all bodies together) and "mean of bodies" (mean of their means; sd
        between bodies), which is what QCT takes: ``vertebra`` (number as text, or these words), ``mask_voxels`` (before
        erosion), ``voxels``, ``volume_mm3`` (after), ``mean_hu`` and ``sd_hu`` (sample standard deviation, HU; NaN of
        fewer than two). A body with nothing left has 0 voxels and NaN. With a calibration also ``bmd_mg_cm3``,
        ``sd_mg_cm3``, ``acr_range`` ("above 120", "80 to 120" or "below 80" mg/cm3: the ACR's words for these are
        normal, osteopenia and osteoporosis, for trabecular bone of the lumbar spine by QCT; a reference, no diagnosis)
        and ``calibration`` (its source).

    Raises:
        InputError: if shapes differ, the mask is empty, before or after the erosion, holds no whole numbers of 0 or
            more, or a grey value inside is not finite.
        ValueError: if ``voxel_size_um`` or ``erosion_mm`` is out of range.

    Source:
        ACR-SPR-SSR practice parameter for the performance of quantitative computed tomography (QCT) bone densitometry,
        American College of Radiology: thresholds, and the mean over vertebrae. The erosion is ours.

    Example:
        >>> mask = np.ones((9, 9, 9), dtype=bool)
        >>> table = measure_density(np.full(mask.shape, 150.0), mask, (1000, 1000, 1000))
        >>> table["voxels"].tolist(), table["mean_hu"].tolist()
        ([27, 27, 27], [150.0, 150.0, 150.0])
    """
    size_mm = np.asarray(voxel_size_um, dtype=np.float64) / 1000
    if size_mm.shape != (3,) or not (np.isfinite(size_mm) & (size_mm > 0)).all():
        raise ValueError(f"voxel_size_um must be three numbers above 0, got {list(voxel_size_um)}.")
    if not 0 <= erosion_mm < math.inf:
        raise ValueError(f"erosion_mm must be finite and 0 or more, got {erosion_mm}.")
    _check(hu, bodies)
    rows, inside = [], []
    for label, place, mask in _bodies(bodies):
        values = np.asarray(
            hu[place][_eroded(mask, size_mm, erosion_mm, planar=in_plane or len(hu) == 1)], dtype=np.float64
        )
        if not np.isfinite(values).all():
            raise InputError(
                "grey values", f"inside body {label} are not all finite; give the scan in Hounsfield units."
            )
        inside.append(values)
        rows.append(_row(str(label), int(mask.sum()), values, size_mm))
    pooled = np.concatenate(inside)
    if not pooled.size:
        cure = "erode less, or check mask and voxel size"
        raise InputError("body mask", f"holds nothing {erosion_mm:g} mm or more below its surface; {cure}.")
    total = sum(row["mask_voxels"] for row in rows)
    means = np.array([values.mean() for values in inside if values.size])
    rows.append(_row("all voxels", total, pooled, size_mm))
    rows.append({**rows[-1], "vertebra": "mean of bodies", "mean_hu": float(means.mean()), "sd_hu": _sd(means)})
    table = pd.DataFrame(rows, columns=_COLUMNS)
    return table if calibration is None else _calibrated(table, calibration)


def _check(hu: NDArray[Any], bodies: NDArray[Any]) -> None:
    if hu.ndim != 3 or hu.shape != bodies.shape:
        found = f"is of {bodies.shape} and the grey values of {hu.shape}"
        raise InputError("body mask", f"{found} voxels; both are (planes, rows, columns) of one size.")
    if bodies.dtype != bool and not np.issubdtype(bodies.dtype, np.integer):
        raise InputError("body mask", f"is {bodies.dtype}; give bool, or integers that number the bodies.")
    if not bodies.any():
        raise InputError("body mask", "is empty; mark a vertebral body.")
    if bodies.min() < 0:
        raise InputError("body mask", f"holds {bodies.min()}; bodies are numbered from 1, and 0 is outside.")


def _bodies(bodies: NDArray[Any]) -> Iterator[tuple[int, tuple[slice, ...], NDArray[np.bool_]]]:
    """Number, place and mask of each body, cut out."""
    # numbers may be any; find_objects makes a list as long as the largest
    labels, codes = np.unique(bodies, return_inverse=True)
    codes = codes.reshape(bodies.shape) + (0 if labels[0] == 0 else 1)
    found = [int(label) for label in labels if label]
    for code, place in enumerate(ndimage.find_objects(codes), start=1):
        yield found[code - 1], place, codes[place] == code


def _eroded(
    mask: NDArray[np.bool_], size_mm: NDArray[np.float64], erosion_mm: float, *, planar: bool
) -> NDArray[np.bool_]:
    """Voxels wholly ``erosion_mm`` or more below the surface; everything beyond the cut-out is outside."""
    if not erosion_mm:
        return mask
    around = [(0, 0) if planar else (1, 1), (1, 1), (1, 1)]
    plane = _FAR_MM if planar else size_mm[0]
    # two voxels n apart along an axis have n - 1 between their faces: centres say so once the outside has grown by one
    touching = np.ones((1 if planar else 3, 3, 3), dtype=bool)
    apart = ndimage.binary_erosion(np.pad(mask, around), touching)
    distance = ndimage.distance_transform_edt(apart, sampling=(plane, *size_mm[1:]))
    inner = distance[slice(None) if planar else slice(1, -1), 1:-1, 1:-1]
    # 3 x 1.1 mm are not quite 3.3 mm in floating point
    return np.asarray(inner >= erosion_mm * (1 - 1e-9), dtype=np.bool_)


def _row(name: str, before: int, values: NDArray[np.float64], size_mm: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "vertebra": name,
        "mask_voxels": before,
        "voxels": values.size,
        "volume_mm3": values.size * float(size_mm.prod()),
        "mean_hu": float(values.mean()) if values.size else math.nan,
        "sd_hu": _sd(values),
    }


def _sd(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else math.nan


def _calibrated(table: pd.DataFrame, calibration: DensityCalibration) -> pd.DataFrame:
    bmd = table["mean_hu"].map(calibration.bmd_mg_cm3)
    return table.assign(
        bmd_mg_cm3=bmd,
        sd_mg_cm3=table["sd_hu"] * calibration.slope_mg_cm3_per_hu,
        acr_range=[_acr_range(value) for value in bmd],
        calibration=calibration.source,
    )


def _acr_range(bmd_mg_cm3: float) -> str:
    if math.isnan(bmd_mg_cm3):
        return ""
    if bmd_mg_cm3 > _ACR_HIGH:
        return "above 120"
    return "80 to 120" if bmd_mg_cm3 >= _ACR_LOW else "below 80"
