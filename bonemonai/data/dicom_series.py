"""The series of a DICOM folder: which files belong together, and which of them make a volume."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from bonemonai.data.dicom_geometry import StackGeometry, stack_geometry
from bonemonai.data.dicom_header import DicomHeader, read_header
from bonemonai.data.silent_dicom import silent_dicom
from bonemonai.data.volume import refuse_dangling_links
from bonemonai.errors import InputError, SeveralVolumesError

# what lies beside slices and is none, by its name; anything else that is not DICOM may be a slice that is damaged
_BESIDE = (
    ".txt", ".md", ".rst", ".json", ".csv", ".tsv", ".xml", ".html", ".htm", ".pdf", ".doc", ".docx", ".xlsx", ".log",
    ".jpg", ".jpeg", ".png", ".gif", ".bmp", ".ini", ".inf", ".exe", ".yaml", ".yml", ".nii", ".gz", ".zip", ".nrrd",
    ".py", ".sha256", ".md5", ".bat", ".cmd", ".sh", ".dll", ".so", ".css", ".js", ".chm", ".cab", ".msi", ".ico",
    ".app", ".dmg", ".jar", ".cfg", ".config", ".db", ".url", ".rtf",
)  # fmt: skip
_BESIDE_NAMES = ("dicomdir", "readme", "license", "licence", "lockfile", "version", "thumbs.db", "desktop.ini")
_MOST_FILES = 200_000
# time stamps of file systems are that coarse: what was written just now may be written again, and look the same
_SETTLED_S = 3.0


@dataclass(frozen=True)
class DicomSeries:
    """The files of one SeriesInstanceUID.

    Attributes:
        uid: SeriesInstanceUID; empty where no file of the folder states one.
        headers: of its files.
        folder: that was searched.
    """

    uid: str
    headers: Sequence[DicomHeader]
    folder: Path
    ignored: list[str] = field(default_factory=list)

    @property
    def is_image(self) -> bool:
        """Whether any file of it is meant to be a slice, read right or not."""
        return any(header.meant for header in self.headers)

    @cached_property
    def geometry(self) -> StackGeometry:
        """Order and affine of its slices.

        Raises:
            InputError: if they do not make a volume, naming the file that is at fault.
        """
        first = self.headers[0]
        for header in self.headers:
            if header.refusal:
                raise InputError(header.path, header.refusal + ("" if header.refusal.endswith(".") else "."))
            for what, value in header.same.items():
                if value != first.same.get(what):
                    # values of the patient's stay out of messages
                    said = "" if what == "patient" else f" ({value}, not {first.same.get(what)})"
                    raise InputError(header.path, f"differs from {first.path.name} in {what}{said}.")
        if len(self.headers) > 1 and any(len(header.frames) > 1 for header in self.headers):
            raise InputError(first.path, "is one of several multi-frame files of a series; one volume is one file.")
        return stack_geometry([frame for header in self.headers for frame in header.frames], self.folder)

    def describe(self) -> str:
        """One line: what it is, and whether it makes a volume; nothing of the patient's."""
        first, uid = self.headers[0], self.uid or "(no SeriesInstanceUID)"
        frames = sum(len(header.frames) for header in self.headers)
        if not self.is_image:
            return f"{uid}: {first.modality}, {len(self.headers)} file(s), {first.refusal}"
        try:
            affine = self.geometry.affine_lps
        except InputError as error:
            return f"{uid}: {first.modality}, {frames} image(s), refused: {error}"
        size = [float((affine[:3, axis] ** 2).sum() ** 0.5) for axis in range(3)]
        return (
            f"{uid}: {first.modality}, {frames} x {first.shape[0]} x {first.shape[1]}, "
            f"{' x '.join(f'{edge:.4g}' for edge in size)} mm"
        )


def find_series(path: Path) -> list[DicomSeries]:
    """Group the DICOM files of a folder, and of the folders in it, by SeriesInstanceUID; headers only are read.

    Where no file states one (stripped headers, ACR-NEMA), all are taken for one series; number, time, type and kernel
    must then be the same, as everything else must within a series. The last folder is remembered, for one series of it
    is usually asked for after the other, and read anew when any of its files is another or was written to.

    Args:
        path: a folder, or one file.

    Returns:
        The series, images first, those of most files first.

    Raises:
        InputError: if a file that may be a slice is no DICOM file or is damaged, or there is none at all.
    """
    entries = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [entry for entry in entries if entry.is_file()]
    refuse_dangling_links(entries)
    if len(files) > _MOST_FILES:
        raise InputError(path, f"holds {len(files)} files; at most {_MOST_FILES} are searched.")
    about = [(file, file.stat()) for file in files]
    stamp = tuple((file, of.st_dev, of.st_ino, of.st_size, of.st_mtime_ns, of.st_ctime_ns) for file, of in about)
    settled = max((max(of.st_mtime, of.st_ctime) for _, of in about), default=0) < time.time() - _SETTLED_S
    return list((_last_series if settled else _series)(path, stamp))


def _series(path: Path, stamp: tuple[tuple[Any, ...], ...]) -> tuple[DicomSeries, ...]:
    """The series of the files that the stamp names."""
    files = [file for file, *_ in stamp]
    found: dict[str, list[DicomHeader]] = {}
    ignored: list[str] = []
    headers = _read_headers(files)
    for file, header in zip(files, headers, strict=True):
        if header is not None:
            found.setdefault(header.series, []).append(header)
        elif _lies_beside(file):
            ignored.append(file.name)
        else:
            raise InputError(file, "is no DICOM file, or a damaged one; a folder of slices must not leave that open.")
    if "" in found and len(found) > 1:
        raise InputError(found[""][0].path, "states no SeriesInstanceUID, but other files here do: is it one of them?")
    if not found:
        raise InputError(path, "holds no .tif file, no DICOM file, and is no Zarr folder.")
    series = [DicomSeries(uid, headers, path, ignored) for uid, headers in found.items()]
    return tuple(sorted(series, key=lambda one: (not one.is_image, -len(one.headers), one.uid)))


_last_series = lru_cache(maxsize=1)(_series)


def _read_headers(files: Sequence[Path]) -> list[DicomHeader | None]:
    with silent_dicom():
        return [None if file.name.lower() == "dicomdir" else read_header(file) for file in files]


def choose_series(path: Path, uid: str | None = None) -> DicomSeries:
    """Return the one image series of a folder, or the one that is asked for.

    Args:
        path: a folder, or one file.
        uid: SeriesInstanceUID.

    Raises:
        InputError: if there are several and none is asked for, or none of that UID; the message lists them.
    """
    series = find_series(path)
    images = [one for one in series if one.is_image]
    if uid is None and len(images) == 1:
        return images[0]
    if uid is None and not images:
        return series[0]
    chosen = [one for one in series if one.uid == uid]
    if chosen:
        return chosen[0]
    choices = [one.describe() for one in series]
    if uid is None:
        raise SeveralVolumesError(path, "choose a series by its UID, PATH::UID", choices)
    raise InputError(path, f"holds no series {uid}; it holds {'; '.join(choices)}.")


def _lies_beside(file: Path) -> bool:
    name = file.name.lower()
    return name.startswith(".") or name in _BESIDE_NAMES or file.suffix.lower() in _BESIDE
