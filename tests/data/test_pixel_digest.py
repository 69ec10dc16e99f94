from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
import tifffile

from bonemonai.data import pixel_digest, refuse_shared_pixels
from bonemonai.errors import InputError
from tests.dicom_files import write_series


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 200, (6, 5, 4)).astype(np.int16)


def write(folder: Path, name: str, seed: int = 0) -> str:
    tifffile.imwrite(folder / name, values(seed), photometric="minisblack", resolution=(1, 1))
    return str(folder / name)


def test_same_pixels_in_other_formats_have_one_digest(tmp_path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(values().astype(np.float32).T, np.diag([2, 3, 4, 1])), tmp_path / "a.nii.gz")
    digests = {
        pixel_digest(write(tmp_path, "a.tif")),
        pixel_digest(tmp_path / "a.nii.gz"),
        pixel_digest(write_series(tmp_path / "dicom", values())),
    }
    assert len(digests) == 1
    assert pixel_digest(write(tmp_path, "b.tif", 1)) not in digests


def test_one_voxel_of_a_plane_that_is_looked_at(tmp_path: Path) -> None:
    path = write(tmp_path, "a.tif")
    before = pixel_digest(path)
    changed = values()
    changed[0, 0, 0] += 1
    tifffile.imwrite(path, changed, photometric="minisblack")
    assert pixel_digest(path) != before


@pytest.mark.parametrize(
    ("patients", "splits", "cause"),
    [
        (("P1", "P2"), ("train", "test"), "in another split"),
        (("P1", "P2"), ("train", "train"), "under another patient"),
        (("P1", "P1"), ("train", "train"), None),
        (("P1", "P2"), None, "under another patient"),
    ],
)
def test_copies(patients: tuple[str, str], splits: tuple[str, str] | None, cause: str | None, tmp_path: Path) -> None:
    table = pd.DataFrame({"patient": patients, "image": [write(tmp_path, "a.tif"), write(tmp_path, "b.tif")]})
    table = table if splits is None else table.assign(split=splits)
    if cause is None:
        refuse_shared_pixels(table)
        return
    with pytest.raises(InputError, match=rf"study\.csv: b\.tif holds the pixels of a\.tif, which stands {cause}"):
        refuse_shared_pixels(table, "study.csv")


def test_different_masks_that_are_empty_where_it_is_looked(tmp_path: Path) -> None:
    digests = set()
    for row in range(2):
        mask = np.zeros((20, 4, 5), np.uint8)
        mask[3, row] = 1
        tifffile.imwrite(tmp_path / f"{row}.tif", mask, photometric="minisblack")
        digests.add(pixel_digest(tmp_path / f"{row}.tif"))
    assert len(digests) == 2


def test_values_that_are_no_numbers_do_not_hide_the_others(tmp_path: Path) -> None:
    digests = set()
    for seed in range(2):
        noisy = np.random.default_rng(seed).normal(size=(6, 4, 5)).astype(np.float32)
        noisy[:, 0, 0] = np.nan
        tifffile.imwrite(tmp_path / f"{seed}.tif", noisy, photometric="minisblack")
        digests.add(pixel_digest(tmp_path / f"{seed}.tif"))
    assert len(digests) == 2
