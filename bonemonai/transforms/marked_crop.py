"""From a slice and the mark of a vertebra in it to the image that a classifier sees (paper 3's segmentation image)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from scipy import ndimage
from torch.nn.functional import interpolate


class Mark(NamedTuple):
    """A vertebra that was marked in a slice.

    Attributes:
        pixels: (H, W), bool: those of the mark that count.
        rows: first and one past the last.
        columns: first and one past the last.
        components: how many separate marks there were, small ones included.
        at_border: whether it touches the edge of the slice, so that some of the vertebra may be missing.
    """

    pixels: NDArray[np.bool_]
    rows: tuple[int, int]
    columns: tuple[int, int]
    components: int
    at_border: bool


def find_mark(mark: Any, *, threshold: float = 0.5, min_pixels: int = 50, component: str = "largest") -> Mark | None:
    """Find the marked vertebra of a slice.

    Args:
        mark: (H, W) or (1, H, W); a network's mark image, or a mask.
        threshold: above it a pixel is marked.
        min_pixels: marks with fewer are none.
        component: "largest" takes the largest of several marks that do not touch (an axial slice shows one vertebral
            body), "all" takes all of at least ``min_pixels`` pixels together.

    Returns:
        The mark; None where nothing is marked.

    Raises:
        ValueError: for another ``component``, or a mark that is not one slice.

    Example:
        >>> find_mark(np.zeros((8, 8))) is None
        True
    """
    if component not in ("largest", "all"):
        raise ValueError(f"component must be 'largest' or 'all', got {component!r}.")
    plane = np.asarray(convert_to_tensor(mark, track_meta=False).cpu())
    plane = plane[0] if plane.ndim == 3 and len(plane) == 1 else plane
    if plane.ndim != 2:
        raise ValueError(f"mark must be one slice, (H, W) or (1, H, W), got {plane.shape}.")
    # pixels that touch by a corner belong together
    labels, count = ndimage.label(plane > threshold, structure=np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    kept = np.flatnonzero(sizes >= max(1, min_pixels))
    if not len(kept):
        return None
    if component == "largest":
        kept = kept[[np.argmax(sizes[kept])]]
    pixels = np.isin(labels, kept + 1)
    rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
    low, high = (rows[0], columns[0]), (rows[-1] + 1, columns[-1] + 1)
    at_border = min(low) == 0 or high[0] == plane.shape[0] or high[1] == plane.shape[1]
    return Mark(pixels, (int(low[0]), int(high[0])), (int(low[1]), int(high[1])), int(count), bool(at_border))


class MarkedCrop(Transform):
    """Cut the rectangle around a marked vertebra, and scale it to the classifier's input.

    Args:
        spatial_size: edge of the square, pixels.
        masked: whether what lies beside the mark becomes ``background``; the paper's segmentation image.
        background: value that it becomes; 0 is the darkest where grey values are scaled to [0, 1].
        margin: pixels around the rectangle, cut off at the slice's edges.
        keep_aspect: pad the rectangle to a square first; by default it is stretched, as in the paper.
        threshold: see :func:`find_mark`.
        min_pixels: see :func:`find_mark`.
        component: see :func:`find_mark`.

    Shape:
        image: (1, H, W), float; mark: (1, H, W). Returns (1, spatial_size, spatial_size), float32.

    Raises:
        ValueError: if nothing is marked: there is no image to classify, and none is made up.

    Source:
        Tang et al., 2.2 and 3.1; rectangle and scaling.
    """

    def __init__(
        self,
        spatial_size: int = 224,
        *,
        masked: bool = True,
        background: float = 0.0,
        margin: int = 0,
        keep_aspect: bool = False,
        threshold: float = 0.5,
        min_pixels: int = 50,
        component: str = "largest",
    ) -> None:
        if spatial_size < 1 or margin < 0:
            raise ValueError(f"spatial_size must be >= 1 and margin >= 0 (pixels), got {spatial_size} and {margin}.")
        self.spatial_size, self.masked, self.background = spatial_size, masked, background
        self.margin, self.keep_aspect = margin, keep_aspect
        self.threshold, self.min_pixels, self.component = threshold, min_pixels, component

    def find(self, mark: Any) -> Mark | None:
        """Find the mark in a slice, None where there is none."""
        return find_mark(mark, threshold=self.threshold, min_pixels=self.min_pixels, component=self.component)

    def __call__(self, image: Any, mark: Any) -> torch.Tensor:  # type: ignore[override]
        """Cut out what is marked.

        Args:
            image: the slice.
            mark: its mark, or a :class:`Mark` that was found in it.
        """
        found = mark if isinstance(mark, Mark) else self.find(mark)
        if found is None:
            raise ValueError(f"nothing is marked in the slice (fewer than {self.min_pixels} pixels above threshold).")
        plane = convert_to_tensor(image, dtype=torch.float32, track_meta=False)
        if self.masked:
            plane = torch.where(torch.from_numpy(found.pixels), plane, plane.new_tensor(self.background))
        top, bottom = _widened(found.rows, self.margin, plane.shape[-2])
        left, right = _widened(found.columns, self.margin, plane.shape[-1])
        cut = plane[..., top:bottom, left:right]
        if self.keep_aspect:
            cut = _squared(cut, self.background)
        size = (self.spatial_size, self.spatial_size)
        scaled: torch.Tensor = interpolate(cut[None], size, mode="bilinear", align_corners=False, antialias=True)[0]
        return scaled


class MarkedCropd(MapTransform):
    """Dictionary version of :class:`MarkedCrop`.

    Args:
        keys: images to crop.
        mark_key: where the mark lies.
        crop: how.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self, keys: KeysCollection, crop: MarkedCrop, *, mark_key: str = "mask", allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.crop, self.mark_key = crop, mark_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the images of an item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.crop(item[key], item[self.mark_key])
        return item


def _widened(edges: tuple[int, int], margin: int, size: int) -> tuple[int, int]:
    return max(0, edges[0] - margin), min(size, edges[1] + margin)


def _squared(cut: torch.Tensor, background: float) -> torch.Tensor:
    height, width = cut.shape[-2:]
    rows, columns = max(0, width - height), max(0, height - width)
    margins = (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2)
    squared: torch.Tensor = torch.nn.functional.pad(cut, margins, value=background)
    return squared
