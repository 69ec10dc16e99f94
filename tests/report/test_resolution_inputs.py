from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import InputError
from bonemonai.report.resolution_inputs import read_resolutions
from tests.report.resolution_folder import GOOD, MISLEADING, SPECIMENS, write_evaluation


def test_an_evaluation_is_read_whole(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a", site="spine", frames=3)
    (found,) = read_resolutions({"mine": folder})
    assert (found.name, found.trained, found.tested, found.leakage) == ("mine", "femur, 1 frame", "spine, 3 frames", "")
    assert found.rule == ">= 500 mg HA/cm3"
    assert found.specimens["specimen"].nunique() == 4
    assert found.verdict is not None
    assert found.verdict.words == "A better image and better bone."
    (panel,) = found.panels
    assert (panel.specimen, panel.plane) == (SPECIMENS[0], 1)
    assert panel.bone["hr"].sum() - panel.bone["dl"].sum() == 20


def test_a_folder_of_folders_gives_each(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_evaluation(tmp_path / "matrix" / name, MISLEADING if name == "b" else GOOD)
    found = read_resolutions({"seed 0": tmp_path / "matrix"})
    assert [each.name for each in found] == ["seed 0: a", "seed 0: b"]
    assert [each.verdict.misleads for each in found if each.verdict] == [False, True]


def test_without_bone_there_is_no_verdict(tmp_path: Path) -> None:
    (found,) = read_resolutions({"x": write_evaluation(tmp_path / "a", bone=False, per_slice=True)})
    assert found.verdict is None
    assert found.panels == []


def test_of_two_specimens_limits_are_unknown(tmp_path: Path) -> None:
    (found,) = read_resolutions({"x": write_evaluation(tmp_path / "a", count=2)})
    assert found.agreement is not None
    assert found.agreement["lower_limit"].isna().all()
    assert found.verdict is not None


def test_leakage_is_found_on_either_side(tmp_path: Path) -> None:
    (found,) = read_resolutions({"x": write_evaluation(tmp_path / "a", leakage="halves of one specimen")})
    assert found.leakage == "halves of one specimen"
    weights = {"trained_on": {"leakage": "the same"}}
    (found,) = read_resolutions({"x": write_evaluation(tmp_path / "b", weights=weights)})
    assert (found.leakage, found.trained) == ("the same", "all sites")


@pytest.mark.parametrize("name", ["results.json", "planes.csv", "specimens.csv", "comparison.csv"])
def test_a_missing_file_is_named(name: str, tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(InputError, match=rf"{name}: is not there.*; evaluate the network again"):
        read_resolutions({"x": folder})


def test_damaged_files_are_named(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "a")
    (folder / "overlap.csv").unlink()
    with pytest.raises(InputError, match="only a part of its bone morphometry"):
        read_resolutions({"x": folder})
    folder = write_evaluation(tmp_path / "b")
    (folder / "panels.npz").write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(InputError, match=r"panels\.npz: holds no planes to show"):
        read_resolutions({"x": folder})
    folder = write_evaluation(tmp_path / "c")
    with np.load(folder / "panels.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "panels.npz", **{**arrays, "0/dl": np.zeros((3, 3))})
    with pytest.raises(InputError, match="planes have shapes"):
        read_resolutions({"x": folder})
    folder = write_evaluation(tmp_path / "d")
    pd.read_csv(folder / "planes.csv").drop(columns="ssim").to_csv(folder / "planes.csv")
    with pytest.raises(InputError, match="has no column ssim"):
        read_resolutions({"x": folder})


def test_nothing_to_show_is_refused(tmp_path: Path) -> None:
    for given in ({}, "folder"):
        with pytest.raises(InputError, match="has nothing to show"):
            read_resolutions(given)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="is no folder"):
        read_resolutions({"x": tmp_path / "none"})
    with pytest.raises(InputError, match=r"results\.json: is not there"):
        read_resolutions({"x": tmp_path})


def test_bone_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    one, other = write_evaluation(tmp_path / "a"), write_evaluation(tmp_path / "b", weights={"sha256": "cd" * 32})
    (one / "morphometry.json").write_bytes((other / "morphometry.json").read_bytes())
    with pytest.raises(InputError, match="the bone of one evaluation and the images of another"):
        read_resolutions({"x": one})
