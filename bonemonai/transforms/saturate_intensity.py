"""Contrast enhancement: min-max scaling with the darkest and brightest percent saturated (paper 1, II.B)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.data.meta_obj import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor

from bonemonai.data.histogram import StreamingHistogram

HISTOGRAM_KEY = "histogram"


class SaturateIntensity(Transform):
    """Scale to [0, 1] between two percentiles; values beyond them become 0 and 1.

    Min-max scaling first, as the paper has it, would not change the result: percentiles move with the scale.
    The percentiles come from a histogram of the whole volume where one is given, so that a plane read alone is
    scaled like its neighbours, and else from the image itself.

    Args:
        lower: percent of values saturated at the dark end.
        upper: percentile above which values become 1.

    Shape:
        image: any, integer or float. Returns the same shape, float32, within [0, 1].

    Raises:
        ValueError: if lower is not below upper, or the image is constant.

    Source:
        Poles et al., II.B, "saturating the bottom and top 1%".

    Example:
        >>> SaturateIntensity(0, 100)(torch.tensor([[0.0, 5.0, 10.0]])).tolist()
        [[0.0, 0.5, 1.0]]
    """

    def __init__(self, lower: float = 1.0, upper: float = 99.0) -> None:
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"lower and upper must be 0 <= lower < upper <= 100 (percent), got {lower}, {upper}.")
        self.lower, self.upper = lower, upper

    def __call__(self, image: Any, histogram: StreamingHistogram | None = None) -> torch.Tensor:
        """Scale an image.

        Args:
            image: array or tensor.
            histogram: of the volume the image is a part of; None takes the image's own.
        """
        tensor = convert_to_tensor(image, track_meta=get_track_meta())
        if histogram is None:
            histogram = StreamingHistogram()
            histogram.update(torch.as_tensor(tensor).numpy())
        low, high = histogram.percentile(self.lower), histogram.percentile(self.upper)
        if not high > low:
            raise ValueError(f"the image is constant: its percentiles {self.lower} and {self.upper} are both {low}.")
        scaled: torch.Tensor = ((tensor.to(torch.float64) - low) / (high - low)).clamp(0.0, 1.0).to(torch.float32)
        return scaled


class SaturateIntensityd(MapTransform):
    """Dictionary version of :class:`SaturateIntensity`.

    Args:
        keys: images to scale.
        lower: see :class:`SaturateIntensity`.
        upper: see :class:`SaturateIntensity`.
        histogram_key: where the volume's histogram lies; where it is missing the image's own is taken.
        allow_missing_keys: skip keys that are not there.
    """

    def __init__(
        self,
        keys: KeysCollection,
        lower: float = 1.0,
        upper: float = 99.0,
        *,
        histogram_key: str = HISTOGRAM_KEY,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = SaturateIntensity(lower, upper)
        self.histogram_key = histogram_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Scale the images of an item."""
        item = dict(data)
        for key in self.key_iterator(item):
            item[key] = self.scale(item[key], item.get(self.histogram_key))
        return item
