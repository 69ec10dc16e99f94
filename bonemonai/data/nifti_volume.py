"""NIfTI-1 and NIfTI-2 files, compressed or not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_MM_PER_UNIT = {"meter": 1000.0, "mm": 1.0, "micron": 0.001}


class NiftiVolume(Volume):
    """A NIfTI image, its planes along the file's third axis.

    NIfTI stores (column, row, plane); reading turns the axes round, never the content, and the affine with them.
    A .nii is read plane by plane. A .nii.gz cannot be entered in the middle, so its first read holds the whole
    image in memory; unpack larger ones first.

    Args:
        path: a .nii or .nii.gz file.

    Raises:
        InputError: if the image is not 3-D, or its affine is singular or not finite.
    """

    format = "NIfTI"

    def __init__(self, path: Path) -> None:
        image: Any = nibabel.load(path)
        columns, rows, planes = (*image.shape[:3], 1, 1, 1)[:3]
        if len(image.shape) < 3 or any(n != 1 for n in image.shape[3:]):
            raise InputError(path, f"has shape {image.shape}; one 3-D image is needed.")
        affine_ras = np.asarray(image.affine, dtype=np.float64)
        if not np.isfinite(affine_ras).all() or abs(np.linalg.det(affine_ras[:3, :3])) < 1e-15:
            raise InputError(path, "has a singular or non-finite affine.")
        unit, _ = image.header.get_xyzt_units()
        warnings = []
        if unit not in _MM_PER_UNIT:
            warnings.append("unit of length is not stated; taken as mm, the format's custom.")
        affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
        affine_lps[:3] *= _MM_PER_UNIT.get(unit, 1.0)
        self._cached: NDArray[Any] | None = None
        super().__init__(
            path,
            shape=(planes, rows, columns),
            dtype=_scaled_dtype(image),
            affine_lps=affine_lps[:, [2, 1, 0, 3]],
            warnings=warnings,
        )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if self._cached is not None:
            return self._cached[start:stop]
        image: Any = nibabel.load(self.path)
        proxy = image.dataobj
        squeeze = (0,) * (len(proxy.shape) - 3)
        if not self.path.name.endswith(".gz"):
            return np.asarray(proxy[(slice(None), slice(None), slice(start, stop), *squeeze)]).T
        self._cached = np.ascontiguousarray(np.asarray(proxy[(..., *squeeze)] if squeeze else proxy).T)
        return self._cached[start:stop]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}


def _scaled_dtype(image: Any) -> np.dtype[Any]:
    """Type of the values after scl_slope and scl_inter."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    stored: np.dtype[Any] = image.get_data_dtype()
    if (slope, inter) == (1.0, 0.0):
        return stored.newbyteorder("=")
    return np.dtype(np.float64)
