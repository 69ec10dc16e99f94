"""A scan through a 3 x 3 x 3 median."""

from __future__ import annotations

from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.errors import InputError


class MedianVolume(DerivedVolume):
    """A scan whose voxels are the medians of the 27 round them; at its faces the outermost voxels count again.

    ITK's filter: the same values as ``scipy.ndimage.median_filter(size=3, mode="nearest")``, which takes longer (ratio
    in tests/benchmarks/damage_preparation.py). A plane before and one after a block are read besides.

    Raises:
        InputError: on reading, if a value is NaN or infinite.

    Source:
        Shen et al., 2.1, "median-filtered (3x3x3 kernel window) to remove noise".
    """

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        first, last = max(0, start - 1), min(self.shape[0], stop + 1)
        planes = self.base.read(first, last)
        # ITK's median would put other values in place of NaN, and round it
        if planes.dtype.kind == "f" and not np.isfinite(planes).all():
            raise InputError(self.path, f"planes {start} to {stop - 1} hold NaN or infinite values.")
        # ITK has no float16
        known = planes.astype(np.float32) if planes.dtype == np.float16 else planes
        filtered = SimpleITK.Median(SimpleITK.GetImageFromArray(known), [1, 1, 1])
        return np.asarray(SimpleITK.GetArrayFromImage(filtered)[start - first : stop - first], dtype=self.dtype)
