"""The list of slices of prepared scans: a row a slice, in each of three planes, as data sets of paper 2 read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from bonemonai.data.manifest import write_manifest
from bonemonai.data.volume import open_volume
from bonemonai.errors import InputError

PLANES = ("XY", "XZ", "YZ")  # at right angles to plane, row and column

_PLACE = ("patient", "image", "load_state", "plane", "index")


def write_slice_list(path: Path, scans: Iterable[Mapping[str, str]], slices_per_plane: int | None) -> int:
    """Write a manifest of slices.

    Args:
        path: the CSV file.
        scans: of each ``patient``, ``image`` (the prepared scan), ``load_state`` and what its slices say besides.
        slices_per_plane: see :func:`slice_numbers`.

    Returns:
        The number of slices.

    Raises:
        InputError: if a scan cannot be read or has fewer slices.
    """
    rows: list[dict[str, str]] = []
    for scan in scans:
        for plane, extent in zip(PLANES, open_volume(scan["image"]).shape, strict=True):
            rows += [
                {**scan, "plane": plane, "index": str(number)} for number in slice_numbers(extent, slices_per_plane)
            ]
    table = pd.DataFrame(rows).fillna("")
    write_manifest(table[[*_PLACE, *table.columns.drop(list(_PLACE))]], path, root=".")
    return len(table)


def slice_numbers(extent: int, number: int | None) -> list[int]:
    """Numbers of slices, evenly spaced over an axis, its ends left out alike.

    Args:
        extent: slices there are.
        number: wanted; None takes all.

    Raises:
        InputError: if there are fewer.

    Example:
        >>> slice_numbers(10, 2)
        [2, 7]
    """
    if number is None:
        return list(range(extent))
    if number > extent:
        raise InputError(
            "slices_per_plane", f"must be at most the box's {extent} slices, got {number}; choose a smaller number."
        )
    return [int(position) for position in np.floor((np.arange(number) + 0.5) * extent / number)]
