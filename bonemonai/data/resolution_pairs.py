"""A scan at low and at high resolution, of one specimen in one place (paper 5)."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.filters import window
from skimage.registration import phase_cross_correlation

from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.data.manifest import manifest_items, read_manifest
from bonemonai.data.subjects import number_subjects
from bonemonai.data.units import refuse_other_units
from bonemonai.data.upsampled_volume import UpsampledVolume
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

_SAME_RATIO = 0.01  # of the voxel sizes' ratio: how far it may be from a whole number
_COMPARED = (64, 256, 256)  # voxels of the middle that registration is checked on, at most
_BLOCK_BYTES = 2**26
_STEPS = 10  # parts of a voxel that shifts are found to

LEAKAGE = "parts of one specimen are trained on and tested on: scores say nothing about another specimen"


class ResolutionPair:
    """Both scans of a specimen on the fine grid.

    How many times finer one is follows from the voxel sizes. Where one scan reaches farther at its end than the other,
    by less than a coarse voxel, that is cut off.

    Args:
        low: the coarse scan.
        high: the fine scan.
        most_shift_voxels: how far one may lie off the other, fine voxels.
        check: whether that is looked at, by phase correlation of their middles.

    Attributes:
        low: up-sampled linearly,
        cubic: up-sampled by cubic interpolation, and
        high: all of one shape; for :class:`bonemonai.data.PlaneDataset` and as many planes as they have in common.
        coarse: the coarse scan; of its last plane, row or column that reach beyond the fine scan nothing is left.
        factor: coarse voxel's edge over fine voxel's edge.
        shift_voxels: (planes, rows, columns) that the low one lies off the high one, fine voxels; None unless checked.

    Raises:
        InputError: if a voxel size is not known, their ratio is no whole number of 2 or more or another one along each
            axis, the scans are of different units or sizes, or lie too far off each other.

    Source:
        David et al., 2.2 and 2.3: registered in the holder; the check is ours.
    """

    def __init__(self, low: Volume, high: Volume, *, most_shift_voxels: float = 1.0, check: bool = True) -> None:
        refuse_other_units(low, [high.units])
        self.factor = _factor(low, high)
        fine = UpsampledVolume(low, self.factor)
        beyond = [abs(one - other) for one, other in zip(fine.shape, high.shape, strict=True)]
        if max(beyond) >= self.factor:
            raise InputError(
                low.path, f"is {low.shape} voxels, {fine.shape} on the grid of {high.path.name}, which has "
                f"{high.shape}; cut both to the same place first."
            )  # fmt: skip
        size = [min(pair) for pair in zip(fine.shape, high.shape, strict=True)]
        cubic = UpsampledVolume(low, self.factor, kind="cubic")
        self.low, self.cubic, self.high = (CroppedVolume(each, (0, 0, 0), size) for each in (fine, cubic, high))
        self.coarse = CroppedVolume(low, (0, 0, 0), [length // self.factor for length in size])
        self.shift_voxels: tuple[float, float, float] | None = None
        if check:
            self.shift_voxels = _shift(self.low, self.high)
            if max(map(abs, self.shift_voxels)) > most_shift_voxels:
                found = ", ".join(f"{step:.1f}" for step in self.shift_voxels)
                raise InputError(
                    low.path, f"lies {found} fine voxels (planes, rows, columns) off {high.path.name}, and "
                    f"{most_shift_voxels:g} are allowed; register them first."
                )  # fmt: skip


def open_resolution_pair(row: Mapping[Hashable, Any], **options: Any) -> ResolutionPair:
    """Open the scans that a manifest's row names.

    Args:
        row: ``image``, the fine scan, ``lr``, the coarse one, and where files do not state them ``units``,
            ``voxel_size_um`` (of the fine scan) and ``lr_voxel_size_um``.
        options: see :class:`ResolutionPair`.

    Raises:
        InputError: see :class:`ResolutionPair`.
    """
    units = row.get("units") or None
    if not row.get("lr"):
        raise InputError(str(row.get("image") or "manifest"), "has no scan of low resolution, column lr.")
    low = open_volume(row["lr"], voxel_size_um=row.get("lr_voxel_size_um") or None, units=units)
    high = open_volume(row["image"], voxel_size_um=row.get("voxel_size_um") or None, units=units)
    return ResolutionPair(low, high, **options)


def _factor(low: Volume, high: Volume) -> int:
    for volume in (low, high):
        if volume.voxel_size_um is None:
            raise InputError(volume.path, "does not state its voxel size; give it in the manifest.")
    ratios = np.asarray(low.voxel_size_um) / np.asarray(high.voxel_size_um)
    factor = round(float(ratios.mean()))
    if factor < 2 or (abs(ratios - factor) > _SAME_RATIO * factor).any():
        found = " x ".join(f"{ratio:.3g}" for ratio in ratios)
        raise InputError(low.path, f"has voxels {found} as large as {high.path.name}; 2 or 3 or more are due, alike.")
    return factor


def _shift(low: Volume, high: Volume) -> tuple[float, float, float]:
    """How far low lies off high, voxels."""
    one, other = _middle(high), _middle(low)
    if one.std() == 0 or other.std() == 0:
        raise InputError(low.path, "is constant in its middle, or its fine scan is: nothing shows where it lies.")
    # faded out at the border, where what left one image would be compared with what came into the other; and without
    # normalisation: a coarse scan has none of the fine one's high frequencies, and its noise would count
    fade = window("hann", one.shape)
    faded = [(image - image.mean()) * fade for image in (one, other)]
    found, *_ = phase_cross_correlation(*faded, upsample_factor=_STEPS, normalization=None)
    planes, rows, columns = (-float(step) for step in found)
    return planes, rows, columns


def _middle(volume: Volume) -> NDArray[np.float64]:
    sizes = [min(most, size) for most, size in zip(_COMPARED, volume.shape, strict=True)]
    starts = [(size - part) // 2 for size, part in zip(volume.shape, sizes, strict=True)]
    planes = volume.read(starts[0], starts[0] + sizes[0])
    part = planes[:, starts[1] : starts[1] + sizes[1], starts[2] : starts[2] + sizes[2]]
    return np.asarray(part, dtype=np.float64)


def read_resolution_manifest(
    path: str | Path,
    *,
    site: str | None = None,
    frames: int | str | None = None,
    require_split: bool = True,
    allow_leakage: bool = False,
) -> pd.DataFrame:
    """Read a manifest of scans at both resolutions.

    One row a pair: ``patient`` (the specimen's animal), ``image``, ``lr``, ``split``; optionally ``site`` (femur,
    spine), ``part`` (which part of the specimen a pair shows), ``lr_frames`` (frame averages of the coarse scan),
    ``tv`` (mask of the tissue to measure bone in, on the fine scan's voxels), ``units``, ``voxel_size_um``,
    ``lr_voxel_size_um``.

    Args:
        path: of the CSV file.
        site: take this one only; None or "all" takes every one.
        frames: take coarse scans of so many frame averages only; None or "all" takes every one.
        require_split: refuse one without splits.
        allow_leakage: let parts of one specimen stand in several splits, as of a study of a single scan; see
            :func:`bonemonai.phantoms.write_rescanned_study`.

    Returns:
        The manifest, with ``subject``, a name that tells nobody whose the specimen is; where specimens do stand in
        several splits, with ``leakage``, which says so.

    Raises:
        InputError: see :func:`bonemonai.data.read_manifest`; or if a column is missing, or no row is left.
    """
    manifest = read_manifest(path, allow_shared_patient=allow_leakage)
    manifest["subject"] = number_subjects(manifest["patient"].tolist())
    if "split" in manifest and (manifest.groupby("subject")["split"].nunique() > 1).any():
        manifest["leakage"] = LEAKAGE
    # MONAI drops an option that is None
    site = None if site == "all" else site
    frames = None if frames == "all" else frames
    asked = (("lr", True), ("split", require_split), ("site", site), ("lr_frames", frames))
    for column in [name for name, wanted in asked if wanted]:
        if column not in manifest or (manifest[column] == "").any():
            raise InputError(path, f"must say {column!r} in every row for this.")
    for column, wanted in (("site", site), ("lr_frames", frames)):
        if wanted is not None:
            manifest = manifest[manifest[column] == str(wanted)]
    if manifest.empty:
        raise InputError(path, f"has no row of site {site or 'any'} and {frames or 'any number of'} frame averages.")
    return manifest.reset_index(drop=True)


def resolution_rows(
    manifest: pd.DataFrame, split: str | None = None, *, units: str | None = None, **options: Any
) -> list[dict[Hashable, Any]]:
    """Open the pairs of a split, as rows for :class:`bonemonai.data.PlaneDataset`.

    Args:
        manifest: as :func:`read_resolution_manifest` returns it.
        split: "train", "val" or "test"; None takes all rows.
        units: of scans that do not state them, where the manifest does not either.
        options: see :class:`ResolutionPair`.

    Returns:
        Rows with ``image``, the up-sampled coarse scan, ``bicubic``, the same by cubic interpolation, ``high``, the
        fine one, and ``coarse``, all open volumes; ``path``, that of the fine scan, ``lr`` and ``tv``, paths;
        ``specimen``, the subject, its site, the part of it and the frame averages: what is scored apart; ``factor``,
        coarse voxel's edge over fine voxel's edge.

    Raises:
        InputError: see :class:`ResolutionPair`.
    """
    rows = []
    for row in manifest_items(manifest, split):
        pair = open_resolution_pair({**row, "units": row.get("units") or units}, **options)
        if pair.shift_voxels is not None:
            logger.info("%s: registered to %s fine voxels.", row["subject"], np.round(pair.shift_voxels, 1).tolist())
        kept = {key: value for key, value in row.items() if key not in ("voxel_size_um", "units")}
        count = row.get("lr_frames")
        frames = f"{count} frame{'s' if str(count) != '1' else ''}" if count else None
        parts = [row["subject"], row.get("site"), row.get("part"), frames]
        kept["specimen"] = " ".join(str(part) for part in parts if part)
        kept["factor"] = pair.factor
        volumes: dict[Hashable, Any] = {
            "image": pair.low,
            "bicubic": pair.cubic,
            "high": pair.high,
            "coarse": pair.coarse,
        }
        rows.append({**kept, "path": row["image"], **volumes})
    if twice := [name for name, count in Counter(row["specimen"] for row in rows).items() if count > 1]:
        raise InputError("manifest", f"has several pairs of {twice[0]}; tell them apart in a column part.")
    return rows


def refuse_other_resolution(
    rows: Iterable[Mapping[Hashable, Any]], factor: int, lr_voxel_size_um: Sequence[float] | None
) -> None:
    """Refuse pairs of other voxel sizes than a network was made for.

    Args:
        rows: see :func:`resolution_rows`.
        factor: coarse voxel's edge over fine voxel's edge.
        lr_voxel_size_um: (plane, row, column) of coarse scans, to within 5 %; None takes any.

    Raises:
        InputError: naming a scan.
    """
    for row in rows:
        if row["factor"] != factor:
            raise InputError(row["lr"], f"is {row['factor']} times as coarse as its fine scan, and {factor} are due.")
        UpsampledVolume(row["coarse"], factor, expects_voxel_size_um=lr_voxel_size_um)


def grey_range(rows: Iterable[Mapping[Hashable, Any]]) -> tuple[float, float]:
    """Least and largest grey value of the training specimens, at both resolutions: what is scaled to [0, 1].

    Args:
        rows: see :func:`resolution_rows`.

    Returns:
        In the scans' units. The least is that of the fine scans and of the coarse ones together, likewise the largest.

    Raises:
        InputError: if there is no row, or all values are equal.

    Source:
        David et al., 2.3 (min-max scaling; that its constants come from the training specimens is ours).
    """
    ends: list[tuple[float, float]] = []
    for row in rows:
        for volume in (row["image"].base.base, row["high"].base):  # as they are stored: interpolation adds no extremes
            for _, block in volume.blocks(volume.planes_within(_BLOCK_BYTES)):
                ends.append((float(block.min()), float(block.max())))
    if not ends:
        raise InputError("training set", "has no scan.")
    low, high = min(one for one, _ in ends), max(one for _, one in ends)
    if not high > low:
        raise InputError("training set", f"holds {low:g} everywhere.")
    return low, high
