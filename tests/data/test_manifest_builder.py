from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr

from bonemonai.data import build_manifest
from bonemonai.errors import InputError
from tests.dicom_files import SERIES, write_series

VOLUME = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)


def rows(*arguments: Any, **options: Any) -> list[tuple[str, ...]]:
    return [tuple(row) for row in build_manifest(*arguments, **options).itertuples(index=False)]


def test_scans_of_every_kind_are_found(tmp_path: Path) -> None:
    def other(dataset: Any, plane: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    for plane in range(3):
        (tmp_path / "P1" / "stack").mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / "P1" / "stack" / f"slice_{plane}.tif", VOLUME[plane], photometric="minisblack")
    (tmp_path / "P1" / "stack" / "notes.txt").touch()
    tifffile.imwrite(tmp_path / "P2.tif", VOLUME, photometric="minisblack")
    zarr.save_array(tmp_path / "P3" / "scan.zarr", VOLUME)
    write_series(tmp_path / "P4" / "ct", VOLUME)
    write_series(tmp_path / "P5" / "ct" / "a", VOLUME)
    write_series(tmp_path / "P5" / "ct" / "b", VOLUME, edit=other)
    (tmp_path / "P6.nii.gz").touch()
    (tmp_path / ".hidden.nii").touch()
    assert sorted(rows(tmp_path)) == [
        ("P1", "P1/stack"),
        ("P2", "P2.tif"),
        ("P3", "P3/scan.zarr"),
        ("P4", "P4/ct"),
        ("P5", "P5/ct/a"),
        ("P5", "P5/ct/b"),
        ("P6", "P6.nii.gz"),
    ]
    for file in (tmp_path / "P5" / "ct" / "b").iterdir():
        file.rename(tmp_path / "P5" / "ct" / "a" / f"other_{file.name}")
    found = sorted(rows(tmp_path / "P5", patient=2))
    assert found == [("a", f"ct/a::{uid}") for uid in sorted(("1.2.3", SERIES))]


def test_patterns_tie_columns_together(tmp_path: Path) -> None:
    for patient, visit in (("P2", "1"), ("P1", "1"), ("P1", "2")):
        (tmp_path / patient / visit).mkdir(parents=True)
        (tmp_path / patient / visit / "ct.nii").touch()
        (tmp_path / patient / visit / "mask.nii").touch()
    patterns = {"image": "*/*/ct.nii", "label": "*/*/mask.nii"}
    assert rows(tmp_path, patterns) == [
        ("P1", "P1/1/ct.nii", "P1/1/mask.nii"),
        ("P1", "P1/2/ct.nii", "P1/2/mask.nii"),
        ("P2", "P2/1/ct.nii", "P2/1/mask.nii"),
    ]
    (tmp_path / "P1" / "2" / "mask.nii").unlink()
    with pytest.raises(InputError, match=r"P1/2/ct\.nii: has no label"):
        build_manifest(tmp_path, patterns)


@pytest.mark.parametrize(
    ("patterns", "patient", "cause"),
    [
        ({"label": "*"}, 1, "must name an image"),
        ({"image": "*", "label": "*/*"}, 1, "equal numbers of stars"),
        ({"image": "*.nii"}, 2, "from 1 to the number of stars"),
        ({"image": "../*"}, 1, "is no pattern"),
        ({"image": "/*"}, 1, "is no pattern"),
        ({"image": "*.none"}, 1, "holds no scan that can be read under these patterns"),
        (None, 1, "holds no scan that can be read"),
    ],
)
def test_refusals(patterns: Any, patient: int, cause: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=cause):
        build_manifest(tmp_path, patterns, patient=patient)


def test_patient_beyond_the_path(tmp_path: Path) -> None:
    (tmp_path / "a.nii").touch()
    with pytest.raises(InputError, match="has no part 2"):
        build_manifest(tmp_path, patient=2)
