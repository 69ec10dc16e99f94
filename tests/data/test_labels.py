from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.data import OmeZarrWriter, labelled_items, predicted_by, read_manifest, truth_items
from bonemonai.errors import InputError


def manifest(**columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"patient": list("abc"), "image": list("xyz"), "split": ["train", "train", "test"], **columns})


def mask(path: Path, **attributes: object) -> Path:
    with OmeZarrWriter(path, shape=(2, 8, 8), dtype="uint8", voxel_size_um=(1, 1, 1), attributes=attributes) as writer:
        writer.write(np.zeros((2, 8, 8), np.uint8))
    return path


def test_what_has_a_label_is_trained_on() -> None:
    rows = labelled_items(manifest(label=["l", "", ""]))
    assert [row["patient"] for row in rows] == ["a"]
    with pytest.raises(InputError, match="no row of split 'train' has a label"):
        labelled_items(manifest(label=["", "", "l"]))
    with pytest.raises(InputError, match="no row of split 'train' has a label"):
        labelled_items(manifest())


def test_truth_is_taken(tmp_path: Path) -> None:
    label = mask(tmp_path / "truth.ome.zarr")
    assert [row["patient"] for row in truth_items(manifest(label=["", "", str(label)]), "test")] == ["c"]


def test_rows_without_a_label_are_not_scored(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match="no row of split 'test' has a label, so that nothing can be scored"):
        truth_items(manifest(label=["l", "l", ""]), "test")
    table = manifest(label=["l", "", ""])
    assert [row["patient"] for row in truth_items(table, "train")] == ["a"]
    assert "1 of 2 rows have no label and are not scored" in caplog.text


def test_a_prediction_is_no_truth_when_the_manifest_says_so() -> None:
    table = manifest(label=list("lll"), label_origin=["", "", "model:0123"])
    with pytest.raises(InputError, match=r"was predicted \(model:0123"):
        truth_items(table, "test")
    assert len(labelled_items(table)) == 2


def test_a_prediction_is_no_truth_when_only_its_files_say_so(tmp_path: Path) -> None:
    label = mask(tmp_path / "lacunae.ome.zarr", weights={"sha256": "ab" * 32})
    assert predicted_by(label) == f"model:{'ab' * 32}"
    with pytest.raises(InputError, match="no truth"):
        truth_items(manifest(label=["", "", str(label)]), "test")


def test_copies_are_known_by_the_record_beside_them(tmp_path: Path) -> None:
    (tmp_path / "lacunae.nii").touch()
    (tmp_path / "other.nii").touch()
    record = {"files": ["lacunae.nii"], "weights": {"sha256": "cd" * 32}}
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert predicted_by(tmp_path / "lacunae.nii") == f"model:{'cd' * 32}"
    assert predicted_by(tmp_path / "other.nii") == ""
    (tmp_path / "run.json").write_text("{damaged")
    assert predicted_by(tmp_path / "lacunae.nii") == ""


def test_a_part_of_a_prediction_is_one(tmp_path: Path) -> None:
    label = mask(tmp_path / "lacunae.ome.zarr", weights={"sha256": "ab" * 32})
    assert predicted_by(label / "0") == predicted_by(f"{label}::0") == f"model:{'ab' * 32}"
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "lacunae_0000.tif").touch()
    (tmp_path / "run.json").write_text(json.dumps({"files": ["copy"], "weights": {"sha256": "cd" * 32}}))
    assert predicted_by(tmp_path / "copy" / "lacunae_0000.tif") == f"model:{'cd' * 32}"


def test_labels_of_a_manifest_may_be_empty_where_they_are_files(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "m.csv").write_text("patient,image,label,split\na,x,,test\n")
    assert read_manifest(tmp_path / "m.csv")["label"].tolist() == [""]
    with pytest.raises(InputError, match="column 'label' is empty"):
        read_manifest(tmp_path / "m.csv", label_is_path=False)
