from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bonemonai.data import labelled_items, read_manifest
from bonemonai.errors import InputError


def write(folder: Path, content: Any) -> Path:
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (folder / name).mkdir(exist_ok=True)
        for number in (1, 2):
            (folder / name / f"spine_{number:03d}.nii.gz").touch()
    path = folder / "dataset.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


MSD = {
    "name": "spine",
    "labels": {"0": "background", "1": "vertebra"},
    "training": [{"image": "./imagesTr/spine_001.nii.gz", "label": "./labelsTr/spine_001.nii.gz"}],
    "test": ["./imagesTs/spine_002.nii.gz"],
}


def test_decathlon_list(tmp_path: Path) -> None:
    table = read_manifest(write(tmp_path, {**MSD, "test": []}))
    assert table.to_dict("records") == [
        {
            "patient": "spine_001",
            "image": str(tmp_path / "imagesTr" / "spine_001.nii.gz"),
            "label": str(tmp_path / "labelsTr" / "spine_001.nii.gz"),
            "split": "train",
        }
    ]


def test_images_may_come_without_labels_and_are_then_not_trained_on(tmp_path: Path) -> None:
    assert read_manifest(write(tmp_path, MSD))["label"].tolist()[1] == ""
    items = [*MSD["training"], "./imagesTr/spine_002.nii.gz"]  # type: ignore[misc]
    manifest = read_manifest(write(tmp_path, {"training": items}))
    assert manifest["label"].tolist()[1] == ""
    assert len(labelled_items(manifest)) == 1


def test_nesting_without_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no valid JSON"):
        read_manifest(write(tmp_path, "[" * 100_000))


def test_patients_that_are_stated_count(tmp_path: Path) -> None:
    items = [{"image": f"imagesTr/spine_00{n}.nii.gz", "patient": "P1"} for n in (1, 2)]
    with pytest.raises(InputError, match="patient 'p1' stands in more than one split"):
        read_manifest(write(tmp_path, {"training": items[:1], "validation": items[1:]}))


def test_classes(tmp_path: Path) -> None:
    items = [{"image": f"imagesTr/spine_00{n}.nii.gz", "label": label} for n, label in ((1, 0), (2, "ost"))]
    path = write(tmp_path, {"training": items})
    assert read_manifest(path, classes=["0", "ost"])["label"].tolist() == ["0", "ost"]
    with pytest.raises(InputError, match=r"row 2: column 'label' must be one of 0, 1"):
        read_manifest(path, classes=["0", "1"])


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "is no valid JSON"),
        ("[]", "is no datalist"),
        ({"images": []}, "is no datalist"),
        ({"training": {"image": "a"}}, "is no datalist"),
        ({"training": []}, "holds no row"),
        ({"training": [{"img": "a"}]}, "names no image"),
        ({"training": [{"image": ["a", "b"]}]}, "names no image"),
        ({"training": [{"image": "a", "box": [1, 2]}]}, "gives 'box' of 'a' as a list"),
        ({"training": ["nowhere.nii"]}, "row 1: 'nowhere.nii' does not exist"),
        ({"training": ["../outside.nii"]}, "is not inside"),
        ('{"training": [], "training": ["a"]}', "stands twice"),
    ],
)
def test_refusals(content: Any, cause: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"dataset\.json: .*{cause}"):
        read_manifest(write(tmp_path, content))
