"""Small lumbar scans for tests: NIfTI, three vertebrae as boxes, stored sagittal so that order is put to the test."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEVELS = {"L3": 22, "L2": 21, "L1": 20}  # from the feet
PLANES, ROWS, COLUMNS = 24, 20, 16


def mask_in_axial_order(cut: int = 0) -> NDArray[np.uint8]:
    """Three bodies of six slices, two slices of disc between; the lowest loses ``cut`` slices to the scan's end."""
    mask = np.zeros((PLANES, ROWS, COLUMNS), dtype=np.uint8)
    for number, value in enumerate(LEVELS.values()):
        start = 2 + 8 * number - cut
        mask[max(0, start) : start + 6, 8:14, 4:12] = value
    return mask


def scan_in_axial_order(mask: NDArray[np.uint8], seed: int = 0) -> NDArray[np.int16]:
    """40 HU with noise, 200 in the vertebrae."""
    noise = np.random.default_rng(seed).normal(0, 10, mask.shape)
    return (40 + 160 * (mask > 0) + noise).round().astype(np.int16)


def write_nifti(path: Path, axial: NDArray[np.generic]) -> str:
    """Store as (left to right, posterior to anterior, inferior to superior): RAS, voxels of 1 x 1 x 3 mm."""
    stored = np.transpose(axial, (2, 1, 0))[::-1, ::-1]
    image = nibabel.Nifti1Image(np.ascontiguousarray(stored), np.diag([1.0, 1.0, 3.0, 1.0]))
    image.set_sform(image.affine, code=1)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return str(path)


def write_manifest(folder: Path, subjects: int = 6, **columns: list[str]) -> Path:
    """Make a manifest of scans with masks, two a class; splits train, val and test in turn."""
    rows = []
    for number in range(subjects):
        mask = mask_in_axial_order()
        rows.append(
            {
                "patient": f"Smith^{number}",
                "image": Path(write_nifti(folder / f"scan{number}.nii", scan_in_axial_order(mask, number))).name,
                "mask": Path(write_nifti(folder / f"mask{number}.nii", mask)).name,
                "label": ("normal", "low bone mass", "osteoporosis")[number % 3],
                "split": ("train", "train", "train", "val", "val", "test")[number % 6],
                "units": "HU",
            }
        )
    pd.DataFrame(rows).assign(**columns).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"
