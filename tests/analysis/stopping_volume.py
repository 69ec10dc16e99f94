"""A scan whose reading can be stopped, for drills of runs that go on."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.array_volume import ArrayVolume


class StoppingVolume(ArrayVolume):
    """An array as a scan, whose reading is stopped, as by Ctrl-C, after so many reads; None stops none."""

    def __init__(self, values: NDArray[Any], most: int | None = None) -> None:
        super().__init__(values.astype(np.uint8), (2.0, 1.0, 1.5))
        self.reads: list[int] = []
        self._most = most

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if len(self.reads) == self._most:
            raise KeyboardInterrupt
        self.reads.append(start)
        return super()._read(start, stop)

    def marked(self, start: int, stop: int) -> NDArray[np.bool_]:
        return np.asarray(self.read(start, stop) != 0)
