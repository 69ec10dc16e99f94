"""A folder of single-plane TIFF files, the form beamlines and ImageJ exchange."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.atomic import atomic_path


class TiffStackWriter:
    """Write planes as ``<name>_0000.tif``, ..., with ImageJ's tags for the voxel size.

    The folder takes its name when all planes are there; before that it is ``.<name>.partial``.

    Args:
        path: the folder to make.
        shape: (planes, rows, columns).
        dtype: uint8, uint16 or float32, the types ImageJ reads.
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
        self.path, self.shape, self.dtype = Path(path), shape, np.dtype(dtype)
        self.voxel_size_um = tuple(voxel_size_um)
        if self.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"dtype must be uint8, uint16 or float32 for ImageJ, got {self.dtype}.")
        self._atomic = atomic_path(self.path, overwrite=overwrite)

    def __enter__(self) -> Self:
        self._partial = self._atomic.__enter__()
        self._partial.mkdir()
        self._written = 0
        return self

    def write(self, block: NDArray[Any]) -> None:
        """Append planes.

        Args:
            block: (planes, rows, columns) or one plane (rows, columns).
        """
        block = block.reshape(-1, *block.shape[-2:])
        if block.shape[1:] != self.shape[1:] or block.dtype != self.dtype:
            raise ValueError(f"planes must be {self.shape[1:]} {self.dtype}, got {block.shape[1:]} {block.dtype}.")
        if self._written + len(block) > self.shape[0]:
            raise ValueError(f"{self.path.name} takes {self.shape[0]} planes; more came.")
        spacing, row, column = self.voxel_size_um
        digits = max(4, len(str(self.shape[0] - 1)))
        for plane in block:
            tifffile.imwrite(
                self._partial / f"{self.path.name}_{self._written:0{digits}d}.tif",
                plane,
                imagej=True,
                resolution=(1.0 / column, 1.0 / row),
                metadata={"unit": "um", "spacing": spacing},
            )
            self._written += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None:
                self._finish()
        except BaseException as failure:
            # atomic_path must see the failure, or it would publish what is there
            self._atomic.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._atomic.__exit__(kind, error, trace)

    def _finish(self) -> None:
        if self._written != self.shape[0]:
            raise ValueError(f"{self.path.name} takes {self.shape[0]} planes; {self._written} came.")
