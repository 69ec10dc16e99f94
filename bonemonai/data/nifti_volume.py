"""NIfTI-1 and NIfTI-2 files, compressed or not."""

from __future__ import annotations

import gzip
import math
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.imageglobals import LoggingOutputSuppressor
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
        image = _loaded(path)
        columns, rows, planes = (*image.shape[:3], 1, 1, 1)[:3]
        if len(image.shape) < 3 or any(n != 1 for n in image.shape[3:]):
            raise InputError(path, f"has shape {image.shape}; one 3-D image is needed.")
        affine_ras = np.asarray(image.affine, dtype=np.float64)
        edges = np.linalg.norm(affine_ras[:3, :3], axis=0)
        if not np.isfinite(affine_ras).all() or not abs(np.linalg.det(affine_ras[:3, :3])) > 1e-6 * edges.prod():
            raise InputError(path, "has a singular or non-finite affine.")
        _check_length(image, path)
        _check_consistent(image, affine_ras, path)
        unit, _ = image.header.get_xyzt_units()
        warnings = []
        if unit not in _MM_PER_UNIT:
            warnings.append("unit of length is not stated; taken as mm, the format's custom.")
        if not image.header["qform_code"] and not image.header["sform_code"]:
            warnings.append("orientation is not stated; directions are the format's fallback, and mean nothing.")
        affine_lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_ras
        affine_lps[:3] *= _MM_PER_UNIT.get(unit, 1.0)
        self.oriented = bool(image.header["qform_code"] or image.header["sform_code"])
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
        image = _loaded(self.path)
        proxy = image.dataobj
        squeeze = (0,) * (len(proxy.shape) - 3)
        if not self.path.name.endswith(".gz"):
            return np.asarray(proxy[(slice(None), slice(None), slice(start, stop), *squeeze)]).T
        self._cached = np.ascontiguousarray(np.asarray(proxy[(..., *squeeze)] if squeeze else proxy).T)
        return self._cached[start:stop]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cached": None}


def _check_consistent(image: Any, affine: NDArray[np.float64], path: Path) -> None:
    """Refuse a header whose affines or voxel sizes contradict each other: programs differ in which counts."""
    header, edges = image.header, np.linalg.norm(affine[:3, :3], axis=0)
    if header["sform_code"] and header["qform_code"]:
        ends = np.array([[0, 0, 0, 1], [*(n - 1 for n in image.shape[:3]), 1]]).T
        apart = np.abs((np.asarray(header.get_qform()) - affine) @ ends).max()
        if not apart < 0.5 * edges.min():
            raise InputError(
                path, f"states two places (qform and sform) that lie {apart:.3g} apart; remove the wrong one."
            )
    if header["sform_code"] or header["qform_code"]:
        stated = np.abs(np.asarray(header.get_zooms()[:3], dtype=float))
        if not np.allclose(stated, edges, rtol=0.01, atol=0):
            raise InputError(path, f"states voxels of {stated.tolist()} and of {edges.round(6).tolist()}.")


def _loaded(path: Path) -> Any:
    # what nibabel logs about a header would stand beside our one line
    with LoggingOutputSuppressor():
        return nibabel.load(path)


def _check_length(image: Any, path: Path) -> None:
    """Refuse a file whose content is shorter or longer than its header says; check a compressed one's checksum."""
    offset, least = image.dataobj.offset, image.header.sizeof_hdr + 4
    if offset < least:
        raise InputError(path, f"says its data start at byte {offset}, within the header of {least}.")
    needed = offset + math.prod(image.shape) * image.get_data_dtype().itemsize
    if path.name.lower().endswith(".gz"):
        length = 0
        with gzip.open(path) as stream:
            while length <= needed and (block := stream.read(1 << 20)):
                length += len(block)
    else:
        length = path.stat().st_size
    if length != needed:
        raise InputError(
            path, f"holds {'more' if length > needed else 'fewer'} bytes than the {needed} its header says."
        )


def _scaled_dtype(image: Any) -> np.dtype[Any]:
    """Type of the values after scl_slope and scl_inter."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    stored: np.dtype[Any] = image.get_data_dtype()
    if (slope, inter) == (1.0, 0.0):
        return stored.newbyteorder("=")
    return np.dtype(np.float64)
