from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bonemonai.data import TiffStackWriter, open_volume


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_reads_back_with_its_voxel_size(tmp_path: Path, dtype: str) -> None:
    array = np.random.default_rng(0).integers(0, 200, (12, 7, 9)).astype(dtype)
    with TiffStackWriter(tmp_path / "scan", shape=array.shape, dtype=dtype, voxel_size_um=(3.0, 1.6, 0.65)) as writer:
        writer.write(array[:5])
        writer.write(array[5:])
    volume = open_volume(tmp_path / "scan")
    np.testing.assert_array_equal(volume.read(), array)
    assert volume.voxel_size_um == pytest.approx((3.0, 1.6, 0.65), rel=1e-6)
    with tifffile.TiffFile(tmp_path / "scan" / "scan_0011.tif") as tif:
        assert tif.is_imagej


def test_other_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must be uint8, uint16 or float32 for ImageJ, got int64"):
        TiffStackWriter(tmp_path / "scan", shape=(1, 2, 2), dtype="int64", voxel_size_um=(1, 1, 1))
