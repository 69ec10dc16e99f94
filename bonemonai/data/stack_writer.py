"""Writing a volume plane by plane: what every format's writer has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.atomic import atomic_path


class StackWriter(ABC):
    """A context that takes planes in order and publishes the volume when all of them are there.

    Until then, and after a failure, nothing stands under the final name: the folder is ``.<name>.partial``.

    Args:
        path: the folder to make.
        shape: (planes, rows, columns).
        dtype: of the values.
        voxel_size_um: along (plane, row, column).
        overwrite: replace what is there.

    Raises:
        OutputError: if the place is taken or cannot be written.
        ValueError: if planes are missing on leaving, too many come, or their shape or type is another one.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        voxel_size_um: Sequence[float],
        overwrite: bool = False,
    ) -> None:
        self.path, self.shape = Path(path), shape
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        plane, row, column = (float(edge) for edge in voxel_size_um)
        self.voxel_size_um = (plane, row, column)
        self._atomic = atomic_path(self.path, overwrite=overwrite)
        self._came = 0

    def __enter__(self) -> Self:
        self._partial = self._atomic.__enter__()
        self._came = 0
        try:
            self._begin()
        except BaseException as failure:
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        return self

    def write(self, block: NDArray[Any]) -> None:
        """Append planes.

        Args:
            block: (planes, rows, columns) or one plane (rows, columns).
        """
        block = block.reshape(-1, *block.shape[-2:])
        if block.shape[1:] != self.shape[1:] or block.dtype != self.dtype:
            raise ValueError(f"planes must be {self.shape[1:]} {self.dtype}, got {block.shape[1:]} {block.dtype}.")
        if self._came + len(block) > self.shape[0]:
            raise ValueError(f"{self.path.name} takes {self.shape[0]} planes; more came.")
        for plane in block:
            self._append(plane, self._came)
            self._came += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                if self._came != self.shape[0]:
                    raise ValueError(f"{self.path.name} takes {self.shape[0]} planes; {self._came} came.")
                self._complete()
        except BaseException as failure:
            # atomic_path must see the failure, or it would publish what is there
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._atomic.__exit__(kind, error, trace)

    @abstractmethod
    def _begin(self) -> None:
        """Make what planes are written to, at ``self._partial``."""

    @abstractmethod
    def _append(self, plane: NDArray[Any], index: int) -> None:
        """Write one plane; it is of the right shape and type."""

    @abstractmethod
    def _complete(self) -> None:
        """Write what comes after the last plane."""
