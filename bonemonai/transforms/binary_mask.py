"""Masks of one kind of object, in either way of writing them, and nothing else."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from bonemonai.errors import InputError

_WRITTEN = ((0, 1), (0, 255))


class BinaryMask(Transform):
    """0 and 1 of a mask that is written as 0 and 1, or as 0 and 255.

    A threshold alone would take a label map of several structures, or of numbered objects, for a mask, silently.

    Shape:
        mask: any, any number type. Returns the same shape, float32, 0 and 1.

    Raises:
        InputError: if there are other values, naming some.

    Example:
        >>> BinaryMask()(torch.tensor([[0, 255, 255]])).tolist()
        [[0.0, 1.0, 1.0]]
    """

    def __call__(self, mask: Any) -> torch.Tensor:
        """Read a mask.

        Args:
            mask: array or tensor.
        """
        tensor: torch.Tensor = convert_to_tensor(mask, track_meta=get_track_meta())
        values = torch.unique(torch.as_tensor(tensor).as_subclass(torch.Tensor)).tolist()
        if not any(set(values) <= set(written) for written in _WRITTEN):
            found = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if len(values) > 6 else "")
            raise InputError("label", f"holds {found}; a mask of one kind of object holds 0 and 1, or 0 and 255.")
        return (tensor > 0).to(torch.float32)


class BinaryMaskd(MapTransform):
    """Dictionary version of :class:`BinaryMask`.

    Args:
        keys: masks.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        super().__init__(keys, allow_missing_keys)
        self.read = BinaryMask()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read the masks of an item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.read(item[key])
        return item
