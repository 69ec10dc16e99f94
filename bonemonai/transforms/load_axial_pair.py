"""Two axial slices of a scan, of L1 and of L2, and what a mask says of each."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bonemonai.transforms.load_axial_slice import LoadAxialSliced


class LoadAxialPaird(MapTransform):
    """Read the two slices that an item names, from the scan and from its mask.

    Args:
        keys: the scan, then any masks, which must lie on its grid.
        planes_key: entry that holds the two numbers, counted from the feet; below 0 for a vertebra that is not there.
        values_key: entry that holds the value of either vertebra in the masks.
        fill: of the scan where there is no slice; -1024 HU is outside of a scanner's field.
        expects: units that the scan's values may have.
        allow_missing_keys: skip keys that are not there.

    Shape:
        Each entry becomes (2, H, W), float32: of the scan its values; of a mask 1 where the slice of the upper vertebra
        shows it, and 1 where that of the lower shows that, else 0. ``spacing`` is that of rows and of columns, mm.

    Raises:
        InputError: see :class:`LoadAxialSliced`.
        ValueError: if an item names no slice at all.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        planes_key: str = "planes",
        values_key: str = "values",
        fill: float = -1024.0,
        expects: Sequence[str] | None = ("HU",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.planes_key, self.values_key, self.fill = planes_key, values_key, fill
        self.load = LoadAxialSliced(keys, plane_key="plane", expects=expects, allow_missing_keys=allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read an item's pairs of slices."""
        planes, values = data[self.planes_key], data[self.values_key]
        read = [self.load({**data, "plane": plane}) if plane >= 0 else None for plane in planes]
        there = next((each for each in read if each is not None), None)
        if there is None:
            raise ValueError(f"{self.planes_key} must name a slice or two, got {tuple(planes)}.")
        item = {key: value for key, value in there.items() if key != "plane"}
        for number, key in enumerate(self.key_iterator(item)):
            blank = torch.full_like(there[key], 0.0 if number else self.fill)
            slices = [blank if each is None else each[key] for each in read]
            if number:
                slices = [(each == value).float() for each, value in zip(slices, values, strict=True)]
            item[key] = torch.cat(slices)
        return item
