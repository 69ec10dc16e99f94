from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.transforms import Compose, LoadImaged, Spacingd

from bonemonai.data import OmeZarrStore, PlaneDataset, ScanDataset, VolumeReader, open_volume
from bonemonai.errors import InputError
from tests.dicom_files import write_series


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    return write_series(tmp_path / "ct", np.random.default_rng(0).integers(-1000, 1000, (4, 6, 8)))


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(60, dtype=np.uint8).reshape(3, 4, 5), photometric="minisblack")
    return tmp_path / "a.tif"


def test_hounsfield_units_expected_and_raw_values_given(stack: Path) -> None:
    cause = r"a\.tif: holds raw values; this workflow takes HU: if they are, say --units 'HU'"
    with pytest.raises(InputError, match=cause):
        ScanDataset(stack, expects=["HU"], voxel_size_um=10)[0].open()
    with pytest.raises(InputError, match=cause):
        PlaneDataset([{"image": str(stack)}], expects=["HU"], progress=False)
    assert ScanDataset(stack, expects=["HU"], units="HU", voxel_size_um=10)[0].open().volume.units == "HU"


def test_raw_values_expected_and_hounsfield_units_given(ct: Path) -> None:
    cause = "holds HU values; this workflow takes raw: give a scan of the kind that it was trained on"
    with pytest.raises(InputError, match=cause):
        ScanDataset(ct, expects=["raw"])[0].open()


def test_manifest_says_units_row_by_row(ct: Path, stack: Path) -> None:
    manifest = ct.parent / "m.csv"
    manifest.write_text("patient,image,units,voxel_size_um\nP1,a.tif,HU,10\nP2,ct,,\n")
    assert [scan.open().volume.units for scan in ScanDataset(manifest, expects=["HU"])] == ["HU", "HU"]


def test_units_and_affine_travel_through_monai_transforms(ct: Path) -> None:
    load = LoadImaged("image", reader=VolumeReader(), ensure_channel_first=True)
    image = Compose([load, Spacingd("image", (1.0, 1.0, 1.0))])({"image": str(ct)})["image"]
    assert image.meta["units"] == "HU"
    assert image.shape == (1, 7, 8, 10)


def test_units_orientation_and_place_travel_into_a_result_and_back(ct: Path, tmp_path: Path) -> None:
    scan = open_volume(ct)
    store = OmeZarrStore(
        tmp_path / "r.ome.zarr", shape=scan.shape, dtype="int16", voxel_size_um=scan.voxel_size_um or ()
    )
    store.create()[:] = scan.read()
    store.finish({"affine_lps": scan.affine_lps.tolist(), "units": scan.units})
    result = open_volume(tmp_path / "r.ome.zarr")
    np.testing.assert_array_equal(result.affine_lps, scan.affine_lps)
    assert result.units == "HU"


def test_affine_that_no_longer_fits_is_not_believed(ct: Path, tmp_path: Path) -> None:
    scan = open_volume(ct)
    store = OmeZarrStore(tmp_path / "r.ome.zarr", shape=scan.shape, dtype="int16", voxel_size_um=(10.0, 10.0, 10.0))
    store.create()[:] = scan.read()
    store.finish({"affine_lps": scan.affine_lps.tolist()})
    assert open_volume(tmp_path / "r.ome.zarr").voxel_size_um == (10, 10, 10)
