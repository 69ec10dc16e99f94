from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from bonemonai.data import PlaneDataset, manifest_items, open_volume, read_manifest
from bonemonai.errors import InputError


def rows(study: Path) -> list[dict]:
    return manifest_items(read_manifest(study / "manifest.csv"))


def test_serves_every_plane_of_every_volume_in_order(study: Path) -> None:
    data = rows(study)
    planes = PlaneDataset(data, ["image", "label"], progress=False)
    assert len(planes) == 4 * 6
    item = planes[13]
    assert (item["plane"], item["patient"]) == (1, data[2]["patient"])
    np.testing.assert_array_equal(item["image"], open_volume(data[2]["image"]).read(1, 2))
    np.testing.assert_array_equal(item["label"], open_volume(data[2]["label"]).read(1, 2))


def test_histogram_is_of_the_whole_volume(study: Path) -> None:
    item = PlaneDataset(rows(study)[:1], progress=False)[0]
    values = open_volume(rows(study)[0]["image"]).read()
    assert (item["histogram"].total, item["histogram"].maximum) == (values.size, values.max())


def test_step_and_named_plane(study: Path) -> None:
    first, second, *_ = rows(study)
    planes = PlaneDataset([first, {**second, "plane": "5"}], step=4, progress=False)
    assert [planes[i]["plane"] for i in range(len(planes))] == [0, 4, 5]


def test_transform_is_applied(study: Path) -> None:
    planes = PlaneDataset(rows(study)[:1], transform=lambda item: item["plane"] * 10, progress=False)
    assert [planes[i] for i in range(3)] == [0, 10, 20]


def test_iteration_ends(study: Path) -> None:
    assert len(list(PlaneDataset(rows(study)[:1], progress=False))) == 6


def test_refusals(study: Path, tmp_path: Path) -> None:
    row = rows(study)[0]
    with pytest.raises(InputError, match="empty"):
        PlaneDataset([])
    with pytest.raises(InputError, match="no column 'label2'"):
        PlaneDataset([row], ["image", "label2"])
    with pytest.raises(InputError, match="no plane '6'; its planes are 0 to 5"):
        PlaneDataset([{**row, "plane": "6"}], progress=False)
    tifffile.imwrite(tmp_path / "short.tif", np.zeros((5, 120, 115), np.uint8))
    with pytest.raises(InputError, match=r"short.tif: has shape \(5, 120, 115\), but"):
        PlaneDataset([{**row, "label": str(tmp_path / "short.tif")}], ["image", "label"], progress=False)


def test_masks_that_do_not_belong_are_refused(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = rows(study)[0]
    monkeypatch.chdir(study / "H01" / "lacunae")  # an empty path is this folder
    with pytest.raises(InputError, match="has an empty 'lacunae' in the manifest"):
        PlaneDataset([{**row, "lacunae": ""}], ["image", "lacunae"], progress=False)
    with pytest.raises(InputError, match="is given as plane 0 of all planes: a column plane is due"):
        PlaneDataset([{**row, "label_plane": "0"}], ["image", "label"], progress=False)
    with pytest.raises(InputError, match="has no plane '6'; its planes are 0 to 5"):
        PlaneDataset([{**row, "plane": "1", "label_plane": "6"}], ["image", "label"], progress=False)


def test_a_scan_that_many_rows_name_is_opened_and_counted_once(study: Path) -> None:
    row = rows(study)[0]
    planes = PlaneDataset([{**row, "plane": str(n)} for n in (4, 0, 2)], ["image", "label"], progress=False)
    assert [planes[i]["plane"] for i in range(3)] == [4, 0, 2]
    assert len({id(volumes["image"]) for volumes in planes.volumes}) == 1
    assert len({id(planes[i]["histogram"]) for i in range(3)}) == 1
