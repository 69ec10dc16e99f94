"""Slices of any size brought to the square that a network takes, and its answer back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor, ensure_tuple_rep
from torch.nn.functional import interpolate, pad

SPACING_KEY = "spacing"
_SQUARE = 0.01  # of a pixel's edge: less is no reason to interpolate


class FitPlane(Transform):
    """Pad a slice to a square, shrinking it first where it is larger.

    A slice of square pixels that fits keeps them, so that bone keeps its size and texture. Oblong pixels are first
    made square, of their shorter edge. The slice lies in the middle of the square.

    With ``pixel_mm`` all slices come to that resolution, so that a vertebra is as large to a network in one scan as in
    another; what then reaches beyond the square is cut off at all sides alike.

    Args:
        size: edge of the square, pixels.
        fill: value around a smaller slice; -1024 HU is outside of a scanner's field.
        mode: "bilinear" (anti-aliased) for images, "nearest" for masks.
        pixel_mm: edge of a pixel of the square, mm; None keeps the slice's own, as far as it fits.

    Shape:
        image: (C, H, W), any type. Returns (C, size, size), float32.

    Raises:
        ValueError: for a size below 1, another mode, a ``pixel_mm`` that is not above 0, or a slice without its spacing
            where that is needed.

    Example:
        >>> FitPlane(4, fill=-1)(torch.zeros(1, 2, 4))[0].tolist()
        [[-1.0, -1.0, -1.0, -1.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [-1.0, -1.0, -1.0, -1.0]]
    """

    def __init__(
        self, size: int, *, fill: float = -1024.0, mode: str = "bilinear", pixel_mm: float | None = None
    ) -> None:
        if size < 1:
            raise ValueError(f"size must be >= 1 (pixels), got {size}.")
        if mode not in ("bilinear", "nearest"):
            raise ValueError(f"mode must be bilinear or nearest, got {mode!r}.")
        if pixel_mm is not None and not pixel_mm > 0:
            raise ValueError(f"pixel_mm must be > 0 (mm) or None, got {pixel_mm}.")
        self.size, self.fill, self.mode, self.pixel_mm = size, fill, mode, pixel_mm

    def __call__(self, image: Any, spacing: Sequence[float] | None = None) -> torch.Tensor:
        """Fit a slice.

        Args:
            image: the slice.
            spacing: of rows and of columns, mm; None takes pixels for square.
        """
        plane = convert_to_tensor(image, dtype=torch.float32, track_meta=False)
        shape = self._drawn((plane.shape[-2], plane.shape[-1]), spacing)
        fitted: torch.Tensor = pad(_resized(plane, shape, self.mode), self._margins(shape), value=self.fill)
        return fitted

    def inverse(
        self, plane: torch.Tensor, shape: tuple[int, int], spacing: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Bring what a network said of a square back to the slice.

        Args:
            plane: (C, size, size).
            shape: (H, W) of the slice.
            spacing: as it was fitted with.
        """
        height, width = self._drawn(shape, spacing)
        # what was cut off comes back as nothing
        whole = pad(plane, [-margin for margin in self._margins((height, width))])
        return _resized(whole, shape, self.mode)

    def inverse_boxes(
        self, boxes: torch.Tensor, shape: tuple[int, int], spacing: Sequence[float] | None = None
    ) -> torch.Tensor:
        """Bring boxes in the square back to the slice.

        Args:
            boxes: (N, 4), x, y, x, y of their sides, pixels, pixel k reaching from k to k + 1.
            shape: (H, W) of the slice.
            spacing: as it was fitted with.

        Example:
            >>> FitPlane(4).inverse_boxes(torch.tensor([[1.0, 1.0, 2.0, 3.0]]), (4, 8)).tolist()
            [[2.0, 0.0, 4.0, 4.0]]
        """
        height, width = self._drawn(shape, spacing)
        left, _, top, _ = self._margins((height, width))
        factors = boxes.new_tensor([shape[1] / width, shape[0] / height] * 2)
        return (boxes - boxes.new_tensor([left, top] * 2)) * factors

    def _drawn(self, shape: tuple[int, int], spacing: Sequence[float] | None) -> tuple[int, int]:
        """Rows and columns that a slice has in the square."""
        if self.pixel_mm is not None:
            if spacing is None:
                raise ValueError("spacing must be given (mm, of rows and of columns) where pixel_mm is.")
            high, wide = (size * step / self.pixel_mm for size, step in zip(shape, spacing, strict=True))
            return max(1, round(high)), max(1, round(wide))
        row, column = (1.0, 1.0) if spacing is None or _is_square(spacing) else spacing
        rows, columns = shape[0] * row / min(row, column), shape[1] * column / min(row, column)
        factor = max(1.0, max(rows, columns) / self.size)
        return max(1, round(rows / factor)), max(1, round(columns / factor))

    def _margins(self, shape: tuple[int, int]) -> tuple[int, int, int, int]:
        """Left, right, top, bottom; below 0 for what is cut off."""
        rows, columns = self.size - shape[0], self.size - shape[1]
        return columns // 2, columns - columns // 2, rows // 2, rows - rows // 2


class FitPlaned(MapTransform):
    """Dictionary version of :class:`FitPlane`.

    Args:
        keys: slices to fit.
        size: see :class:`FitPlane`.
        fill: one, or one a key.
        mode: one, or one a key.
        pixel_mm: see :class:`FitPlane`.
        spacing_key: where the spacing of rows and columns lies; where it is missing, pixels are square.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        *,
        fill: float | Sequence[float] = -1024.0,
        mode: str | Sequence[str] = "bilinear",
        pixel_mm: float | None = None,
        spacing_key: str = SPACING_KEY,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        each = zip(ensure_tuple_rep(fill, len(self.keys)), ensure_tuple_rep(mode, len(self.keys)), strict=True)
        self.fits = tuple(FitPlane(size, fill=value, mode=how, pixel_mm=pixel_mm) for value, how in each)
        self.spacing_key = spacing_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Fit the slices of an item."""
        item = dict(data)
        for key, fit in self.key_iterator(item, self.fits):
            item[key] = fit(item[key], item.get(self.spacing_key))
        return item


def _is_square(spacing: Sequence[float]) -> bool:
    return abs(spacing[0] - spacing[1]) <= _SQUARE * min(spacing)


def _resized(plane: torch.Tensor, shape: tuple[int, int], mode: str) -> torch.Tensor:
    if tuple(plane.shape[-2:]) == tuple(shape):
        return plane
    if mode == "nearest":
        return interpolate(plane[None], shape, mode="nearest-exact")[0]
    # of an axis that grows, anti-aliasing leaves plain interpolation
    return interpolate(plane[None], shape, mode="bilinear", align_corners=False, antialias=True)[0]
