"""Whether a mask lies on the voxels of its scan."""

from __future__ import annotations

import numpy as np

from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


def refuse_other_grid(mask: Volume, scan: Volume, *, tolerance: float = 0.1) -> None:
    """Refuse a mask that does not lie on its scan's voxels.

    Args:
        mask: or any other volume that a voxel of the scan is looked up in.
        scan: it must fit.
        tolerance: voxels that their corners may be apart.

    Raises:
        InputError: naming the mask.
    """
    if mask.shape != scan.shape:
        raise InputError(mask.path, f"has shape {mask.shape}, its scan {scan.shape}.")
    if mask.affine_lps is None or scan.affine_lps is None:
        return
    corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * [
        *(n - 1 for n in scan.shape), 1.0,
    ]  # fmt: skip
    off = np.linalg.norm((corners @ (mask.affine_lps - scan.affine_lps).T)[:, :3], axis=1).max()
    voxel = float(np.linalg.norm(scan.affine_lps[:3, :3], axis=0).min())
    if off > tolerance * voxel:
        raise InputError(mask.path, f"does not lie on its scan: corners are {off:.3g} mm apart.")
