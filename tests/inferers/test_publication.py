"""Results get their names together, and copies and earlier results with them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from bonemonai.inferers.result_writer import WORK
from tests import drill
from tests.drill import run


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_killed_while_results_get_their_names(moved: int, scan: Path, undisturbed: str, tmp_path: Path) -> None:
    """The next run completes the publication of this one first, whatever it then does."""
    assert run(scan, tmp_path) == 0
    record = tmp_path / "run.json"
    record.rename(tmp_path / WORK / "publishing.json")
    for name in ("label.ome.zarr", "probability.ome.zarr")[moved:]:
        (tmp_path / name).rename(tmp_path / WORK / name)
    assert run(scan, tmp_path, seed=1) == 3
    assert drill.content(tmp_path) == undisturbed
    assert run(scan, tmp_path) == 0
    assert record.exists()
    assert not (tmp_path / WORK / "publishing.json").exists()


def test_overwriting_removes_copies_of_the_earlier_result(scan: Path, tmp_path: Path) -> None:
    drill.infer(scan, tmp_path, also="nifti")
    drill.infer(scan, tmp_path, seed=1, overwrite=True)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {WORK, "label.ome.zarr", "probability.ome.zarr", "run.json"}


@pytest.mark.parametrize("lost", ["label.nii", "probability.ome.zarr/zarr.json"])
def test_lost_copies_and_metadata_are_made_again(lost: str, scan: Path, tmp_path: Path) -> None:
    drill.infer(scan, tmp_path, also="nifti")
    before = drill.content(tmp_path)
    (tmp_path / lost).unlink()
    assert not drill.infer(scan, tmp_path, also="nifti")["complete_before"]
    assert (tmp_path / lost).exists()
    assert drill.content(tmp_path) == before


@pytest.mark.parametrize("also", ["tiff", "nifti"])
def test_copies_in_another_format_are_the_same_volume(also: str, scan: Path, tmp_path: Path) -> None:
    drill.infer(scan, tmp_path, also=also)
    source = open_volume(scan)
    for name in ("label", "probability"):
        result = open_volume(tmp_path / f"{name}.ome.zarr").read()
        copy = open_volume(tmp_path / (name if also == "tiff" else f"{name}.nii"))
        np.testing.assert_array_equal(copy.read(), result)
        assert copy.voxel_size_um == pytest.approx(source.voxel_size_um)
    with pytest.raises(InputError, match="must be tiff or nifti"):
        drill.infer(scan, tmp_path, also="png")


def test_overwriting_keeps_the_earlier_result_until_the_new_one_is_complete(
    scan: Path, undisturbed: str, tmp_path: Path
) -> None:
    assert run(scan, tmp_path, seed=1) == 0
    before = drill.content(tmp_path)
    assert run(scan, tmp_path, overwrite=True, kill=("written", 2)) == -signal.SIGKILL
    assert drill.content(tmp_path) == before
    assert run(scan, tmp_path, overwrite=True) == 0
    assert drill.content(tmp_path) == undisturbed
    assert json.loads((tmp_path / "run.json").read_text())["inference"]["resumed"] == 2
