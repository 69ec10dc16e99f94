"""Scans of specimens under load: which scan is a sample's first, whose histogram another takes, which masks it has."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from bonemonai.data.manifest import patient_key, read_manifest
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError

MASKS = ("crack", "ring")
Matching = Literal["sample", "bone", "none"]


class LoadedScans:
    """The scans of a manifest, by the number of their row.

    Args:
        manifest_path: see :class:`bonemonai.data.ScanPreparation`.
        matching: whose histogram a scan takes: that of the first scan of its "sample", or of the first sample of its
            "bone", or "none".

    Raises:
        InputError: if ``matching`` is another word, or see :func:`read_scans`.
    """

    def __init__(self, manifest_path: str | Path, matching: Matching) -> None:
        if matching not in ("sample", "bone", "none"):
            raise InputError("matching", f"must be sample, bone or none, got {matching!r}.")
        self.matching = matching
        self.table = read_scans(manifest_path, by_bone=matching == "bone")

    def path(self, number: int, column: str = "image") -> str:
        """What a scan's row says in a column; "" where it says nothing."""
        return str(self.table.loc[number, column]) if column in self.table else ""

    def masks(self, number: int) -> list[str]:
        """Names of the truth masks that a scan has."""
        return [mask for mask in MASKS if self.path(number, mask)]

    def first(self, number: int) -> int:
        """The sample's first scan, on whose grid this one is brought."""
        return int(self.path(number, "first"))

    def reference(self, number: int) -> int:
        """The scan whose histogram this one takes; itself without matching."""
        columns = {"sample": "first", "bone": "first_of_bone"}
        return int(self.path(number, columns[self.matching])) if self.matching in columns else number

    def open(self, number: int) -> Volume:
        """A scan, with the voxel size that the manifest or else its file states."""
        return open_volume(self.path(number), voxel_size_um=self.path(number, "voxel_size_um") or None)

    def open_mask(self, number: int, column: str, scan: Volume) -> Volume:
        """A truth mask of a scan, which must have its shape."""
        volume = open_volume(self.path(number, column), voxel_size_um=scan.voxel_size_um)
        if volume.shape != scan.shape:
            raise InputError(volume.path, f"has shape {volume.shape}, its scan {scan.shape}.")
        return volume

    def refuse_unlike_first(self, number: int, *, registered: bool) -> Volume:
        """Refuse, by headers, a scan that cannot be brought to its sample's first.

        Args:
            number: of the scan.
            registered: it lies right already.

        Returns:
            The sample's first scan.

        Raises:
            InputError: if a voxel size is not known or another, or a shape that must be the same is not.
        """
        scan, grid = self.open(number), self.open(self.first(number))
        if scan.voxel_size_um is None or grid.voxel_size_um is None:
            raise InputError(scan.path, "states no voxel size; give it in the manifest's column voxel_size_um.")
        if registered and scan.shape != grid.shape:
            raise InputError(scan.path, f"has shape {scan.shape}, its sample's first scan {grid.shape}.")
        if not np.allclose(scan.voxel_size_um, grid.voxel_size_um, rtol=1e-6):
            raise InputError(
                scan.path, f"has voxels of {scan.voxel_size_um} um, its sample's first scan {grid.voxel_size_um}."
            )
        for mask in self.masks(number):
            self.open_mask(number, mask, scan)
        return grid


def read_scans(manifest_path: str | Path, *, by_bone: bool = False) -> pd.DataFrame:
    """Read a manifest of scans under load.

    Args:
        manifest_path: see :class:`bonemonai.data.ScanPreparation`.
        by_bone: whether the column ``bone`` is needed.

    Returns:
        The manifest, ``load_state`` a number, and with it ``first`` and ``first_of_bone``: the rows of the first
        loading state of the sample, and of the first sample of that bone.

    Raises:
        InputError: if a column is missing, a loading state is no number or stands twice.
    """
    scans = read_manifest(manifest_path)
    for column in ("load_state", *(["bone"] if by_bone else [])):
        if column not in scans:
            raise InputError(manifest_path, f"has no column {column!r}.")
    for row in scans.index[scans["bone"] == ""] if by_bone else ():
        raise InputError(manifest_path, f"image {row + 1}: column 'bone' is empty.")
    for row, state in enumerate(scans["load_state"]):
        if not (state.isascii() and state.isdigit() and int(state) > 0):
            raise InputError(manifest_path, f"image {row + 1}: load_state must be a number from 1, got {state!r}.")
    scans["load_state"] = scans["load_state"].astype(int)
    keys = scans["patient"].map(patient_key)
    doubled = scans[pd.DataFrame({"key": keys, "state": scans["load_state"]}).duplicated()]
    for row in doubled.index:
        raise InputError(manifest_path, f"image {row + 1}: {scans.loc[row, 'patient']} has that loading state already.")
    scans["first"] = scans.groupby(keys)["load_state"].transform(lambda states: states.idxmin())
    bone = scans["bone"] if "bone" in scans else pd.Series("", index=scans.index)
    scans["first_of_bone"] = scans.groupby(bone)["first"].transform("first")
    return scans
