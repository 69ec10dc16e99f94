"""How a scan was taken and what it looks like: what is compared between scans of training and one that is screened."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.analysis.acquisition_check import describe_acquisitions, intensity_statistics
from bonemonai.data.acquisition import read_acquisition
from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_slices import LEVELS, open_axial


def scan_acquisition(volume: AxialVolume, planes: Iterable[int], marks: Iterable[NDArray[np.bool_]]) -> dict[str, Any]:
    """Describe one scan.

    Args:
        volume: HU.
        planes: slices whose grey values count: those with a vertebra, for scans reach differently far beside the spine.
        marks: (rows, columns) of each of these slices.

    Returns:
        Entries as :mod:`bonemonai.analysis.acquisition_check` takes them; without slices no intensities.
    """
    acquisition = read_acquisition(volume)
    slices = [volume.read(plane, plane + 1)[0] for plane in planes]
    statistics = intensity_statistics(np.stack(slices), np.stack(list(marks))) if slices else {}
    return {
        "KVP": acquisition.kvp,
        "ConvolutionKernel": acquisition.kernel,
        "Manufacturer": acquisition.manufacturer,
        "contrast": acquisition.contrast,
        "in_plane_spacing_mm": volume.pixel_spacing_mm,
        "slice_interval_mm": volume.slice_interval_mm,
        **statistics,
    }


def training_acquisitions(
    rows: Iterable[Mapping[Hashable, Any]], levels: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Describe the scans that a network is trained on, for the card beside its weights.

    Args:
        rows: slices, see :func:`bonemonai.data.lumbar_slices`.
        levels: vertebra to its value in the masks; by default L1 to L5 as 20 to 24.

    Returns:
        JSON values, see :func:`bonemonai.analysis.describe_acquisitions`.

    Raises:
        InputError: if there is no slice, or a scan cannot be read.
    """
    values = list((LEVELS if levels is None else levels).values())
    planes_of: dict[tuple[str, str, str], list[int]] = {}
    for row in rows:
        key = (str(row["image"]), str(row.get("mask") or ""), str(row.get("units") or ""))
        planes_of.setdefault(key, []).append(int(row["plane"]))
    scans = []
    for (image, mask, units), planes in planes_of.items():
        volume = open_axial(image, units or None)
        truth = open_axial(mask) if mask else None
        marks = [
            np.zeros(volume.shape[1:], dtype=bool) if truth is None
            else np.isin(truth.read(plane, plane + 1)[0], values)
            for plane in planes
        ]  # fmt: skip
        scans.append(scan_acquisition(volume, planes, marks))
    return describe_acquisitions(scans)
