from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bonemonai.analysis import find_subject
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume

SIZE = (10.0, 10.0, 10.0)


def test_calibrated_scan_has_a_density_by_default() -> None:
    volume = ArrayVolume(np.zeros((6, 7, 8), np.float32), SIZE)
    volume.values[2:5, 2:5, 2:5] = 2000
    volume.units = "mg HA/cm3"
    assert find_subject(volume).rules[0].startswith(">= 500 mg HA/cm3 after Gaussian of sigma 1.2, support 2 voxels")
    assert find_subject(volume, threshold=700).rules == ("density > 700", "whole volume")
    # as BA/TA is measured; what bone does not fill of the file is no tissue
    assert find_subject(volume).rules[1].startswith("bone envelope")
    assert find_subject(volume, tissue="whole").rules[1] == "whole volume"
    assert find_subject(volume, tissue="envelope").rules[1].startswith("bone envelope, filled in each plane")


def test_grey_scan_needs_a_threshold_and_a_mask_none() -> None:
    values = (np.arange(60).reshape(3, 4, 5) % 2 * 7).astype(np.uint8)
    assert find_subject(ArrayVolume(values, SIZE)).rules == ("non-zero voxels", "whole volume")
    scan = ArrayVolume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), SIZE)
    assert find_subject(scan, threshold=30).bone.read().sum() == 29
    subject = find_subject(scan, mask=ArrayVolume(values, None))
    np.testing.assert_array_equal(subject.bone.read(), values // 7)
    assert subject.bone.voxel_size_um == SIZE
    with pytest.raises(InputError, match="holds raw values, no densities"):
        find_subject(scan, density=500)


def test_tissue_of_a_file(tmp_path: Path) -> None:
    scan = ArrayVolume(np.arange(60, dtype=np.uint8).reshape(3, 4, 5), SIZE)
    tifffile.imwrite(tmp_path / "tissue.tif", np.ones((3, 4, 5), np.uint8), photometric="minisblack")
    subject = find_subject(scan, threshold=30, tissue=tmp_path / "tissue.tif")
    assert subject.rules[1] == "mask given"
    assert subject.tissue is not None
    assert subject.tissue.voxel_size_um == SIZE
    tifffile.imwrite(tmp_path / "grey.tif", scan.values, photometric="minisblack")
    grey = find_subject(scan, threshold=30, tissue=tmp_path / "grey.tif").tissue
    assert grey is not None
    with pytest.raises(InputError, match=r"grey.tif: is no mask"):
        grey.read()


def test_refusals(tmp_path: Path) -> None:
    scan = ArrayVolume(np.zeros((3, 4, 5), np.uint8), SIZE)
    with pytest.raises(InputError, match="does not state its voxel size"):
        find_subject(ArrayVolume(scan.values, None))
    for tissue in (None, "whole"):
        with pytest.raises(InputError, match="closes the envelope of bone, which is not the tissue here"):
            find_subject(scan, threshold=3, tissue=tissue, closing_um=50)
    with pytest.raises(InputError, match=r"says what bone is; leave --threshold and --density out"):
        find_subject(scan, mask=scan, threshold=3)
    with pytest.raises(InputError, match="no such file"):
        find_subject(scan, threshold=140, tissue=tmp_path / "nowhere.tif")
    with pytest.raises(InputError, match="has shape"):
        find_subject(scan, mask=ArrayVolume(np.zeros((3, 4, 6), np.uint8)))
