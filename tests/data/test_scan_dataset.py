from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bonemonai.data import ScanDataset, UpsampledVolume
from bonemonai.errors import InputError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name in "abc":
        tifffile.imwrite(
            tmp_path / f"{name}.tif", np.arange(60, dtype=np.uint8).reshape(3, 4, 5), photometric="minisblack"
        )
    path = tmp_path / "manifest.csv"
    path.write_text("patient,image,split,voxel_size_um\nS,a.tif,train,2\nT,b.tif,test,\nU,c.tif,test,4\n")
    return path


def test_one_scan(tmp_path: Path, manifest: Path) -> None:
    dataset = ScanDataset(tmp_path / "a.tif", voxel_size_um=3)
    assert (len(dataset), dataset.is_batch, dataset[0].name) == (1, False, "")
    assert dataset[0].open().volume.voxel_size_um == (3, 3, 3)


def test_scans_are_named_by_their_row_and_not_by_their_patient(manifest: Path) -> None:
    dataset = ScanDataset(manifest, voxel_size_um=3)
    assert dataset.is_batch
    assert [scan.name for scan in dataset] == ["scan_0000", "scan_0001", "scan_0002"]
    assert [scan.open().volume.voxel_size_um[0] for scan in dataset] == [2, 3, 4]


def test_a_view_of_each_scan_is_what_is_inferred(manifest: Path) -> None:
    dataset = ScanDataset(manifest, voxel_size_um=3, view=UpsampledVolume)
    assert [scan.open().volume.shape for scan in dataset] == [(6, 8, 10)] * 3
    assert [scan.open().volume.voxel_size_um[0] for scan in dataset] == [1, 1.5, 2]


def test_split_keeps_the_rows_numbers(manifest: Path) -> None:
    assert [scan.name for scan in ScanDataset(manifest, split="test")] == ["scan_0001", "scan_0002"]
    with pytest.raises(InputError, match="no row of split 'val'"):
        ScanDataset(manifest, split="val")


def test_missing_column_is_refused(manifest: Path) -> None:
    with pytest.raises(InputError, match="has no column 'ct'"):
        ScanDataset(manifest, image_key="ct")


def test_bad_scan_is_met_when_it_is_opened(tmp_path: Path) -> None:
    scan = ScanDataset(tmp_path / "nowhere.tif")[0]
    with pytest.raises(InputError, match="no such file"):
        scan.open()
