"""A DICOM series as a volume, in the units its headers state."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.dicom_header import DicomFrame
from bonemonai.data.dicom_pixels import stored_values
from bonemonai.data.dicom_series import choose_series
from bonemonai.data.volume import Volume


class DicomVolume(Volume):
    """One series: a folder of slices, or one enhanced multi-frame file.

    Values are slope x stored + intercept, slice by slice: Hounsfield units for CT. They come as the smallest of int16
    and int32 that holds every value the headers allow, as float32 where slope or intercept are no whole numbers.

    Args:
        path: a folder, searched with its subfolders, or one file.
        part: SeriesInstanceUID, where the folder holds several series.

    Raises:
        InputError: if there are several series and none is chosen, or its files do not make an even stack.
    """

    format, costly_planes, oriented = "DICOM", True, True

    def __init__(self, path: Path, part: str = "") -> None:
        series = choose_series(path, part or None)
        geometry = series.geometry
        first = series.headers[0]
        self._frames = geometry.frames
        self._inverted = first.inverted
        bits = [(header.stored_bits, header.signed) for header in series.headers]
        self._lowest = min(-(1 << (n - 1)) if signed else 0 for n, signed in bits)
        self._highest = max((1 << (n - signed)) - 1 for n, signed in bits)
        self._ranges = {header.path: (header.stored_bits, header.signed) for header in series.headers}
        warnings = [*geometry.warnings, *_remarks(series.headers, geometry.affine_lps)]
        if not series.uid:
            warnings.append("files state no SeriesInstanceUID; all of the folder are taken for one series.")
        if series.ignored:
            # warnings reach results, and names of files may be those of patients
            warnings.append(f"{len(series.ignored)} file(s) beside the slices are ignored.")
        super().__init__(
            path,
            shape=(len(geometry.frames), *first.shape),
            dtype=self._value_dtype(),
            affine_lps=geometry.affine_lps,
            warnings=warnings,
        )
        self.part, self.units = series.uid, first.units

    @property
    def frames(self) -> Sequence[DicomFrame]:
        """File and place of each plane, in the order of planes."""
        return tuple(self._frames)

    def _value_dtype(self) -> np.dtype[Any]:
        rescales = {(frame.slope, frame.intercept) for frame in self._frames}
        if not all(slope.is_integer() and intercept.is_integer() for slope, intercept in rescales):
            return np.dtype(np.float32)
        ends = [slope * stored + intercept for slope, intercept in rescales for stored in (self._lowest, self._highest)]
        for dtype in (np.int16, np.int32):
            if np.iinfo(dtype).min <= min(ends) and max(ends) <= np.iinfo(dtype).max:
                return np.dtype(dtype)
        return np.dtype(np.float64)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        block = np.empty((stop - start, *self.shape[1:]), self.dtype)
        planes = list(enumerate(self._frames[start:stop]))
        for file, group in groupby(planes, key=lambda plane: plane[1].path):
            members = list(group)
            stored = stored_values(file, [frame.index for _, frame in members], self.shape[1:])
            for (index, frame), values in zip(members, stored, strict=True):
                block[index] = self._rescaled(values, frame)
        return block

    def _rescaled(self, stored: NDArray[Any], frame: DicomFrame) -> NDArray[Any]:
        exact = stored.astype(np.float64)
        if self._inverted:
            bits, signed = self._ranges[frame.path]
            low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
            exact = low + high - exact
        return exact * frame.slope + frame.intercept


def _remarks(headers: Any, affine: NDArray[np.float64]) -> list[str]:
    """What the headers say besides, where it contradicts the positions or is easily overlooked."""
    remarks = []
    distance = abs(float(np.linalg.det(affine[:3, :3]))) / float(np.linalg.norm(np.cross(affine[:3, 1], affine[:3, 2])))
    stated = headers[0].stated_distance
    if stated is not None and abs(stated - distance) > 0.01 * distance:
        remarks.append(f"SpacingBetweenSlices says {stated:g} mm, positions say {distance:.4g} mm, which counts.")
    numbers = sorted(header.number for header in headers if header.number is not None)
    gaps = np.unique(np.diff(numbers))
    if len(numbers) == len(headers) > 2 and len(gaps) == 1 and gaps[0] > 1:
        remarks.append(f"InstanceNumber runs in steps of {gaps[0]}: slices between may have been left out.")
    if any(header.lossy for header in headers):
        remarks.append("values went through lossy compression.")
    if headers[0].same["photometric interpretation"] == "MONOCHROME1":
        remarks.append(
            "MONOCHROME1: low values are meant to be shown bright; "
            + ("values are inverted." if headers[0].inverted else "values are what the rescale gives, as they stand.")
        )
    return remarks
