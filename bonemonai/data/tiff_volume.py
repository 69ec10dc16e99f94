"""TIFF stacks: a folder of single pages, or one multi-page, BigTIFF, ImageJ or OME-TIFF file."""

from __future__ import annotations

import logging
import math
import re
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from bonemonai.data.volume import TIFF_SUFFIXES, UM_PER_UNIT, Volume, refuse_dangling_links, scaling_affine_lps
from bonemonai.errors import InputError

_UNKNOWN = "voxel size is not stated; say --voxel-size-um."


class TiffFileVolume(Volume):
    """A stack in one file; pages are decoded as they are read.

    Args:
        path: a .tif, .tiff, .btf or .tf8 file: multi-page, BigTIFF, ImageJ hyperstack or OME-TIFF.

    Raises:
        InputError: if the file is no TIFF, is colour, is cut short, or holds more than one 3-D image.
    """

    format = "TIFF"

    def __init__(self, path: Path) -> None:
        with _Opened(path) as tif:
            series = _only_series(tif, path)
            page = series.keyframe
            _check_page(page, path)
            planes = int(np.prod(series.shape[:-2], dtype=np.int64))
            _check_calibration(tif, path)
            # ImageJ writes stacks above 4 GB, and tifffile contiguous ones, behind a single page header
            self._data_offset = series.dataoffset
            self._byteorder = tif.byteorder
            if self._data_offset is not None:
                _check_length(path, self._data_offset + series.nbytes)
                if len(tif.pages) not in (1, planes):
                    raise InputError(path, f"holds {len(tif.pages)} pages, but its metadata say {planes}.")
            else:
                if len(tif.pages) != planes:
                    raise InputError(path, f"holds {len(tif.pages)} pages, but its metadata say {planes}.")
                for each in series.pages:
                    _check_alike(each.aspage(), page, path)
            size, warnings = _voxel_size_um(tif)
            if tif.is_ome:
                self.format = "OME-TIFF"
            elif tif.is_imagej:
                self.format = "ImageJ TIFF"
            elif tif.is_bigtiff:
                self.format = "BigTIFF"
        super().__init__(
            path,
            shape=(planes, *page.shape),
            dtype=page.dtype,
            affine_lps=scaling_affine_lps(size),
            warnings=warnings,
        )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if self._data_offset is not None:
            plane_bytes = self.shape[1] * self.shape[2] * self.dtype.itemsize
            stored = self.dtype.newbyteorder(self._byteorder)
            block = np.fromfile(
                self.path,
                dtype=stored,
                count=(stop - start) * self.shape[1] * self.shape[2],
                offset=self._data_offset + start * plane_bytes,
            )
            return block.reshape(stop - start, *self.shape[1:])
        with _Opened(self.path) as tif:
            pages = _only_series(tif, self.path).pages
            return np.stack([_decoded(pages[index], self.path) for index in range(start, stop)])


class TiffFolderVolume(Volume):
    """A folder of single-page TIFF files, one a plane, in natural order (slice_2 before slice_10).

    Args:
        path: the folder. Files without a TIFF suffix are ignored and counted in the warnings.

    Raises:
        InputError: if there is no TIFF file, a number is missing or doubled, the planes differ in size or
            type, or a file holds several pages.
    """

    format = "TIFF folder"

    def __init__(self, path: Path) -> None:
        entries = [entry for entry in path.iterdir() if not entry.name.startswith(".")]
        refuse_dangling_links(entries)
        self._files = [e for e in entries if e.name.lower().endswith(TIFF_SUFFIXES) and e.is_file()]
        if not self._files:
            raise InputError(path, "holds no .tif file, and is no Zarr folder.")
        self._files = _natural_order(self._files)
        shape, dtype, size, warnings = _check_folder(self._files)
        if len(self._files) < len(entries):
            warnings.append(f"{len(entries) - len(self._files)} entries without a TIFF suffix are ignored.")
        super().__init__(
            path,
            shape=(len(self._files), *shape),
            dtype=dtype,
            affine_lps=scaling_affine_lps(size),
            warnings=warnings,
        )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        block = np.empty((stop - start, *self.shape[1:]), dtype=self.dtype)
        for index, file in enumerate(self._files[start:stop]):
            with _Opened(file) as tif:
                block[index] = _decoded(tif.pages[0], file)
        return block


class _Opened:
    """``tifffile.TiffFile`` whose complaints name the file, those it only logs included.

    Of a stack that is cut short tifffile logs an error and returns the pages that are left.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._complaints = _Complaints()

    def __enter__(self) -> Any:
        tifffile.logger().addHandler(self._complaints)
        try:
            self._tif = tifffile.TiffFile(self._path)
        except Exception as error:
            tifffile.logger().removeHandler(self._complaints)
            raise InputError(self._path, f"cannot be read as TIFF: {error}") from error
        return self._tif

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        tifffile.logger().removeHandler(self._complaints)
        self._tif.close()
        if error is None and self._complaints.first is not None:
            raise InputError(self._path, f"is damaged: {self._complaints.first}")


class _Complaints(logging.Handler):
    """Keeps the first error that this thread logs."""

    def __init__(self) -> None:
        super().__init__(level=logging.ERROR)
        self.first: str | None = None
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if self.first is None and record.thread == self._thread:
            self.first = record.getMessage()


def _only_series(tif: Any, path: Path) -> Any:
    if tif.is_ome and any(series.is_multifile for series in tif.series):
        raise InputError(path, "is one of several files of an OME-TIFF; join them into one file first.")
    if len(tif.series) != 1:
        return _joined(tif, path)
    series = tif.series[0]
    stacked = [(axis, size) for axis, size in zip(series.axes[:-2], series.shape[:-2], strict=True) if size > 1]
    if len(stacked) > 1 or any(axis in "TCS" for axis, _ in stacked) or "S" in series.axes:
        raise InputError(
            path, f"has axes {series.axes} of size {series.shape}; one grey-value stack, axes ZYX, is needed."
        )
    return series


def _joined(tif: Any, path: Path) -> Any:
    """Planes that were written one by one, each a series of its own, as one stack."""
    alike = {(series.shape, series.dtype, len(series.pages)) for series in tif.series}
    if tif.is_ome or len(alike) != 1 or len(tif.series[0].shape) != 2:
        raise InputError(path, f"holds {len(tif.series)} images of different size or type; one stack is needed.")
    shape = (len(tif.series), *tif.series[0].shape)
    pages = [series.pages[0] for series in tif.series]
    return SimpleNamespace(keyframe=tif.series[0].keyframe, shape=shape, dataoffset=None, pages=pages)


def _check_page(page: Any, path: Path) -> None:
    if page.samplesperpixel != 1 or len(page.shape) != 2:
        raise InputError(path, f"has pages of shape {page.shape}; grey-value planes are needed, not colour.")
    if page.photometric != tifffile.PHOTOMETRIC.MINISBLACK:
        raise InputError(path, f"has photometric interpretation {page.photometric.name}; MINISBLACK is needed.")
    orientation = page.tags.valueof("Orientation", 1)
    if orientation != 1:
        raise InputError(path, f"has TIFF orientation {orientation}; rows must run down and columns right (1).")


def _decoded(page: Any, path: Path) -> NDArray[Any]:
    try:
        plane: NDArray[Any] = page.asarray()
    except Exception as error:
        raise InputError(path, f"cannot be decoded: {error}") from error
    return plane


def _check_alike(page: Any, first: Any, path: Path) -> None:
    """Refuse a page that would be decoded wrongly with the first page's parameters, as tifffile does."""
    _check_page(page, path)
    for what in ("shape", "dtype", "compression", "predictor", "bitspersample", "fillorder"):
        if getattr(page, what) != getattr(first, what):
            raise InputError(path, f"page {page.index} has {what} {getattr(page, what)}, not {getattr(first, what)}.")
    _check_extent(page, path)


def _check_extent(page: Any, path: Path) -> None:
    """Refuse a page of which the file lacks a strip or tile; tifffile reads those as zeros."""
    segments = math.prod(page.chunked)
    if len(page.dataoffsets) != segments or len(page.databytecounts) != segments or 0 in page.databytecounts:
        raise InputError(path, f"page {page.index} lacks some of its {segments} strips or tiles.")
    _check_length(path, max(o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)))


def _check_calibration(tif: Any, path: Path) -> None:
    if "cf" in (tif.imagej_metadata or {}):
        raise InputError(path, "carries an ImageJ grey-value calibration, which is not applied; save it without.")


def _check_length(path: Path, needed: int) -> None:
    length = path.stat().st_size
    if length < needed:
        raise InputError(path, f"is cut short: {length} bytes of at least {needed}.")


def _natural_order(files: list[Path]) -> list[Path]:
    """Sort by the numbers in the names and refuse gaps and doubles in the one number that counts planes.

    Names without any number are taken in alphabetical order.
    """

    def key(file: Path) -> list[tuple[int, int, str]]:
        # text and numbers alternate, numbers at the odd places
        parts = re.split("([0-9]+)", file.stem)
        return [(1, int(part), "") if odd % 2 else (0, 0, part.lower()) for odd, part in enumerate(parts)]

    ordered = sorted(files, key=key)
    keys = [key(file) for file in ordered]
    counting: int | None = None  # which part of the names counts the planes
    for previous, this, file in zip(keys, keys[1:], ordered[1:], strict=False):
        if previous == this:
            raise InputError(file, "has the same plane number as another file of the folder.")
        differing = [i for i, (a, b) in enumerate(zip(previous, this, strict=False)) if a != b]
        counting = differing[0] if counting is None else counting
        numbered = len(this) > 1
        if len(previous) != len(this) or differing != [counting] or (numbered and not counting % 2):
            raise InputError(file, "is named unlike its neighbours; a folder must hold one stack.")
        if numbered and this[counting][1] != previous[counting][1] + 1:
            raise InputError(file, f"follows plane {previous[counting][1]}: a plane is missing from the folder.")
    return ordered


def _check_folder(files: list[Path]) -> tuple[tuple[int, int], Any, Any, list[str]]:
    """Read every header; return shape, dtype, voxel size and warnings, which all files must share."""
    first, warnings = _page_header(files[0])
    for file in files[1:]:
        header, _ = _page_header(file)
        for what, this, that in zip(("shape", "type", "voxel size in um"), header, first, strict=True):
            if this != that:
                raise InputError(file, f"has {what} {this}, but {files[0].name} has {that}.")
    return (*first, warnings)


def _page_header(file: Path) -> tuple[tuple[Any, Any, Any], list[str]]:
    with _Opened(file) as tif:
        if len(tif.pages) != 1:
            raise InputError(file, f"holds {len(tif.pages)} pages; a folder's files hold one plane each.")
        page = tif.pages[0]
        _check_page(page, file)
        _check_extent(page, file)
        _check_calibration(tif, file)
        size, warnings = _voxel_size_um(tif)
        return (page.shape, page.dtype, size), warnings


def _voxel_size_um(tif: Any) -> tuple[tuple[float, float, float] | None, list[str]]:
    """Return (plane, row, column) in um and what had to be assumed, from OME, ImageJ or resolution tags."""
    if tif.is_ome:
        return _ome_voxel_size_um(tif)
    tags = tif.pages[0].tags
    imagej = tif.imagej_metadata or {}
    if "XResolution" not in tags or "YResolution" not in tags:
        return None, [_UNKNOWN]
    units = {str(imagej[name]).lower() for name in ("unit", "yunit", "zunit") if name in imagej}
    unit_um = UM_PER_UNIT.get(units.pop()) if len(units) == 1 else None
    in_cm = tags.valueof("ResolutionUnit") == tifffile.RESUNIT.CENTIMETER
    if unit_um is None and not tif.is_imagej and in_cm:
        # dots an inch (72, 96, 300) are a printer's or a default value and say nothing of a scan
        unit_um = UM_PER_UNIT["cm"]
    column, row = (_per_pixel(tags[name].value) for name in ("XResolution", "YResolution"))
    if unit_um is None or column is None or row is None:
        return None, [_UNKNOWN]
    if not tif.is_imagej and _is_of_a_printer(column):
        return None, [f"resolution is {2.54 / column:.4g} dots an inch, a printer's or a default.", _UNKNOWN]
    spacing = imagej.get("spacing")
    return _size_and_warnings(None if spacing is None else spacing * unit_um, row * unit_um, column * unit_um)


def _is_of_a_printer(cm_per_pixel: float) -> bool:
    """Whether dots a centimetre are those of a screen or printer, or 1: nothing was measured."""
    dots_an_inch = 2.54 / cm_per_pixel
    return any(abs(dots_an_inch - dots) < 0.005 * dots for dots in (2.54, 72, 96, 100, 150, 200, 300, 600, 1200))


def _per_pixel(resolution: tuple[int, int]) -> float | None:
    numerator, denominator = resolution
    return denominator / numerator if numerator > 0 and denominator > 0 else None


def _size_and_warnings(
    plane: float | None, row: float, column: float
) -> tuple[tuple[float, float, float] | None, list[str]]:
    warnings = []
    if plane is None:
        plane = column
        warnings = ["distance of planes is not stated; taken as the width of a pixel (isotropic voxel size)."]
    if not all(math.isfinite(edge) and edge > 0 for edge in (plane, row, column)):
        return None, [_UNKNOWN]
    # a resolution tag is a ratio of 32-bit integers: nine digits are all it holds
    return (float(f"{plane:.9g}"), float(f"{row:.9g}"), float(f"{column:.9g}")), warnings


def _ome_voxel_size_um(tif: Any) -> tuple[tuple[float, float, float] | None, list[str]]:
    image = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]
    pixels = (image[0] if isinstance(image, list) else image)["Pixels"]
    edges = []
    for axis in "ZYX":
        size, unit = pixels.get(f"PhysicalSize{axis}"), str(pixels.get(f"PhysicalSize{axis}Unit", "µm"))
        if size is not None and unit.lower() not in UM_PER_UNIT:
            return None, [f"voxel size is stated in {unit}, which is not known; say --voxel-size-um."]
        edges.append(None if size is None else float(size) * UM_PER_UNIT[unit.lower()])
    plane, row, column = edges
    if row is None or column is None:
        return None, [_UNKNOWN]
    return _size_and_warnings(plane, row, column)
