"""A histogram of a stream of values whose range is not known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from bonemonai.data.atomic import atomic_path
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class StreamingHistogram:
    """Counts values block by block in one pass, in bounded memory.

    The first block sets the range; a value outside doubles the range, as often as needed, by merging
    neighbouring bins. At least a quarter of the bins then span the data (a doubling may go to either side), and
    percentiles are exact to one bin: with 65,536 bins, better than 1/16,384 of the range. Use numpy.percentile
    where the data fit into memory and every digit matters.

    Args:
        bins: number of bins, an even number.

    Attributes:
        minimum: least finite value seen, exact; inf before the first.
        maximum: largest finite value seen, exact; -inf before the first.
        non_finite: how many NaN and infinite values were left out.

    Example:
        >>> histogram = StreamingHistogram()
        >>> histogram.update(np.arange(1001))
        >>> round(float(histogram.percentile(50)), 1)
        500.0
    """

    def __init__(self, bins: int = 65536) -> None:
        if bins < 2 or bins % 2:
            raise ValueError(f"bins must be an even number >= 2, got {bins}.")
        self.counts: NDArray[np.int64] = np.zeros(bins, dtype=np.int64)
        self.minimum, self.maximum = np.inf, -np.inf
        self.non_finite = 0
        self._low, self._width = 0.0, 0.0  # of the range; width 0: none yet

    @property
    def total(self) -> int:
        """Number of finite values seen."""
        return int(self.counts.sum())

    @property
    def centers(self) -> NDArray[np.float64]:
        """Grey value in the middle of each bin."""
        step = self._width / self.counts.size
        return np.asarray(self._low + step * (np.arange(self.counts.size) + 0.5), dtype=np.float64)

    def update(self, values: NDArray[Any]) -> None:
        """Count a block.

        Args:
            values: any shape, integer or float; values that are not finite are left out and counted.
        """
        flat = np.asarray(values).reshape(-1)
        if flat.dtype.kind == "f":
            finite = np.isfinite(flat)
            if not finite.all():
                self.non_finite += int(flat.size - np.count_nonzero(finite))
                flat = flat[finite]
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._cover(low, high)
        scale = self.counts.size / self._width
        position = (flat.astype(np.float64) - self._low) * scale
        index = np.clip(position, 0, self.counts.size - 1).astype(np.int32)
        self.counts += np.bincount(index, minlength=self.counts.size)

    def _cover(self, low: float, high: float) -> None:
        if self._width == 0.0:
            # room for one value more than the largest, so that integers of a narrow range get bins of their own
            self._low = low
            self._width = (high - low) * (1 + 1e-9) or max(abs(low), 1.0) * 1e-6
        while low < self._low or high >= self._low + self._width:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            half = self.counts.size // 2
            if low < self._low:
                self._low -= self._width
                self.counts[half:] = merged
            else:
                self.counts[:half] = merged
            self._width *= 2.0

    def save(self, path: Path, **labels: str) -> None:
        """Store in an .npz file.

        Args:
            path: the file.
            labels: text to store beside the counts, for instance of what the histogram is.
        """
        with atomic_path(path) as partial, open(partial, "wb") as stream:
            ends = np.array([self.minimum, self.maximum, self._low, self._width, self.non_finite])
            arrays: dict[str, Any] = {"counts": self.counts, "ends": ends, **labels}
            np.savez_compressed(stream, **arrays)

    @classmethod
    def load(cls, path: Path, **labels: str) -> Self | None:
        """Read what :meth:`save` stored, or None if the file is not there, is damaged, or has other labels."""
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
                if any(str(stored[key]) != value for key, value in labels.items()):
                    return None
                histogram = cls(len(stored["counts"]))
                histogram.counts[:] = stored["counts"]
                low, high, histogram._low, histogram._width, non_finite = (float(end) for end in stored["ends"])
        except Exception:  # whatever numpy and zip make of a damaged file: it is read again
            return None
        histogram.minimum, histogram.maximum, histogram.non_finite = low, high, int(non_finite)
        return histogram

    def percentile(self, percent: float) -> float:
        """Grey value below which a share of the values lies, interpolated within its bin.

        Args:
            percent: 0 to 100.

        Raises:
            ValueError: if nothing finite was counted, or percent is out of range.
        """
        if not 0 <= percent <= 100:
            raise ValueError(f"percent must be within [0, 100], got {percent}.")
        total = self.total
        if not total:
            raise ValueError("the histogram is empty: no finite value was counted.")
        wanted = percent / 100.0 * total
        cumulative = np.cumsum(self.counts)
        index = int(np.searchsorted(cumulative, wanted, side="left"))
        before = cumulative[index] - self.counts[index]
        share = (wanted - before) / max(int(self.counts[index]), 1)
        step = self._width / self.counts.size
        return float(np.clip(self._low + step * (index + share), self.minimum, self.maximum))


def volume_histogram(volume: Volume, *, memory: float = 256e6, progress: bool = False) -> StreamingHistogram:
    """Count the grey values of a volume in one pass, a few planes at a time.

    Args:
        volume: any size.
        memory: bytes of it that may be held at once; counting takes 80 MB besides.
        progress: show a bar on standard error.

    Raises:
        InputError: if the volume holds NaN or infinite values, or one grey value only.
    """
    histogram = StreamingHistogram()
    part = 8_000_000 // volume.dtype.itemsize
    with tqdm(total=volume.shape[0], desc=f"grey values of {volume.path.name}", disable=not progress) as bar:
        for _, block in volume.blocks(volume.planes_within(memory)):
            values = block.reshape(-1)
            for start in range(0, values.size, part):
                histogram.update(values[start : start + part])
            bar.update(len(block))
    if histogram.non_finite:
        raise InputError(volume.path, f"holds {histogram.non_finite} values that are NaN or infinite.")
    if not histogram.maximum > histogram.minimum:
        raise InputError(volume.path, f"holds a single grey value, {histogram.minimum}.")
    return histogram
