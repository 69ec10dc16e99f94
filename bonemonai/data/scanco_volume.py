"""Scanco's microCT and HR-pQCT files, AIM and ISQ, in mg HA/cm3 where their header is calibrated."""

from __future__ import annotations

import math
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.volume import Volume, scaling_affine_lps
from bonemonai.errors import InputError

_UNITS = ("mg HA/ccm", "mg HA/cm3")
_SLOPES = (20.0, 20_000.0)  # mg HA/cm3 a 1/cm; scanners state 300 to 2000
_SHORT = 0x00020002  # AIM type of plain 16-bit values


class DensityCalibration(NamedTuple):
    """density = slope x stored + intercept, in mg HA/cm3.

    Attributes:
        slope: a stored value.
        intercept: at stored value 0.
    """

    slope: float
    intercept: float


def density_calibration(
    slope: Any, intercept: Any, mu_scaling: Any, units: Any, path: Path
) -> DensityCalibration | None:
    """Make a calibration of what a header states, or None where it states none.

    Headers give the slope per 1/cm of linear attenuation, of which ``mu_scaling`` stored values make one.

    Args:
        slope: mg HA/cm3 a 1/cm.
        intercept: mg HA/cm3.
        mu_scaling: stored values a 1/cm.
        units: of the calibration.
        path: for the message.

    Raises:
        InputError: if it is calibrated in part, or its numbers cannot be a calibration's.
    """
    if str(units or "").strip() not in _UNITS:
        return None
    try:
        numbers = [float(number) for number in (slope, intercept, mu_scaling)]
    except (TypeError, ValueError):
        raise InputError(path, "states a density calibration in part; slope, intercept and scaling are due.") from None
    usable = all(map(math.isfinite, numbers)) and _SLOPES[0] <= numbers[0] <= _SLOPES[1] and numbers[2] >= 1
    if not usable or abs(numbers[1]) > numbers[0]:
        raise InputError(
            path, f"states a density calibration of slope {slope}, intercept {intercept}, scaling {mu_scaling}, "
            "which no scanner has."
        )  # fmt: skip
    return DensityCalibration(numbers[0] / numbers[2], numbers[1])


class ScancoVolume(Volume):
    """What AIM and ISQ share: 16-bit values behind a header, turned into densities."""

    _calibration: DensityCalibration | None
    _offset: int

    def _finish(self, calibration: DensityCalibration | None, offset: int) -> None:
        self._calibration, self._offset = calibration, offset
        if calibration is not None:
            self.units = "mg HA/cm3"

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        plane = self.shape[1] * self.shape[2]
        values = np.fromfile(self.path, "<i2", (stop - start) * plane, offset=self._offset + start * plane * 2)
        return values.reshape(stop - start, *self.shape[1:])

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        stored = self._stored(start, stop)
        if self._calibration is None:
            return stored.astype(self.dtype)
        return np.asarray(self._calibration.slope * stored + self._calibration.intercept, dtype=self.dtype)


class IsqVolume(ScancoVolume):
    """An ISQ scan; planes are read as they are needed.

    Args:
        path: a .isq file.

    Raises:
        InputError: if its length, extents or calibration contradict each other.
    """

    format = "Scanco ISQ"

    def __init__(self, path: Path) -> None:
        info = _aimio().isq_info(str(path))
        columns, rows, planes = info["dimensions"]
        needed = info["data_offset"] + columns * rows * planes * 2
        if min(columns, rows, planes) < 1 or info["data_type"] != 3:
            raise InputError(path, f"has type {info['data_type']} and dimensions {info['dimensions']}.")
        length = path.stat().st_size
        # whole blocks of 512 bytes are written
        if not needed <= length < needed + 512:
            raise InputError(path, f"holds {length} bytes; its header says {needed}.")
        if info["min_data_value"] > info["max_data_value"]:
            raise InputError(path, "states a range of values that is none.")
        size_um = [extent / n for extent, n in zip(info["dimensions_um"], info["dimensions"], strict=True)]
        increment = info["slice_increment_um"]
        if not min(size_um) > 0 or (
            planes > 1 and increment and abs(increment - size_um[2]) > max(1.0, 0.02 * size_um[2])
        ):
            raise InputError(path, f"states extents of {info['dimensions_um']} um, and slices {increment} um apart.")
        calibration = density_calibration(
            info.get("rescale_slope"),
            info.get("rescale_intercept"),
            info["mu_scaling"],
            info.get("rescale_units"),
            path,
        )
        super().__init__(
            path,
            shape=(planes, rows, columns),
            dtype=np.int16 if calibration is None else np.float32,
            affine_lps=scaling_affine_lps(size_um[::-1]),
            warnings=[] if calibration is not None else [_UNCALIBRATED],
        )
        self._finish(calibration, info["data_offset"])
        self._range = info["min_data_value"], info["max_data_value"]

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        values = super()._stored(start, stop)
        if values.size and not self._range[0] <= values.min() <= values.max() <= self._range[1]:
            raise InputError(
                self.path, f"holds {values.min()} to {values.max()}; its header says {self._range[0]} to "
                f"{self._range[1]}: the header or the values were changed."
            )  # fmt: skip
        return values


class AimVolume(ScancoVolume):
    """An AIM image: grey values in mg HA/cm3, or a segmentation as it is stored.

    Plain 16-bit images are read plane by plane, once their values have been compared with the range that the
    processing log gives: a header that was put before other data is noticed so. Compressed types, segmentations mostly,
    are decoded whole at the first read and held in memory.

    Args:
        path: a .aim file, version 020 or 030.

    Raises:
        InputError: if its length or calibration contradict each other, or its values the log.
    """

    format = "Scanco AIM"

    def __init__(self, path: Path) -> None:
        info = _aimio().aim_info(str(path))
        log = _parsed_log(info.get("processing_log", ""))
        columns, rows, planes = info["dimensions"]
        self._is_short = info["aim_type"] == _SHORT
        needed = info["byte_offset"] + columns * rows * planes * 2
        if min(columns, rows, planes) < 1 or (self._is_short and path.stat().st_size < needed):
            raise InputError(path, f"holds {path.stat().st_size} bytes; its header says {needed}.")
        size_mm = [float(edge) for edge in info["element_size"]]
        if not all(math.isfinite(edge) and edge > 0 for edge in size_mm):
            raise InputError(path, f"states a voxel size of {size_mm} mm.")
        calibration = None
        if self._is_short:
            calibration = density_calibration(
                log.get("Density: slope"), log.get("Density: intercept"), log.get("Mu_Scaling"),
                log.get("Density: unit"), path,
            )  # fmt: skip
            _check_log(log, path)
        names = ("Minimum data value", "Maximum data value")
        self._log_range = tuple(log.get(name) if self._is_short else None for name in names)
        self._whole: NDArray[Any] | None = None
        dtype = np.float32 if calibration is not None else np.int16 if self._is_short else self._decoded(path).dtype
        origin = [(p + 0.5) * edge for p, edge in zip(info["position"], size_mm, strict=True)]
        super().__init__(
            path,
            shape=(planes, rows, columns),
            dtype=dtype,
            affine_lps=scaling_affine_lps([edge * 1000 for edge in size_mm[::-1]], origin_mm=origin),
            warnings=[] if calibration is not None or not self._is_short else [_UNCALIBRATED],
        )
        self._finish(calibration, info["byte_offset"])

    def _decoded(self, path: Path) -> NDArray[Any]:
        if self._whole is None:
            self._whole = np.asarray(_aimio().read_aim(str(path))[0])
        return self._whole

    def _stored(self, start: int, stop: int) -> NDArray[Any]:
        if not self._is_short:
            return self._decoded(self.path)[start:stop]
        if None not in self._log_range:
            low, high = math.inf, -math.inf
            for slab in self.slabs(self.planes_within(64e6)):
                values = super()._stored(slab.start, slab.stop)
                low, high = min(low, int(values.min())), max(high, int(values.max()))
            if (low, high) != self._log_range:
                said = f"{self._log_range[0]:g} to {self._log_range[1]:g}"
                raise InputError(
                    self.path, f"holds {low} to {high}; its processing log says {said}: header and values are not of "
                    "one image, or were changed since."
                )  # fmt: skip
            self._log_range = (None, None)
        return super()._stored(start, stop)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_whole": None}


_UNCALIBRATED = "the header states no density calibration; values are raw."


def _aimio() -> Any:
    try:
        return import_module("py_aimio")
    except ImportError:
        raise InputError("Scanco files", "need the extra scanco: pip install 'bonemonai[scanco]'.") from None


def _parsed_log(log: str) -> dict[str, Any]:
    parsed: dict[str, Any] = _aimio().log_to_dict(log) if log else {}
    return parsed


def _check_log(log: dict[str, Any], path: Path) -> None:
    """Refuse a log that contradicts itself."""
    scaling, stated = log.get("Mu_Scaling"), log.get("Scaled by factor")
    if scaling is not None and stated is not None and scaling != stated:
        raise InputError(path, f"is scaled by {scaling} and by {stated}, its processing log says.")
    for name in ("Minimum", "Maximum"):
        value, stored = log.get(f"{name} value"), log.get(f"{name} data value")
        if None not in (value, stored, scaling) and abs(float(value) - float(stored) / float(scaling)) > 1e-4:  # type: ignore[arg-type]
            raise InputError(path, f"says {name.lower()} {value} and {stored} / {scaling}, which is not the same.")
