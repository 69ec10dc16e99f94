from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.transforms import LoadImaged

from bonemonai.data import VolumeReader
from bonemonai.errors import find_bonemonai_error


def test_load_imaged_reads_lhdl_with_a_given_voxel_size(lhdl: Path) -> None:
    load = LoadImaged("image", reader=VolumeReader(voxel_size_um=19.5), ensure_channel_first=True)
    image = load({"image": lhdl})["image"]
    assert image.shape == (1, 200, 200, 200)
    np.testing.assert_allclose(np.linalg.norm(image.affine[:3, :3], axis=0), 0.0195)
    np.testing.assert_array_equal(image[0, 7].numpy(), tifffile.imread(sorted(lhdl.glob("*.tif"))[7]))


def test_affine_is_ras(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8), photometric="minisblack")
    image = LoadImaged("image", reader=VolumeReader(voxel_size_um=(3, 2, 1)))({"image": tmp_path / "a.tif"})["image"]
    np.testing.assert_allclose(image.affine[:3, :3].numpy() * 1000, [[0, 0, -1], [0, -2, 0], [3, 0, 0]])


def test_several_files_are_channels(tmp_path: Path) -> None:
    for name in "ab":
        tifffile.imwrite(tmp_path / f"{name}.tif", np.full((2, 5, 6), ord(name), np.uint8), photometric="minisblack")
    load = LoadImaged("image", reader=VolumeReader(voxel_size_um=1), ensure_channel_first=True)
    image = load({"image": [tmp_path / "a.tif", tmp_path / "b.tif"]})["image"]
    assert image.shape == (2, 2, 5, 6)
    assert image[:, 0, 0, 0].tolist() == [97, 98]


@pytest.mark.parametrize("shapes", [[(2, 5, 6)], [(2, 5, 6), (2, 5, 7)]])
def test_unknown_voxel_size_and_unequal_channels_are_refused(tmp_path: Path, shapes: list[tuple[int, ...]]) -> None:
    files = [tmp_path / f"{index}.tif" for index in range(len(shapes))]
    for file, shape in zip(files, shapes, strict=True):
        tifffile.imwrite(file, np.zeros(shape, np.uint8), photometric="minisblack")
    reader = VolumeReader() if len(shapes) == 1 else VolumeReader(voxel_size_um=1)
    with pytest.raises(Exception, match=r".") as raised:
        LoadImaged("image", reader=reader)({"image": files})
    refusal = find_bonemonai_error(raised.value)
    assert refusal is not None
    assert ("voxel size" if len(shapes) == 1 else "1.tif: differs from") in str(refusal)
