"""Which axial slices of lumbar CT scans are looked at, and at which vertebra each lies."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.manifest import manifest_items, read_manifest
from bonemonai.data.subjects import number_subjects
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError

CONDITIONS = ("normal", "low bone mass", "osteoporosis")
LEVELS = {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24}
_MIDDLE = 0.6  # ours: share of a vertebra's slices that are clear of its end plates, where discs show


def read_lumbar_manifest(
    path: str | Path,
    *,
    classes: Sequence[str] = CONDITIONS,
    levels: Mapping[str, int] | None = None,
    require: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a manifest of lumbar CT scans.

    One row a scan, or a row a slice: ``patient``, ``image``; ``label`` (the bone condition); ``mask`` (labels of
    vertebral bodies); ``plane`` (number of an axial slice, counted from the feet, 0 being the lowest); ``level`` (of
    that slice); ``split``. Conditions, masks and planes may be missing, of some scans or of all.

    Args:
        path: of the CSV file.
        classes: the conditions that ``label`` may name.
        levels: the vertebrae that ``level`` may name; by default L1 to L5.
        require: columns that no row may leave empty.

    Returns:
        The manifest, with ``subject``, a name that tells nobody who the patient is.

    Raises:
        InputError: see :func:`bonemonai.data.read_manifest`; or if rows of one image contradict each other, a patient
            has two conditions, a condition or a vertebra is unknown, or a column that is required is not filled.
    """
    manifest = read_manifest(path, label_is_path=False, may_be_empty=("mask", "label"))
    manifest["subject"] = number_subjects(manifest["patient"].tolist())
    for column in require:
        if column not in manifest or (manifest[column] == "").any():
            raise InputError(path, f"must say {column!r} in every row for this.")
    # both reach results, where words of a patient's must not
    for column, allowed in (("label", classes), ("level", list(LEVELS if levels is None else levels))):
        for value in manifest[column].unique() if column in manifest else ():
            if value and value not in allowed:
                raise InputError(path, f"column {column!r} must be one of {', '.join(allowed)}, got {value!r}.")
    _refuse_contradictions(path, manifest)
    return manifest


def _refuse_contradictions(path: str | Path, manifest: pd.DataFrame) -> None:
    for image, rows in manifest.groupby("image", sort=False):
        for column in ("subject", "label", "mask", "units", "split"):
            if column in rows and rows[column].nunique() > 1:
                raise InputError(path, f"gives rows of {Path(str(image)).name} more than one {column}.")
        if "plane" in rows and (rows["plane"] == "").any() and len(rows) > 1:
            raise InputError(path, f"gives {Path(str(image)).name} rows with a plane and rows without.")
    if "label" in manifest:
        conditions = manifest[manifest["label"] != ""].groupby("subject")["label"].unique()
        for subject, found in conditions[conditions.str.len() > 1].items():
            raise InputError(path, f"gives {subject} (in order of the rows) two conditions: {', '.join(found)}.")


def lumbar_slices(
    manifest: pd.DataFrame,
    split: str | None = None,
    *,
    levels: Mapping[str, int] | None = None,
    per_level: int = 3,
    between: int = 0,
) -> list[dict[Hashable, Any]]:
    """List the slices of a split that are trained on or scored.

    A row that names its ``plane`` is that slice. Of a scan with a mask, each of its vertebrae gives ``per_level``
    slices, evenly spaced over the middle of its height; vertebrae that the scan cuts off are left out.

    Args:
        manifest: as :func:`read_lumbar_manifest` returns it.
        split: "train", "val" or "test"; None takes all rows.
        levels: vertebra to its value in the mask; by default L1 to L5 as 20 to 24.
        per_level: slices a vertebra, at least 1.
        between: slices a scan from between vertebrae, discs and end plates: where little or nothing is to be marked.

    Returns:
        Rows with ``plane`` as a number and ``level``, the vertebra's name, empty where it is not known.

    Raises:
        InputError: if a scan has neither ``plane`` nor ``mask``, or its mask holds none of the vertebrae.
    """
    if per_level < 1 or between < 0:
        raise ValueError(f"per_level must be >= 1 and between >= 0 (slices), got {per_level} and {between}.")
    found: list[dict[Hashable, Any]] = []
    for row in manifest_items(manifest, split):
        if row.get("plane"):
            if not str(row["plane"]).isdecimal():
                raise InputError(row["image"], f"plane must be a number, counted from the feet, got {row['plane']!r}.")
            found.append({**row, "plane": int(row["plane"]), "level": row.get("level", "")})
            continue
        if not row.get("mask"):
            raise InputError(row["image"], "has neither a plane nor a mask in the manifest, so no slice can be chosen.")
        extents = vertebra_slices(row["mask"], LEVELS if levels is None else levels)
        if not extents:
            raise InputError(row["mask"], "holds none of the vertebrae that are looked for; see levels.")
        whole = [planes for planes, inside in extents.values() if inside]
        for level, (planes, inside) in extents.items():
            # a scan that shows no vertebra whole is better than none
            if inside or not whole:
                found += [{**row, "plane": plane, "level": level} for plane in spaced_slices(planes, per_level)]
        found += [{**row, "plane": plane, "level": ""} for plane in _gaps(extents, between)]
    return found


def vertebra_slices(mask: str | Path, levels: Mapping[str, int]) -> dict[str, tuple[NDArray[np.int64], bool]]:
    """Which axial slices show the body of each vertebra.

    Masks of whole vertebrae overlap in height, since processes hang down beside the body below. A slice shows the
    vertebra that covers more of it than any other, where it covers at least half of what it covers at most.

    Args:
        mask: labels of vertebrae, or of their bodies.
        levels: vertebra to its value.

    Returns:
        Vertebra to its slices, in order, and whether neither the first nor the last slice of the scan is among them.
    """
    volume = open_axial(mask)
    covered = np.zeros((len(levels), volume.shape[0]), dtype=np.int64)
    for start, block in volume.blocks(volume.planes_within(2**26)):
        for number, value in enumerate(levels.values()):
            covered[number, start : start + len(block)] = (block == value).sum(axis=(1, 2))
    shown = {}
    for number, level in enumerate(levels):
        own = covered[number]
        planes = np.flatnonzero((own > 0) & (own == covered.max(axis=0)) & (2 * own >= own.max()))
        if len(planes):
            shown[level] = planes, bool(planes[0] > 0 and planes[-1] < volume.shape[0] - 1)
    return shown


def open_axial(path: str | Path, units: str | None = None) -> AxialVolume:
    """Open a scan with its planes axial, from the feet upwards.

    Args:
        path: see :func:`bonemonai.data.open_volume`.
        units: of the values, where the file does not say.
    """
    volume: Volume = open_volume(path, units=units)
    return AxialVolume(volume)


def spaced_slices(planes: NDArray[np.int64], count: int) -> list[int]:
    """Slices evenly spaced over the middle of a vertebra, its middle one where there is one only.

    Args:
        planes: its slices, in order.
        count: how many; a thin vertebra gives fewer.
    """
    inner = len(planes) * _MIDDLE
    places = (len(planes) - inner) / 2 + inner * (np.arange(count) + 0.5) / count
    return [int(plane) for plane in np.unique(planes[np.minimum(places.astype(int), len(planes) - 1)])]


def _gaps(extents: Mapping[str, tuple[NDArray[np.int64], bool]], count: int) -> list[int]:
    """Slices from between those that show a vertebra, evenly spaced."""
    shown = np.unique(np.concatenate([planes for planes, _ in extents.values()]))
    free = np.setdiff1d(np.arange(shown[0], shown[-1]), shown)
    if not count or not len(free):
        return []
    places = ((np.arange(count) + 0.5) * len(free) / count).astype(int)
    return [int(plane) for plane in np.unique(free[places])]
