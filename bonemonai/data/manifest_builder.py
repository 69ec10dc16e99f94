"""A manifest of the scans of a folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pandas as pd

from bonemonai.data.dicom_series import find_series
from bonemonai.data.volume import DICOM_SUFFIXES, FILE_SUFFIXES, TIFF_SUFFIXES, ZARR_MARKERS, begins_like_dicom
from bonemonai.errors import InputError


def build_manifest(folder: Path, patterns: Mapping[str, str] | None = None, *, patient: int = 1) -> pd.DataFrame:
    """List the scans of a folder, one row each.

    Args:
        folder: to be listed.
        patterns: column to a path with stars, relative to the folder, such as ``{"image": "*/ct.nii.gz", "label":
            "*/mask.nii.gz"}``. What the stars stand for ties the columns of a row together; all patterns have as
            many. Without patterns every scan that can be read is listed as ``image``: files of known formats, Zarr
            folders, folders of TIFF planes, and DICOM series.
        patient: which star is the patient, from 1; without patterns, which part of the path.

    Returns:
        Columns ``patient`` and those of the patterns; paths relative to the folder.

    Raises:
        InputError: if nothing is found, or an image lacks what the other patterns promise.
    """
    if not folder.is_dir():
        raise InputError(folder, "is no folder.")
    rows = list(_matched(folder, patterns, patient) if patterns else _found(folder, patient))
    if not rows:
        raise InputError(folder, "holds no scan that can be read" + (" under these patterns." if patterns else "."))
    return pd.DataFrame(rows, dtype=object)


def _matched(folder: Path, patterns: Mapping[str, str], patient: int) -> Iterator[dict[str, str]]:
    if "image" not in patterns or len({pattern.count("*") for pattern in patterns.values()}) > 1:
        raise InputError("patterns", "must name an image, and have equal numbers of stars.")
    if not 1 <= patient <= patterns["image"].count("*"):
        raise InputError("--patient", f"must be from 1 to the number of stars, got {patient}.")
    matches = {column: _stars(folder, pattern) for column, pattern in patterns.items()}
    for stars, image in sorted(matches["image"].items()):
        row = {"patient": stars[patient - 1], "image": image}
        for column in [name for name in patterns if name != "image"]:
            if stars not in matches[column]:
                raise InputError(folder / image, f"has no {column} {patterns[column]}.")
            row[column] = matches[column][stars]
        yield row


def _stars(folder: Path, pattern: str) -> dict[tuple[str, ...], str]:
    """What a pattern's stars stand for, to the path."""
    if Path(pattern).is_absolute() or ".." in Path(pattern).parts or "**" in pattern:
        raise InputError(pattern, "is no pattern: it must be relative, without .. or **.")
    expression = re.compile("([^/]*)".join(map(re.escape, pattern.split("*"))))
    found: dict[tuple[str, ...], str] = {}
    for path in sorted(folder.glob(pattern)):
        name = path.relative_to(folder).as_posix()
        match = expression.fullmatch(name)
        if match is not None:
            found[match.groups()] = name
    return found


def _found(folder: Path, patient: int) -> Iterator[dict[str, str]]:
    for scan in _scans(folder):
        path, mark, part = scan.partition("::")
        parts = Path(path).parts
        if not 1 <= patient <= len(parts):
            raise InputError(folder / path, f"has no part {patient} in its path, which was to be the patient.")
        yield {"patient": parts[patient - 1].split(".")[0], "image": path + mark + part}


def _scans(folder: Path, inside: Path = Path()) -> Iterator[str]:
    """Paths of scans, relative to the folder."""
    here = folder / inside
    if any((here / marker).exists() for marker in ZARR_MARKERS):
        yield inside.as_posix()
        return
    entries = sorted(entry for entry in here.iterdir() if not entry.name.startswith("."))
    files = [entry for entry in entries if entry.is_file()]
    tiffs = [file for file in files if file.name.lower().endswith(TIFF_SUFFIXES)]
    yield from _tiff_scans(tiffs, inside)
    others = [file for file in files if file not in tiffs]
    yield from ((inside / f.name).as_posix() for f in others if f.name.lower().endswith(FILE_SUFFIXES))
    if any(f.name.lower().endswith(DICOM_SUFFIXES) or begins_like_dicom(f) for f in others):
        series = [one for one in find_series(here) if one.is_image]
        parts = [f"::{one.uid}" for one in series] if len(series) > 1 else [""]
        yield from (f"{inside.as_posix()}{part}" for part in parts)
        return
    for entry in entries:
        # a link may lead back here
        if entry.is_dir() and not entry.is_symlink():
            yield from _scans(folder, inside / entry.name)


def _tiff_scans(tiffs: Sequence[Path], inside: Path) -> list[str]:
    """A folder of pages is one scan; files of several pages are one each."""
    import tifffile

    def pages(file: Path) -> int:
        try:
            with tifffile.TiffFile(file) as tif:
                return max(len(tif.pages), int(tif.series[0].size // max(1, tif.pages[0].size)))
        except Exception as error:
            raise InputError(file, f"cannot be read as TIFF: {error}") from error

    if len(tiffs) > 1 and all(pages(file) == 1 for file in (tiffs[0], tiffs[-1])):
        return [inside.as_posix()]
    return [(inside / file.name).as_posix() for file in tiffs]
