"""Slices of scans along three directions, as items of a MONAI dataset."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from bonemonai.data.histogram import StreamingHistogram, volume_histogram
from bonemonai.data.slice_list import PLANES
from bonemonai.data.units import refuse_other_units
from bonemonai.data.volume import open_volume
from bonemonai.errors import InputError


class SliceDataset(Dataset[Any]):
    """The slices that a manifest names: XY, XZ and YZ planes of scans.

    A slice across the planes on disk touches all of them, so scans are read whole, one after the other. An item holds,
    for each key, the slice as (1, H, W) in the type on disk, the other entries of its row, ``index`` as a number, and
    as ``histogram`` the grey values of the whole scan, which transforms need in order to scale a slice like its
    neighbours; drop that entry before items are collated.

    Args:
        data: rows such as :func:`bonemonai.data.manifest_items` gives, with ``plane`` ("XY", "XZ" or "YZ", at right
            angles to plane, row and column of the scan) and ``index``. Rows of one scan should follow each other.
        keys: entries to read slices from, of one shape; the first one's grey values are counted. A row whose further
            keys are empty gives slices of zeros.
        transform: applied to each slice, once if they are kept.
        augment: applied each time a slice is asked for, such as random flips.
        keep: hold all transformed slices in memory, as training needs; else one scan is held.
        progress: show a bar while slices are cut to be kept.
        expects: units that the first key's values may have; None takes any.

    Raises:
        InputError: if there is no row, or one names no slice of its scan.
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        keys: Sequence[str] = ("image",),
        transform: Callable[[Any], Any] | None = None,
        augment: Callable[[Any], Any] | None = None,
        *,
        keep: bool = True,
        progress: bool = True,
        expects: Sequence[str] | None = None,
    ) -> None:
        if not data:
            raise InputError("data", "the data set is empty: it has no row.")
        self.data, self.keys, self.transform, self.augment = list(data), tuple(keys), transform, augment
        self.expects = expects
        for row in self.data:
            if row.get("plane") not in PLANES or not str(row.get("index", "")).isdecimal():
                where = f"{row.get('plane')!r}, {row.get('index')!r}"
                raise InputError(
                    row.get(self.keys[0], "data"),
                    f"plane and index must be one of {', '.join(PLANES)} and a number, got {where}.",
                )
        self._held: tuple[Any, ...] = ()
        self._scan: dict[str, NDArray[Any]] = {}
        self._histogram: StreamingHistogram | None = None
        self._kept: list[Any] | None = None
        if keep:
            numbers = tqdm(range(len(self.data)), desc="cutting slices", disable=not progress)
            self._kept = [self._cut(number) for number in numbers]
            self._hold(None)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, number: int) -> Any:
        # a copy: who gets it may write into the dictionary and its arrays
        item = self._cut(number) if self._kept is None else _copied(self._kept[number])
        return item if self.augment is None else self.augment(item)

    def _cut(self, number: int) -> Any:
        row = self.data[number]
        self._hold(row)
        axis, index = PLANES.index(row["plane"]), int(row["index"])
        item = dict(row) | {"index": index, "histogram": self._histogram}
        for key, volume in self._scan.items():
            if index >= volume.shape[axis]:
                raise InputError(row[key], f"has no {row['plane']} slice {index}; there are {volume.shape[axis]}.")
            item[key] = np.ascontiguousarray(volume.take(index, axis=axis))[None]
        return item if self.transform is None else self.transform(item)

    def _hold(self, row: Mapping[Hashable, Any] | None) -> None:
        """Have the scan of a row, and no other, in memory."""
        wanted = () if row is None else tuple(row.get(key, "") for key in self.keys)
        if wanted == self._held:
            return
        self._held, self._scan, self._histogram = (), {}, None
        if row is None:
            return
        if not row.get(self.keys[0]):
            raise InputError("manifest", f"has an empty {self.keys[0]!r}, which this workflow needs.")
        volume = open_volume(row[self.keys[0]], units=row.get("units") or None)
        refuse_other_units(volume, self.expects)
        self._histogram = volume_histogram(volume)
        scan = {self.keys[0]: volume.read()}
        for key in self.keys[1:]:
            mask = open_volume(row[key]).read() if row.get(key) else np.zeros(volume.shape, dtype=np.uint8)
            if mask.shape != volume.shape:
                raise InputError(row[key], f"has shape {mask.shape}, its scan {volume.shape}.")
            scan[key] = mask
        self._held, self._scan = wanted, scan


def _copied(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.clone() if isinstance(value, torch.Tensor) else value


def every_nth_slice(data: Sequence[Mapping[Hashable, Any]], step: int) -> list[Mapping[Hashable, Any]]:
    """Of each scan and plane, every n-th row, beginning in the middle of the first n.

    Args:
        data: rows as :class:`SliceDataset` takes them.
        step: n; 1 takes all.

    Raises:
        InputError: if no row is left.
    """
    if step < 1:
        raise InputError("step", f"must be >= 1 (slices), got {step}.")
    seen: dict[tuple[Any, Any], int] = {}
    chosen = []
    for row in data:
        scan = row["image"], row["plane"]
        seen[scan] = seen.get(scan, -1) + 1
        if seen[scan] % step == step // 2:
            chosen.append(row)
    if not chosen:
        raise InputError("step", f"{step} is larger than the number of slices of a plane; say a smaller one.")
    return chosen
