"""A scan whose grey values are matched to another one's histogram."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.histogram import StreamingHistogram, volume_histogram
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_BINS = 2**22  # a quarter of them spans the data: grey values are told apart to a millionth of their range
_PART = 4_000_000  # values at once


class MatchedVolume(DerivedVolume):
    """A scan with the grey-value distribution of a reference: what skimage.exposure.match_histograms gives, streamed.

    A table of the source's grey values is made from both histograms; planes go through it as they are read. Integer
    values get exactly what scikit-image gives; real numbers are first rounded to 2**20 levels of their range or more.

    Args:
        base: the scan.
        source: its histogram, see :func:`fine_histogram`.
        reference: that of the scan to match.

    Shape:
        read() returns float32, within the reference's range.

    Raises:
        InputError: if a value is outside the histogram: it was counted over other data.

    Source:
        Shen et al., 2.1, "histogram matched to normalize brightness"; Gonzalez & Woods, Digital Image Processing, 3.3.
    """

    def __init__(self, base: Volume, source: StreamingHistogram, reference: StreamingHistogram) -> None:
        super().__init__(base, dtype=np.float32)
        self._source, self._table = source, _table(source, reference)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        values = self.base.read(start, stop)
        if not (self._source.minimum <= float(values.min()) and float(values.max()) <= self._source.maximum):
            raise InputError(self.path, "holds grey values that were not there when its histogram was counted.")
        matched = np.empty(values.shape, dtype=np.float32)
        flat, out = values.reshape(-1), matched.reshape(-1)
        for first in range(0, flat.size, _PART):
            part = slice(first, first + _PART)
            self._table.take(self._source.bin_of(flat[part]), out=out[part], mode="clip")
        return matched


def fine_histogram(volume: Volume, *, memory: float = 256e6, progress: bool = False) -> StreamingHistogram:
    """Count grey values finely enough to match them; see :func:`bonemonai.data.volume_histogram`.

    Args:
        volume: any size; integers that span half a million values at most are each counted by themselves.
        memory: bytes of it that may be held at once.
        progress: show a bar on standard error.
    """
    return volume_histogram(volume, bins=_BINS, memory=memory, progress=progress)


def _table(source: StreamingHistogram, reference: StreamingHistogram) -> NDArray[np.float32]:
    """The value that each of the source's bins becomes."""
    present = np.flatnonzero(reference.counts)
    values = reference.centers[present]
    if reference.integral:
        values = np.rint(values)
    shares = np.cumsum(reference.counts[present]) / reference.total
    matched = np.interp(np.cumsum(source.counts) / source.total, shares, values)
    return np.clip(matched, reference.minimum, reference.maximum).astype(np.float32)
