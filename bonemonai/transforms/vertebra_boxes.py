"""Boxes around masks, one a channel: what the locator of paper 4 is trained on."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import convert_to_tensor


def mask_boxes(mask: torch.Tensor) -> torch.Tensor:
    """Find the smallest box around each mask.

    Args:
        mask: (N, H, W), non-zero inside.

    Returns:
        (N, 4) float32: x of the left side, y of the upper, x of the right, y of the lower, pixels, pixel k reaching
        from k to k + 1; NaN where a mask is empty.

    Example:
        >>> mask = torch.zeros(2, 8, 8)
        >>> mask[0, 2:4, 3:8] = 1
        >>> mask_boxes(mask).tolist()
        [[3.0, 2.0, 8.0, 4.0], [nan, nan, nan, nan]]
    """
    boxes = torch.full((len(mask), 4), torch.nan)
    for number, each in enumerate(mask != 0):
        rows, columns = (each.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
        if len(rows):
            sides = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
            boxes[number] = torch.stack(sides).float()
    return boxes


class VertebraBoxesd(MapTransform):
    """Add ``boxes``, see :func:`mask_boxes`, and ``present``, whether there is one.

    Args:
        keys: the mask, (N, H, W); one.
        boxes_key: where the boxes go, (N, 4) float32.
        present_key: where the flags go, (N,) bool.
        allow_missing_keys: skip the key if it is not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        boxes_key: str = "boxes",
        present_key: str = "present",
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        if len(self.keys) != 1:
            raise ValueError(f"keys must name one mask, got {self.keys}.")
        self.boxes_key, self.present_key = boxes_key, present_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add an item's boxes."""
        item = dict(data)
        for key in self.key_iterator(item):
            boxes = mask_boxes(convert_to_tensor(item[key], track_meta=False))
            item |= {self.boxes_key: boxes, self.present_key: boxes.isfinite().all(dim=1)}
        return item
