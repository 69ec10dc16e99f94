"""Masks as small compressed NIfTI files."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray

from bonemonai.data.atomic import atomic_path
from bonemonai.data.nifti_writer import LONGEST_AXIS
from bonemonai.errors import InputError

_SUFFIXES = (".nii.gz", ".nii")


def write_nifti_mask(
    path: str | Path, mask: NDArray[Any], affine_lps: NDArray[np.float64], *, overwrite: bool = False
) -> None:
    """Write a label mask that is in memory, in the place of the scan it belongs to.

    The same mask gives the same bytes: the file holds neither a time nor a name. For what does not fit into memory see
    :class:`bonemonai.data.NiftiWriter`.

    Args:
        path: the file to make, ending in .nii.gz or .nii.
        mask: (plane, row, column), bool or whole numbers from 0 to 65535; written as uint8 where the largest allows
            it, as uint16 otherwise.
        affine_lps: of the scan in mm, see :class:`bonemonai.data.Volume`. A sheared one (tilted gantry) stands in the
            sform only, because a qform cannot say it; ITK and SimpleITK refuse such a file rather than read it wrong.
        overwrite: replace what is there.

    Raises:
        InputError: if the mask holds other values or is not 3-D, or the affine is none, or the suffix another one.
        OutputError: if the place is taken or cannot be written.

    Source:
        NIfTI-1, https://nifti.nimh.nih.gov/nifti-1; x runs to the right and y to the anterior there.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.nii.gz"
        >>> write_nifti_mask(path, np.ones((2, 3, 4), bool), np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]])
        >>> nibabel.load(path).shape
        (4, 3, 2)
    """
    path = Path(path)
    suffix = next((suffix for suffix in _SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise InputError(path, f"must end in {' or '.join(_SUFFIXES)}.")
    labels = _labels(mask)
    content = _header(labels, affine_lps) + labels.astype(labels.dtype.newbyteorder("<")).tobytes()
    with atomic_path(path, overwrite=overwrite) as partial, open(partial, "wb") as stream:
        if suffix == ".nii":
            stream.write(content)
        else:
            with gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0) as packed:
                packed.write(content)


def _labels(mask: NDArray[Any]) -> NDArray[Any]:
    if mask.ndim != 3 or min(mask.shape) < 1 or max(mask.shape) > LONGEST_AXIS:
        raise InputError("mask", f"must be 3-D, 1 to {LONGEST_AXIS} voxels an axis, got shape {mask.shape}.")
    if mask.dtype.kind not in "bui":
        raise InputError("mask", f"must hold whole numbers, got {mask.dtype}.")
    lowest, highest = int(mask.min()), int(mask.max())
    if lowest < 0 or highest > 65535:
        raise InputError("mask", f"must hold labels from 0 to 65535, got {lowest} to {highest}.")
    return mask.astype(np.uint8 if highest < 256 else np.uint16)


def _header(labels: NDArray[Any], affine_lps: NDArray[np.float64]) -> bytes:
    affine = np.asarray(affine_lps, dtype=np.float64)
    edges = np.linalg.norm(affine[:3, :3], axis=0) if affine.shape == (4, 4) else np.zeros(3)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * edges.prod() > 0:
        raise InputError("affine_lps", "must be 4 x 4, finite and not singular.")
    ras = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine)[:, [2, 1, 0, 3]]
    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_dtype(labels.dtype)
    header.set_data_shape(labels.shape[::-1])
    header.set_sform(ras, code="scanner")
    header.set_qform(ras, code="scanner", strip_shears=True)
    if not np.allclose(header.get_qform(), ras, rtol=0, atol=1e-3 * edges.min()):
        header["qform_code"] = 0
    header.set_xyzt_units("mm")
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + b"\0" * 4
