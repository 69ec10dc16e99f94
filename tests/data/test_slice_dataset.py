from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bonemonai.data import OmeZarrWriter, SliceDataset
from bonemonai.data.slice_dataset import every_nth_slice
from bonemonai.errors import InputError

SHAPE = (5, 7, 9)


def write(path: Path, values: NDArray[Any], **options: Any) -> str:
    with OmeZarrWriter(path, shape=values.shape, dtype=values.dtype, voxel_size_um=(1, 1, 1), **options) as writer:
        writer.write(values)
    return str(path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[NDArray[Any], NDArray[Any], dict[str, str]]]:
    """Two scans and their cracks, and a row of the manifest for each."""
    folder = tmp_path_factory.mktemp("scans")
    rng = np.random.default_rng(0)
    made = []
    for name, shape in (("a", SHAPE), ("b", (6, 4, 3))):
        values, crack = rng.integers(0, 1000, shape).astype(np.int16), rng.integers(0, 2, shape).astype(np.uint8)
        row = {
            "patient": name,
            "image": write(folder / f"{name}.zarr", values),
            "crack": write(folder / f"{name}_crack.zarr", crack),
        }
        made.append((values, crack, row))
    return made


def rows(scans: Any) -> list[dict[str, str]]:
    """Every slice, plane by plane."""
    return [
        {**row, "plane": plane, "index": str(index)}
        for values, _, row in scans
        for plane, extent in zip(("XY", "XZ", "YZ"), values.shape, strict=True)
        for index in range(extent)
    ]


@pytest.mark.parametrize("keep", [True, False])
def test_slices_are_the_arrays(scans: Any, keep: bool) -> None:
    dataset = SliceDataset(rows(scans), ["image", "crack"], keep=keep, progress=False)
    assert len(dataset) == 21 + 13
    arrays = {row["image"]: (values, crack) for values, crack, row in scans}
    for number, row in enumerate(rows(scans)):
        item = dataset[number]
        index = int(row["index"])
        for key, values in zip(("image", "crack"), arrays[row["image"]], strict=True):
            there = {"XY": np.s_[index], "XZ": np.s_[:, index], "YZ": np.s_[:, :, index]}[row["plane"]]
            expected = values[there]
            np.testing.assert_array_equal(item[key], expected[None])
            assert item[key].dtype == expected.dtype
            assert item[key].flags.c_contiguous
        assert (item["plane"], item["index"], item["patient"]) == (row["plane"], index, row["patient"])
        histogram, values = item["histogram"], arrays[row["image"]][0]
        assert (histogram.total, histogram.minimum, histogram.maximum) == (values.size, values.min(), values.max())


def test_kept_and_read_again_are_one(scans: Any) -> None:
    def transform(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("histogram")
        return {**item, "image": torch.from_numpy(item["image"].astype(np.float32)) / 2}

    kept, read = (SliceDataset(rows(scans), transform=transform, keep=keep, progress=False) for keep in (True, False))
    for number in np.random.default_rng(0).permutation(len(kept)):
        one, other = kept[number], read[number]
        assert torch.equal(one.pop("image"), other.pop("image"))
        assert one == other


def test_scans_are_read_once_where_rows_follow_each_other(scans: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    from bonemonai.data import slice_dataset

    real = slice_dataset.open_volume
    monkeypatch.setattr(slice_dataset, "open_volume", lambda path, **o: opened.append(path) or real(path, **o))
    dataset = SliceDataset(rows(scans), progress=False)
    assert opened == [scans[0][2]["image"], scans[1][2]["image"]]
    assert [len(dataset[number]) for number in (0, -1)] == [6, 6]
    assert len(opened) == 2
    assert dataset._scan == {}


def test_absent_masks_are_zeros(scans: Any) -> None:
    values, _, row = scans[0]
    for without in ({key: value for key, value in row.items() if key != "crack"}, {**row, "crack": ""}):
        data = [{**without, "plane": "YZ", "index": "8"}]
        item = SliceDataset(data, ["image", "crack"], progress=False)[0]
        np.testing.assert_array_equal(item["crack"], np.zeros((1, 5, 7), np.uint8))
        np.testing.assert_array_equal(item["image"], values[None, :, :, 8])


@pytest.mark.parametrize("tensors", [False, True])
def test_augment_sees_a_copy_each_time(scans: Any, tensors: bool) -> None:
    def spoil(item: dict[str, Any]) -> dict[str, Any]:
        item["image"] *= 0
        item["seen"] = True
        del item["plane"]
        return item

    transform = (lambda item: {**item, "image": torch.from_numpy(item["image"])}) if tensors else None
    dataset = SliceDataset(rows(scans)[:3], transform=transform, augment=spoil, progress=False)
    for _ in range(2):
        assert not np.asarray(dataset[1]["image"]).any()
    dataset.augment = None
    item = dataset[1]
    assert "seen" not in item
    np.testing.assert_array_equal(np.asarray(item["image"])[0], scans[0][0][1])
    item["image"][:] = 0
    assert np.asarray(dataset[1]["image"]).any()


def test_augment_runs_each_time_transform_once(scans: Any) -> None:
    calls: list[str] = []

    def called(name: str) -> Any:
        return lambda item: calls.append(name) or item

    dataset = SliceDataset(rows(scans)[:2], transform=called("t"), augment=called("a"), progress=False)
    _ = dataset[0], dataset[0], dataset[1]
    assert calls == ["t", "t", "a", "a", "a"]


@pytest.mark.parametrize(
    ("plane", "index", "cause"),
    [
        ("XX", "1", r"a\.zarr: plane and index must be one of XY, XZ, YZ and a number, got 'XX', '1'"),
        ("XY", "-1", r"a\.zarr: plane and index .* got 'XY', '-1'"),
        ("XY", "\u00b2", r"a\.zarr: plane and index"),
        ("XY", "", r"a\.zarr: plane and index"),
        ("XY", "5", r"a\.zarr: has no XY slice 5; there are 5"),
        ("YZ", "9", r"a\.zarr: has no YZ slice 9; there are 9"),
    ],
)
def test_slices_that_are_not_there_are_refused(scans: Any, plane: str, index: str, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        SliceDataset([{**scans[0][2], "plane": plane, "index": index}], progress=False)


def test_other_refusals(scans: Any, tmp_path: Path) -> None:
    row = {**scans[0][2], "plane": "XY", "index": "0"}
    with pytest.raises(InputError, match="the data set is empty"):
        SliceDataset([])
    with pytest.raises(InputError, match="manifest: has an empty 'ring'"):
        SliceDataset([row], ["ring"], progress=False)
    with pytest.raises(InputError, match=r"a\.zarr: plane and index must be"):
        SliceDataset([scans[0][2]], progress=False)
    with pytest.raises(InputError, match=r"b_crack\.zarr: has shape \(6, 4, 3\), its scan \(5, 7, 9\)"):
        SliceDataset([{**row, "crack": scans[1][2]["crack"]}], ["image", "crack"], progress=False)
    with pytest.raises(InputError, match="holds raw values; this workflow takes HU"):
        SliceDataset([row], progress=False, expects=["HU"])
    assert SliceDataset([{**row, "units": "HU"}], progress=False, expects=["HU"])[0]["index"] == 0


def test_every_nth_slice_begins_in_the_middle(scans: Any) -> None:
    data = rows(scans)
    assert every_nth_slice(data, 1) == data
    chosen = [(row["patient"], row["plane"], row["index"]) for row in every_nth_slice(data, 3)]
    assert chosen[:4] == [("a", "XY", "1"), ("a", "XY", "4"), ("a", "XZ", "1"), ("a", "XZ", "4")]
    with pytest.raises(InputError, match="step: must be >= 1"):
        every_nth_slice(data, 0)
    with pytest.raises(InputError, match="20 is larger than the number of slices"):
        every_nth_slice(data, 20)
