from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import OmeZarrWriter, read_manifest
from bonemonai.data.slice_list import slice_numbers, write_slice_list
from bonemonai.errors import InputError


def test_evenly_spaced_slices() -> None:
    assert slice_numbers(300, 300) == slice_numbers(300, None) == list(range(300))
    assert slice_numbers(5, 1) == [2]
    for extent, number in ((200, 7), (32, 31), (10, 4)):
        found = np.array(slice_numbers(extent, number))
        assert len(set(found)) == number
        assert np.ptp(np.diff(found)) <= 1
        assert abs(found[0] - (extent - 1 - found[-1])) <= 1
    with pytest.raises(InputError, match="slices_per_plane: must be at most the box's 4 slices, got 5"):
        slice_numbers(4, 5)


def test_a_row_a_slice_of_each_plane(tmp_path: Path) -> None:
    scans = []
    for number, shape in enumerate([(4, 5, 6), (3, 3, 3)]):
        image = tmp_path / f"scan_{number}.ome.zarr"
        with OmeZarrWriter(image, shape=shape, dtype=np.uint8, voxel_size_um=(1.0,) * 3) as writer:
            writer.write(np.zeros(shape, np.uint8))
        scans.append({"patient": "a", "load_state": str(number + 1), "image": str(image)})
    scans[1]["crack"] = scans[1]["image"]
    assert write_slice_list(tmp_path / "slices.csv", scans, None) == 4 + 5 + 6 + 9
    lines = (tmp_path / "slices.csv").read_text().splitlines()
    assert lines[0] == "patient,image,load_state,plane,index,crack"
    assert (lines[1], lines[5]) == ("a,scan_0.ome.zarr,1,XY,0,", "a,scan_0.ome.zarr,1,XZ,0,")
    assert lines[-1] == "a,scan_1.ome.zarr,2,YZ,2,scan_1.ome.zarr"
    assert write_slice_list(tmp_path / "slices.csv", scans, 1) == 6
    table = read_manifest(tmp_path / "slices.csv")
    assert table["index"].tolist() == ["2", "2", "3", "1", "1", "1"]
    with pytest.raises(InputError, match="must be at most the box's 3 slices, got 4"):
        write_slice_list(tmp_path / "slices.csv", scans, 4)
    assert len(read_manifest(tmp_path / "slices.csv")) == 6
