"""The central slices of L1 and L2, which are looked at together (paper 4)."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bonemonai.data.lumbar_slices import CONDITIONS, LEVELS, open_axial, spaced_slices, vertebra_slices
from bonemonai.data.manifest import distinct, manifest_items
from bonemonai.errors import InputError

PAIR = ("L1", "L2")
MISSING = -1


def lumbar_pairs(
    manifest: pd.DataFrame,
    split: str | None = None,
    *,
    levels: Mapping[str, int] | None = None,
    pair: Sequence[str] = PAIR,
    per_level: int = 1,
    background: int = 0,
    allow_cut: bool = False,
    classes: Sequence[str] = CONDITIONS,
) -> list[dict[Hashable, Any]]:
    """List pairs of slices, one of each vertebra, of the scans of a split.

    Slices come from rows that name ``plane`` and ``level``, or else from the scan's mask: the middle one of each
    vertebra, or ``per_level`` slices around it, the n-th of one vertebra with the n-th of the other.

    Args:
        manifest: as :func:`bonemonai.data.read_lumbar_manifest` returns it.
        split: "train", "val" or "test"; None takes all rows.
        levels: vertebra to its value in the mask; by default L1 to L5 as 20 to 24. All that the mask holds should be
            named: a slice is that of the vertebra which covers most of it.
        pair: names of the two vertebrae, the upper one first.
        per_level: pairs a scan; 1 is the paper's, more are further slices of the same vertebrae, for training.
        background: pairs a scan of slices that show neither of both, for the locator to learn what is none of them.
        allow_cut: take vertebrae that the scan cuts off, whose middle is not known.
        classes: of the column ``label``.

    Returns:
        Rows with ``planes`` (two numbers from the feet, -1 for a vertebra that the scan does not show), ``values`` (of
        both in the mask), ``diagnosis`` (the condition, empty where it is not known), ``class`` (its number, or -1) and
        ``is_background``; of background no class is known.

    Raises:
        InputError: if a scan has neither mask nor planes, shows neither vertebra, or names several slices of a vertebra
            without as many of the other.
        ValueError: if a number or ``pair`` is out of its range.

    Source:
        Zhang et al., 4.1: the central slices of L1 and L2.
    """
    values = LEVELS if levels is None else levels
    if per_level < 1 or background < 0:
        raise ValueError(f"per_level must be >= 1 and background >= 0 (pairs), got {per_level} and {background}.")
    if len(pair) != 2 or pair[0] == pair[1] or not set(pair) <= set(values):
        raise ValueError(f"pair must be two of {', '.join(values)}, got {', '.join(map(str, pair))}.")
    items = manifest_items(manifest, split)
    found: list[dict[Hashable, Any]] = []
    for image in distinct([row["image"] for row in items]):
        rows = [row for row in items if row["image"] == image]
        first = {key: value for key, value in rows[0].items() if key not in ("plane", "level")}
        condition = str(first.get("label") or "")
        row = {**first, "values": (values[pair[0]], values[pair[1]]), "diagnosis": condition, "is_background": False}
        row["class"] = list(classes).index(condition) if condition else MISSING
        if any(each.get("plane") for each in rows):
            planes = _named(rows, pair)
        elif first.get("mask"):
            planes = _of_mask(first["mask"], values, pair, per_level, allow_cut=allow_cut)
        else:
            raise InputError(image, "has neither planes nor a mask in the manifest, so no slice can be chosen.")
        found += [{**row, "planes": each} for each in planes]
        if background:
            empty = {**row, "diagnosis": "", "class": MISSING, "is_background": True}
            found += [{**empty, "planes": each} for each in _elsewhere(image, first, row["values"], background)]
    return found


def pair_of_mask(
    mask: str,
    *,
    levels: Mapping[str, int] | None = None,
    pair: Sequence[str] = PAIR,
    allow_cut: bool = False,
) -> tuple[int, int]:
    """The middle slice of each vertebra, as :func:`lumbar_pairs` chooses it; -1 for one that the scan does not show.

    Args:
        mask: path of the mask.
        levels: see :func:`lumbar_pairs`.
        pair: see there.
        allow_cut: see there.

    Raises:
        InputError: if the scan shows neither.
    """
    return _of_mask(mask, LEVELS if levels is None else levels, pair, 1, allow_cut=allow_cut)[0]


def levels_apart(pair: Sequence[str]) -> int:
    """How many vertebrae lie from the upper to the lower one of two, 1 for neighbours.

    Args:
        pair: names, from C1 to L6, as T12 and L2; twelve thoracic vertebrae. Of other names 1 is taken.

    Raises:
        ValueError: if the first is not the upper one.

    Example:
        >>> levels_apart(("L1", "L2")), levels_apart(("T11", "L1"))
        (1, 2)
    """
    order = [f"{part}{number}" for part, count in (("C", 7), ("T", 12), ("L", 6)) for number in range(1, count + 1)]
    if not set(pair) <= set(order):
        return 1
    apart = order.index(pair[1]) - order.index(pair[0])
    if apart < 1:
        raise ValueError(f"pair must name the upper vertebra first, got {', '.join(pair)}.")
    return apart


def _named(rows: Iterable[Mapping[Hashable, Any]], pair: Sequence[str]) -> list[tuple[int, int]]:
    """Slices that a manifest names."""
    planes: dict[str, list[int]] = {name: [] for name in pair}
    image = ""
    for row in rows:
        image = str(row["image"])
        if not str(row.get("plane", "")).isdecimal() or not row.get("level"):
            raise InputError(image, "must name plane (a number, from the feet) and level in each of its rows, or none.")
        if row["level"] in planes:
            planes[row["level"]].append(int(row["plane"]))
    return _paired(image, [sorted(planes[name]) for name in pair], pair)


def _of_mask(
    mask: str, levels: Mapping[str, int], pair: Sequence[str], per_level: int, *, allow_cut: bool
) -> list[tuple[int, int]]:
    extents = vertebra_slices(mask, levels)
    chosen = []
    for name in pair:
        planes, whole = extents.get(name, (np.empty(0, dtype=np.int64), False))
        chosen.append(spaced_slices(planes, per_level) if len(planes) and (whole or allow_cut) else [])
    most = max(map(len, chosen))
    # a thin vertebra gives fewer different slices than are asked for: some of them twice
    chosen = [[each[n * len(each) // most] for n in range(most)] if each else [] for each in chosen]
    return _paired(mask, chosen, pair)


def _paired(path: str, chosen: Sequence[Sequence[int]], pair: Sequence[str]) -> list[tuple[int, int]]:
    """The n-th slice of one vertebra with the n-th of the other; -1 for a vertebra that is not there at all."""
    upper, lower = chosen
    if not upper and not lower:
        raise InputError(path, f"shows neither {pair[0]} nor {pair[1]} whole; see levels, pair and allow_cut.")
    if upper and lower and len(upper) != len(lower):
        raise InputError(path, f"names {len(upper)} slices of {pair[0]} and {len(lower)} of {pair[1]}; name as many.")
    count = max(len(upper), len(lower))
    sides = [list(each) or [MISSING] * count for each in (upper, lower)]
    return list(zip(*sides, strict=True))


def _elsewhere(image: str, row: Mapping[Hashable, Any], values: Sequence[int], count: int) -> list[tuple[int, int]]:
    """Pairs of slices in which the mask holds neither vertebra, evenly spaced over the scan."""
    if not row.get("mask"):
        raise InputError(image, "has no mask, so that no slice is known to show neither vertebra; say background 0.")
    volume = open_axial(row["mask"])
    free = np.ones(volume.shape[0], dtype=bool)
    for start, block in volume.blocks(volume.planes_within(2**26)):
        free[start : start + len(block)] = ~np.isin(block, values).any(axis=(1, 2))
    planes: NDArray[np.int64] = np.flatnonzero(free)
    if len(planes) == 0:
        return []
    places = ((np.arange(2 * count) + 0.5) * len(planes) / (2 * count)).astype(np.int64)
    spread = [int(planes[place]) for place in places]
    return list(zip(spread[:count], spread[count:], strict=True))


def single_slices(pairs: Iterable[Mapping[Hashable, Any]], pair: Sequence[str] = PAIR) -> list[dict[Hashable, Any]]:
    """The slices of pairs one by one, with ``plane`` and ``level``; background and missing vertebrae are left out.

    Args:
        pairs: see :func:`lumbar_pairs`.
        pair: names of the two vertebrae.
    """
    return [
        {**row, "plane": plane, "level": level}
        for row in pairs
        if not row["is_background"]
        for plane, level in zip(row["planes"], pair, strict=True)
        if plane >= 0
    ]
