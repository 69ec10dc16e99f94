"""A folder of single-plane TIFF files, the form beamlines and ImageJ exchange."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.stack_writer import StackWriter


class TiffStackWriter(StackWriter):
    """Write planes as ``<name>_0000.tif``, ..., with ImageJ's tags for the voxel size.

    Args:
        path: the folder to make.
        shape: (planes, rows, columns).
        dtype: uint8, uint16 or float32, the types ImageJ reads.
        voxel_size_um: along (plane, row, column).
        overwrite: replace what is there.

    Raises:
        ValueError: for another type; else see :class:`StackWriter`.
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
        super().__init__(path, shape=shape, dtype=dtype, voxel_size_um=voxel_size_um, overwrite=overwrite)
        if self.dtype not in (np.uint8, np.uint16, np.float32):
            raise ValueError(f"dtype must be uint8, uint16 or float32 for ImageJ, got {self.dtype}.")
        self._digits = max(4, len(str(shape[0] - 1)))

    def _begin(self) -> None:
        self._partial.mkdir()

    def _append(self, plane: NDArray[Any], index: int) -> None:
        spacing, row, column = self.voxel_size_um
        tifffile.imwrite(
            self._partial / f"{self.path.name}_{index:0{self._digits}d}.tif",
            plane,
            imagej=True,
            resolution=(1.0 / column, 1.0 / row),
            metadata={"unit": "um", "spacing": spacing},
        )

    def _complete(self) -> None:
        """Nothing: each file is complete by itself."""
