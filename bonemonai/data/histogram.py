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

_IN_CACHE = 2**15  # values at once: their float64 copies stay in a core's cache


class StreamingHistogram:
    """Counts values block by block in one pass, in bounded memory.

    The first block sets the range; a value outside doubles the range, as often as needed, by merging
    neighbouring bins. At least a quarter of the bins then span the data (a doubling may go to either side), and
    percentiles are exact to one bin: with 65,536 bins, better than 1/16,384 of the range. Use numpy.percentile
    where the data fit into memory and every digit matters. Values that fell into one bin stay together, and
    :meth:`bin_of` finds them there, however often the range was doubled since.

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
        # the first range, and where in its bins the present one begins, doubled level times; width 0: none yet
        self._origin, self._first_width, self._first_bin, self._level = 0.0, 0.0, 0, 0
        self._integers = True

    @property
    def integral(self) -> bool:
        """Whether every value seen was of an integer type and has a bin of its own."""
        return self._integers and self._width < self.counts.size / 2

    @property
    def _low(self) -> float:
        return self._origin + self._first_bin * self._first_width / self.counts.size

    @property
    def _width(self) -> float:
        return self._first_width * 2.0**self._level

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

        Raises:
            OverflowError: if values lie so far apart that their range is no number.
        """
        flat = np.asarray(values).reshape(-1)
        if flat.dtype.kind == "f":
            self._integers = False
            finite = np.isfinite(flat)
            if not finite.all():
                self.non_finite += int(flat.size - np.count_nonzero(finite))
                flat = flat[finite]
        if not flat.size:
            return
        low, high = float(flat.min()), float(flat.max())
        self.minimum, self.maximum = min(self.minimum, low), max(self.maximum, high)
        self._cover(low, high)
        if _is_narrow(flat):
            # one count a value, then one bin a value
            found = np.bincount(flat.astype(np.intp) - int(low))
            bins = self.bin_of(np.arange(int(low), int(high) + 1))
            self.counts += np.bincount(bins, weights=found, minlength=self.counts.size).astype(np.int64)
        else:
            self.counts += np.bincount(self.bin_of(flat), minlength=self.counts.size)

    def bin_of(self, values: NDArray[Any]) -> NDArray[np.int32]:
        """Number of the bin that holds each value; values outside the range get the outermost.

        Args:
            values: any shape, finite.
        """
        flat = np.asarray(values).reshape(-1)
        bins = np.empty(flat.size, dtype=np.int32)
        if _is_narrow(flat) and flat.size > 2**16:
            low = int(flat.min())
            every = self.bin_of(np.arange(low, int(flat.max()) + 1))
            every.take(flat.astype(np.intp) - low, out=bins)
            return bins.reshape(np.shape(values))
        for start in range(0, flat.size, _IN_CACHE):
            position = self._bin_of_first(flat[start : start + _IN_CACHE])
            position -= float(self._first_bin)
            position *= 2.0**-self._level
            bins[start : start + _IN_CACHE] = np.clip(position, 0, self.counts.size - 1, out=position)
        return bins.reshape(np.shape(values))

    def _bin_of_first(self, values: Any) -> NDArray[np.float64]:
        """Number of the bin in the first range, which never changes: a multiple of it would be rounded elsewhere."""
        scale = self.counts.size / self._first_width
        position = np.array(values, dtype=np.float64)
        position -= self._origin
        position *= scale
        return np.asarray(np.floor(position))

    def _cover(self, low: float, high: float) -> None:
        if self._first_width == 0.0:
            # room for one value more than the largest, so that integers of a narrow range get bins of their own
            self._origin = low
            self._first_width = (high - low) * (1 + 1e-9) or max(abs(low), 1.0) * 1e-6
        bins, half = self.counts.size, self.counts.size // 2
        with np.errstate(over="ignore", invalid="ignore"):
            lowest, highest = (float(self._bin_of_first(end)) for end in (low, high))
        if not np.isfinite([lowest, highest, self._first_width]).all():
            raise OverflowError(f"values from {self.minimum} to {self.maximum} are too far apart to be counted.")
        # in whole numbers, which no rounding ends
        while int(lowest) < self._first_bin or int(highest) >= self._first_bin + (bins << self._level):
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts[:] = 0
            if int(lowest) < self._first_bin:
                self._first_bin -= bins << self._level
                self.counts[half:] = merged
            else:
                self.counts[:half] = merged
            self._level += 1

    def save(self, path: Path, **labels: str) -> None:
        """Store in an .npz file.

        Args:
            path: the file.
            labels: text to store beside the counts, for instance of what the histogram is.
        """
        with atomic_path(path) as partial, open(partial, "wb") as stream:
            grid = [self._origin, self._first_width, self._first_bin, self._level]
            ends = np.array([self.minimum, self.maximum, self.non_finite, self._integers, *grid], dtype=np.float64)
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
                low, high, non_finite, integers, *grid, level = map(float, stored["ends"])
                histogram._origin, histogram._first_width, first_bin = grid
        except Exception:  # whatever numpy and zip make of a damaged file: it is read again
            return None
        histogram.minimum, histogram.maximum, histogram.non_finite = low, high, int(non_finite)
        histogram._integers, histogram._level, histogram._first_bin = bool(integers), int(level), int(first_bin)
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


def _is_narrow(values: NDArray[Any]) -> bool:
    """Whether there are so few possible values that each can be looked up."""
    return values.dtype.kind in "ui" and values.dtype.itemsize <= 2


def volume_histogram(
    volume: Volume, *, bins: int = 65536, memory: float = 256e6, progress: bool = False
) -> StreamingHistogram:
    """Count the grey values of a volume in one pass, a few planes at a time.

    Args:
        volume: any size.
        bins: see :class:`StreamingHistogram`.
        memory: bytes of it that may be held at once; counting takes 80 MB besides.
        progress: show a bar on standard error.

    Raises:
        InputError: if the volume holds NaN, infinite or absurdly large values, or one grey value only.
    """
    histogram = StreamingHistogram(bins)
    part = 8_000_000 // volume.dtype.itemsize
    with tqdm(total=volume.shape[0], desc=f"grey values of {volume.path.name}", disable=not progress) as bar:
        for _, block in volume.blocks(volume.planes_within(memory)):
            values = block.reshape(-1)
            for start in range(0, values.size, part):
                try:
                    histogram.update(values[start : start + part])
                except OverflowError as error:
                    raise InputError(volume.path, f"has no histogram: {error}") from error
            bar.update(len(block))
    if histogram.non_finite:
        raise InputError(volume.path, f"holds {histogram.non_finite} values that are NaN or infinite.")
    if not histogram.maximum > histogram.minimum:
        raise InputError(volume.path, f"holds a single grey value, {histogram.minimum}.")
    return histogram
