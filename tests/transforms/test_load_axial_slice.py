from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import lumbar_slices, read_lumbar_manifest
from bonemonai.errors import InputError
from bonemonai.transforms import LoadAxialSliced
from tests import lumbar_files


def test_scan_and_mask_of_one_slice(tmp_path: Path) -> None:
    manifest = read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))
    (row,) = lumbar_slices(manifest, "test", levels={"L2": 21}, per_level=1)
    item = LoadAxialSliced(["image", "mask"])(row)
    mask = lumbar_files.mask_in_axial_order()
    np.testing.assert_array_equal(item["mask"][0].numpy(), mask[13])
    np.testing.assert_array_equal(item["image"][0].numpy(), lumbar_files.scan_in_axial_order(mask, 5)[13])
    assert item["image"].shape == (1, lumbar_files.ROWS, lumbar_files.COLUMNS)
    assert item["spacing"] == (1.0, 1.0)
    assert item["subject"] == "subject_05"


def test_more_scans_than_are_held_open(tmp_path: Path) -> None:
    manifest = read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))
    load = LoadAxialSliced(["image", "mask"])
    rows = lumbar_slices(manifest, levels={"L2": 21}, per_level=1)
    sums = [float(load(row)["image"].sum()) for row in rows + rows]
    assert sums[:6] == sums[6:]
    assert len(set(sums)) == 6


def test_refusals(tmp_path: Path) -> None:
    manifest = read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))
    (row,) = lumbar_slices(manifest, "test", levels={"L2": 21}, per_level=1)
    load = LoadAxialSliced(["image", "mask"])
    with pytest.raises(InputError, match="no axial slice 24; there are 24"):
        load({**row, "plane": 24})
    with pytest.raises(InputError, match="raw values"):
        load({**row, "units": ""})
    lumbar_files.write_nifti(tmp_path / "other.nii", lumbar_files.mask_in_axial_order()[:-1])
    with pytest.raises(InputError, match="has shape"):
        load({**row, "mask": str(tmp_path / "other.nii")})
