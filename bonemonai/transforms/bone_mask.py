"""Bone against marrow and air: a threshold by grey range, smoothed by morphology (paper 1, II.B)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_dst_type, convert_to_numpy
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, footprint_rectangle
from sklearn.cluster import KMeans

from bonemonai.data.histogram import StreamingHistogram
from bonemonai.transforms.saturate_intensity import HISTOGRAM_KEY

Method = Literal["auto", "otsu", "kmeans"]


def bone_threshold(histogram: StreamingHistogram, method: Method = "auto") -> float:
    """Grey value that parts bone from what is darker.

    Args:
        histogram: of the raw volume. Scaling it first would hide the grey range that chooses the method.
        method: "otsu"; "kmeans", the midpoint of two cluster centres; "auto" takes Otsu for volumes with
            positive values and K-means for those within [-1, 0].

    Raises:
        ValueError: if the histogram holds a single grey value.

    Source:
        Poles et al., II.B: "Otsu for the [0, 1] range, K-means pixel clustering for the second image set".
    """
    if not histogram.maximum > histogram.minimum:
        raise ValueError(f"the image is constant ({histogram.minimum}): there is no bone to find.")
    filled = histogram.counts > 0
    counts, centers = histogram.counts[filled].astype(float), histogram.centers[filled]
    if method == "auto":
        method = "kmeans" if histogram.minimum < 0 and histogram.maximum <= 0 else "otsu"
    if method == "otsu":
        return float(threshold_otsu(hist=(counts, centers)))
    # from the ends of the range, the outermost percent apart: one start, the same result each time
    start = np.array([[histogram.percentile(1)], [histogram.percentile(99)]])
    kmeans = KMeans(n_clusters=2, init=start, n_init=1).fit(centers[:, None], sample_weight=counts)
    return float(kmeans.cluster_centers_.mean())


class BoneMask(Transform):
    """Mark bone in 2-D planes: threshold, binary opening with a square, closing with a disk.

    The closing fills what the disk does not fit into, lacunae among it, so that they belong to the mask;
    wider vessels and marrow stay out. Element sizes are not printed in the paper; at 1.6 um the defaults fill
    lacunae, and vessels up to about 20 um wide.

    Args:
        method: see :func:`bone_threshold`.
        opening: edge of the square in pixels; 0 or 1 leaves this step out.
        closing: radius of the disk in pixels; 0 leaves this step out.

    Shape:
        image: (C, H, W), raw grey values. Returns (C, H, W) uint8, 1 in bone.

    Source:
        Poles et al., II.B.
    """

    def __init__(self, method: Method = "auto", *, opening: int = 3, closing: int = 6) -> None:
        if opening < 0 or closing < 0:
            raise ValueError(f"opening and closing must be >= 0 (pixels), got {opening} and {closing}.")
        self.method: Method = method
        self.opening, self.closing = opening, closing

    def __call__(self, image: Any, histogram: StreamingHistogram | None = None) -> Any:
        """Mark bone.

        Args:
            image: array or tensor, channel first.
            histogram: of the raw volume the image is a part of; None takes the image's own.
        """
        planes: NDArray[Any] = convert_to_numpy(image)
        if planes.ndim != 3:
            raise ValueError(f"image must be channel first with two spatial axes, got shape {planes.shape}.")
        if histogram is None:
            histogram = StreamingHistogram()
            histogram.update(planes)
        threshold = bone_threshold(histogram, self.method)
        mask = np.stack([self._smooth(plane > threshold) for plane in planes])
        return convert_to_dst_type(mask, image, dtype=torch.uint8)[0]

    def _smooth(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        # repeated beyond the border, so that bone that leaves the image is not eaten from there
        pad = max(self.opening, self.closing)
        mask = np.pad(mask, pad, mode="edge")
        if self.opening > 1:
            mask = ndimage.binary_opening(mask, footprint_rectangle((self.opening, self.opening)))
        if self.closing:
            mask = ~_opening_with_disk(~mask, self.closing)
        return mask[pad : mask.shape[0] - pad, pad : mask.shape[1] - pad]


def _opening_with_disk(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """Binary opening, seeing nothing but foreground beyond the border."""
    element = disk(radius)
    opened = ndimage.binary_erosion(mask, element, border_value=1)
    return np.asarray(ndimage.binary_dilation(opened, element))


class BoneMaskd(MapTransform):
    """Dictionary version of :class:`BoneMask`; run it before the image is scaled.

    Args:
        keys: the raw image.
        mask_key: where the mask goes.
        method: see :class:`BoneMask`.
        opening: see :class:`BoneMask`.
        closing: see :class:`BoneMask`.
        histogram_key: where the volume's histogram lies; where it is missing the image's own is taken.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        mask_key: str = "mask",
        method: Method = "auto",
        *,
        opening: int = 3,
        closing: int = 6,
        histogram_key: str = HISTOGRAM_KEY,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.find = BoneMask(method, opening=opening, closing=closing)
        self.mask_key, self.histogram_key = mask_key, histogram_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the mask to an item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[self.mask_key] = self.find(item[key], item.get(self.histogram_key))
        return item
