"""An uncompressed NIfTI-1 file, written plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.volume import scaling_affine_lps

LONGEST_AXIS = 32767  # voxels of an axis: the header's numbers are int16


class NiftiWriter(StackWriter):
    """Write a volume of any size as .nii, in the orientation of the scan it belongs to.

    NIfTI stores (column, row, plane) with the first index fastest, which is the order planes come in.

    Args:
        path: the file to make, ending in .nii.
        shape: (planes, rows, columns), each at most 32767.
        dtype: uint8, int16, uint16 or float32, for instance; NIfTI has no float16.
        voxel_size_um: along (plane, row, column).
        affine_lps: of the scan, see :class:`bonemonai.data.Volume`; None puts the axes along x, y and z.
        overwrite: replace what is there.

    Raises:
        ValueError: for an axis or a type that NIfTI-1 does not have; else see :class:`StackWriter`.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        voxel_size_um: Sequence[float],
        affine_lps: NDArray[np.float64] | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, shape=shape, dtype=dtype, voxel_size_um=voxel_size_um, overwrite=overwrite)
        if max(shape) > LONGEST_AXIS:
            raise ValueError(f"shape must be at most {LONGEST_AXIS} voxels an axis for NIfTI-1, got {shape}.")
        if self.dtype == np.float16:
            raise ValueError("dtype must not be float16: NIfTI has no such type.")
        affine = scaling_affine_lps(self.voxel_size_um) if affine_lps is None else affine_lps
        self._header = nibabel.Nifti1Header()
        self._header.set_data_dtype(self.dtype)
        self._header.set_data_shape(shape[::-1])
        ras = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:, [2, 1, 0, 3]]
        self._header.set_sform(ras, code="scanner")
        self._header.set_qform(ras, code="scanner", strip_shears=True)
        self._header.set_xyzt_units("mm")
        self._header["magic"] = b"n+1"
        self._header["vox_offset"] = 352

    def _begin(self) -> None:
        with open(self._partial, "wb") as stream:
            self._header.write_to(stream)
            stream.write(b"\0" * (352 - stream.tell()))

    def _append(self, plane: NDArray[Any], index: int) -> None:
        with open(self._partial, "ab") as stream:
            stream.write(np.ascontiguousarray(plane, dtype=self._header.get_data_dtype()).tobytes())

    def _complete(self) -> None:
        """Nothing: the file's length was known from the start."""
