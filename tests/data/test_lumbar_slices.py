from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.data import lumbar_slices, read_lumbar_manifest
from bonemonai.data.lumbar_slices import open_axial, vertebra_slices
from bonemonai.errors import InputError
from tests import lumbar_files


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    return read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))


def test_axial_order_is_found_again(manifest: pd.DataFrame) -> None:
    volume = open_axial(manifest.loc[0, "mask"])
    np.testing.assert_array_equal(volume.read(), lumbar_files.mask_in_axial_order())


def test_slices_of_each_vertebra(manifest: pd.DataFrame) -> None:
    rows = lumbar_slices(manifest, "train", levels=lumbar_files.LEVELS, per_level=3)
    first = [(row["plane"], row["level"]) for row in rows if row["subject"] == "subject_00"]
    # bodies are slices 2 to 7, 10 to 15, 18 to 23, of which the scan ends in the last
    assert first == [(3, "L3"), (5, "L3"), (6, "L3"), (11, "L2"), (13, "L2"), (14, "L2")]
    assert {row["subject"] for row in rows} == {"subject_00", "subject_01", "subject_02"}
    assert all(row["label"] in ("normal", "low bone mass", "osteoporosis") for row in rows)


def test_a_single_slice_lies_in_the_middle(manifest: pd.DataFrame) -> None:
    rows = lumbar_slices(manifest, "val", levels={"L2": 21}, per_level=1)
    assert [row["plane"] for row in rows] == [13, 13]


def test_slices_between_vertebrae_are_none_of_them(manifest: pd.DataFrame) -> None:
    rows = lumbar_slices(manifest, "test", levels=lumbar_files.LEVELS, per_level=1, between=2)
    assert [row["plane"] for row in rows if not row["level"]] == [9, 17]


def test_vertebrae_that_the_scan_cuts_off_are_used_only_where_there_is_no_other(tmp_path: Path) -> None:
    mask = lumbar_files.mask_in_axial_order(cut=4)
    path = lumbar_files.write_nifti(tmp_path / "mask.nii", mask)
    assert {name: whole for name, (_, whole) in vertebra_slices(path, lumbar_files.LEVELS).items()} == {
        "L3": False, "L2": True, "L1": True,
    }  # fmt: skip
    only = pd.DataFrame([{"image": path, "mask": path}])
    assert {row["level"] for row in lumbar_slices(only, levels=lumbar_files.LEVELS)} == {"L2", "L1"}
    assert [row["plane"] for row in lumbar_slices(only, levels={"L3": 22})] == [1, 2]


def test_processes_beside_the_body_below_do_not_count(tmp_path: Path) -> None:
    """A mask of whole vertebrae: L2's process hangs down beside L3."""
    mask = lumbar_files.mask_in_axial_order()
    mask[4:10, 14:17, 7:9] = 21
    path = lumbar_files.write_nifti(tmp_path / "mask.nii", mask)
    planes, _ = vertebra_slices(path, lumbar_files.LEVELS)["L2"]
    assert planes.tolist() == [10, 11, 12, 13, 14, 15]


def test_a_plane_of_the_manifest_is_taken_as_it_is(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 6, plane=["3", "4", "5", "6", "7", "8"])
    rows = lumbar_slices(read_lumbar_manifest(path), "test")
    assert [(row["plane"], row["level"]) for row in rows] == [(8, "")]
    wrong = read_lumbar_manifest(lumbar_files.write_manifest(tmp_path, 6, plane=["x"] * 6))
    with pytest.raises(InputError, match="plane must be a number"):
        lumbar_slices(wrong, "test")


def test_refusals(manifest: pd.DataFrame, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a plane nor a mask"):
        lumbar_slices(manifest.drop(columns="mask"))
    with pytest.raises(InputError, match="none of the vertebrae"):
        lumbar_slices(manifest, levels={"T12": 19})
    with pytest.raises(ValueError, match="per_level"):
        lumbar_slices(manifest, per_level=0)
    table = pd.read_csv(tmp_path / "manifest.csv")
    table.loc[1, ["patient", "split"]] = table.loc[0, ["patient", "split"]]
    table.to_csv(tmp_path / "two.csv", index=False)
    with pytest.raises(InputError, match="two conditions: normal, low bone mass"):
        read_lumbar_manifest(tmp_path / "two.csv")


def test_real_masks_of_whole_vertebrae(sample_data: Path) -> None:
    mask = sample_data / "ct-verse014-lumbar" / "sub-verse014_seg-vert_msk.nii.gz"
    found = vertebra_slices(mask, {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24})
    middles = [planes.mean() for planes, _ in found.values()]
    assert middles == sorted(middles, reverse=True)  # L1 is the highest
    assert all(15 <= len(planes) <= 32 for planes, _ in found.values())  # mm: a body's height
    assert all(whole for _, whole in found.values())
