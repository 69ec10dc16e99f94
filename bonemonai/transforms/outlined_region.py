"""Slices that show nothing but what is outlined in them: the input of paper 4's baselines."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from torch.nn.functional import pad

from bonemonai.errors import InputError
from bonemonai.transforms.vertebra_boxes import mask_boxes


class OutlinedRegion(Transform):
    """Blank each slice outside of its own mask, and cut the square around the mask, or leave the slice whole.

    Args:
        crop_size: edge of the square, pixels; its centre is that of the mask's box, to the nearest whole pixel. None
            keeps the slice's size, as the paper does for its baselines; 224 is what its own classifier is given.
        outlined: False keeps what lies around the mask.
        fill: value outside of the mask, and of the slice; 0 is the darkest where grey values are scaled to [0, 1].

    Shape:
        image: (N, H, W), float; mask: (N, H, W), non-zero inside. Returns (N, H, W) or (N, crop_size, crop_size),
        float32. A crop around an empty mask is ``fill`` throughout.

    Raises:
        InputError: if all masks are empty: there is nothing to classify, and no image is made up.
        ValueError: if ``crop_size`` is below 1, or the shapes differ.

    Source:
        Zhang et al., 4.4 (512 x 512, "contain only regions of interest") and 3.3 (crops).

    Example:
        >>> mask = torch.zeros(1, 4, 4)
        >>> mask[0, 1, 2:] = 1
        >>> OutlinedRegion(2)(torch.ones(1, 4, 4), mask).tolist()
        [[[1.0, 1.0], [0.0, 0.0]]]
    """

    def __init__(self, crop_size: int | None = None, *, outlined: bool = True, fill: float = 0.0) -> None:
        if crop_size is not None and crop_size < 1:
            raise ValueError(f"crop_size must be >= 1 (pixels) or None, got {crop_size}.")
        self.crop_size, self.outlined, self.fill = crop_size, outlined, fill

    def __call__(self, image: Any, mask: Any) -> torch.Tensor:  # type: ignore[override]
        """Blank and cut the slices."""
        slices: torch.Tensor = convert_to_tensor(image, dtype=torch.float32, track_meta=False)
        inside = convert_to_tensor(mask, track_meta=False) != 0
        if slices.ndim != 3 or slices.shape != inside.shape:
            raise ValueError(
                f"image and mask must be (N, H, W), both alike, got {tuple(slices.shape)} and {tuple(inside.shape)}."
            )
        if not inside.any():
            raise InputError("mask", "shows nothing in the slices that were chosen; see plane, level and --levels.")
        if self.outlined:
            slices = slices.masked_fill(~inside, self.fill)
        if self.crop_size is None:
            return slices
        boxes = mask_boxes(inside)
        return torch.stack([self._cut(each, box, self.crop_size) for each, box in zip(slices, boxes, strict=True)])

    def _cut(self, plane: torch.Tensor, box: torch.Tensor, size: int) -> torch.Tensor:
        if not box.isfinite().all():
            return plane.new_full((size, size), self.fill)
        # halves are rounded up, as bonemonai.networks.crop_corners does; the margin holds any square
        left, top = ((box[:2] + box[2:] - size) / 2 + 0.5).floor().int().tolist()
        widened = pad(plane, [size] * 4, value=self.fill)
        cut: torch.Tensor = widened[top + size : top + 2 * size, left + size : left + 2 * size]
        return cut


class OutlinedRegiond(MapTransform):
    """Dictionary version of :class:`OutlinedRegion`.

    Args:
        keys: slices to blank and to cut.
        mask_key: where their masks lie; they stay as they are.
        crop_size: see :class:`OutlinedRegion`.
        outlined: see there.
        fill: see there.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        mask_key: str = "mask",
        crop_size: int | None = None,
        outlined: bool = True,
        fill: float = 0.0,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.region, self.mask_key = OutlinedRegion(crop_size, outlined=outlined, fill=fill), mask_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Blank and cut an item's slices."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.region(item[key], item[self.mask_key])
        return item
