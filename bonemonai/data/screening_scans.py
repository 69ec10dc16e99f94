"""The scans of a screening: one file, a folder of DICOM series, or a manifest."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from bonemonai.data.dicom_series import DicomSeries, find_series
from bonemonai.data.lumbar_slices import CONDITIONS, lumbar_slices, read_lumbar_manifest
from bonemonai.data.manifest import distinct, manifest_items
from bonemonai.data.subjects import number_subjects
from bonemonai.data.volume import ZARR_MARKERS, split_part
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ScreeningScan:
    """A scan to be screened.

    Attributes:
        name: of its folder of results; tells nobody whose it is.
        subject: whose it is, by a name that tells nobody who that is.
        image: the scan's path; of a DICOM series with its UID, ``folder::uid``.
        label: the true bone condition, where it is known; else empty.
        mask: truth mask of the vertebrae, where there is one; else empty.
        slices: (number of the slice, vertebra) where they are chosen beforehand; empty where the segmentation is
            to find them.
        units: of the values, where the file does not state them.
    """

    name: str
    subject: str
    image: str
    label: str = ""
    mask: str = ""
    slices: tuple[tuple[int, str], ...] = ()
    units: str | None = None


def list_screening_scans(
    path: str | Path,
    *,
    split: str | None = None,
    classes: Sequence[str] = CONDITIONS,
    levels: Mapping[str, int] | None = None,
    per_level: int = 3,
    choose: bool = True,
    by_mask: bool = True,
    units: str | None = None,
    manifest: pd.DataFrame | None = None,
) -> list[ScreeningScan]:
    """List the scans of a screening.

    Args:
        path: a manifest (.csv), a folder of DICOM series (searched with the folders in it; each series is a scan), or
            any one scan.
        split: of the manifest; None takes all rows.
        classes: what the manifest's ``label`` may say.
        levels: see :func:`bonemonai.data.lumbar_slices`.
        per_level: slices of a vertebra, where the manifest has masks.
        choose: whether the manifest's ``plane`` and ``mask`` say which slices are looked at; else all are.
        by_mask: whether masks choose slices, where ``choose``; else only ``plane`` does.
        units: of the values, where files do not state them.
        manifest: what ``path`` holds, as it was read, with splits other than its own: those of a fold.

    Raises:
        InputError: if nothing is found, or ``split`` is given for what is no manifest.
    """
    if Path(path).suffix.lower() == ".csv":
        rows = read_lumbar_manifest(path, classes=classes, levels=levels) if manifest is None else manifest
        says = [name for name, wanted in (("plane", choose), ("mask", choose and by_mask)) if wanted]
        return _of_manifest(rows, split, levels, per_level, says=says, units=units)
    if split is not None:
        raise InputError(path, f"is no manifest, so that it has no split {split!r}.")
    folder, part = split_part(path)
    is_dicom = folder.is_dir() and not part and not any((folder / marker).exists() for marker in ZARR_MARKERS)
    if not is_dicom:
        return [ScreeningScan("scan_0000", "subject_00", str(path), units=units)]
    series = [one for one in find_series(folder) if _is_scan(one)]
    if not series:
        raise InputError(folder, "holds no series of images that could be screened.")
    series.sort(key=lambda one: str(one.headers[0].path))
    # the patient's ids are compared here, and go no further
    subjects = number_subjects([_whose(one) for one in series])
    if len(set(subjects)) < len(subjects):
        logger.warning(
            "%d series state %d patients. If they were anonymised to one id, give a manifest that tells them apart.",
            len(subjects), len(set(subjects)),
        )  # fmt: skip
    return [
        ScreeningScan(f"scan_{index:04d}", subject, f"{folder}::{one.uid}" if one.uid else str(folder), units=units)
        for index, (one, subject) in enumerate(zip(series, subjects, strict=True))
    ]


def _of_manifest(
    manifest: pd.DataFrame, split: str | None, levels: Mapping[str, int] | None, per_level: int, *,
    says: Sequence[str], units: str | None,
) -> list[ScreeningScan]:  # fmt: skip
    numbers = {image: index for index, image in reversed(list(enumerate(manifest["image"])))}
    scans = []
    for image in distinct([row["image"] for row in manifest_items(manifest, split)]):
        own = manifest[manifest["image"] == image]
        row = manifest_items(own, split)[0]
        chosen = []
        if any(row.get(name) for name in says):  # what says which slices are looked at
            chosen = lumbar_slices(own, split, levels=levels, per_level=per_level)
        scans.append(
            ScreeningScan(
                f"scan_{numbers[image]:04d}", str(row["subject"]), image, row.get("label", ""), row.get("mask", ""),
                tuple(sorted((int(one["plane"]), str(one["level"])) for one in chosen)), row.get("units") or units,
            )
        )  # fmt: skip
    return scans


def _is_scan(series: DicomSeries) -> bool:
    if series.is_image:
        return True
    first = series.headers[0]
    logger.info("left out: a series of %d file(s), %s, that %s.", len(series.headers), first.modality, first.refusal)
    return False


def _whose(series: DicomSeries) -> str:
    """What tells patients apart; a series that states no patient is one of its own."""
    stated = "".join(series.headers[0].same.get("patient", ()))
    return stated or f"series {series.uid}"
