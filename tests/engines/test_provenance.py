from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from monai.bundle import create_workflow

import bonemonai
from bonemonai.engines import provenance
from bonemonai.engines.provenance import config_digests, without_paths
from bonemonai.engines.weights import sha256


def test_says_configs_options_versions_inputs_and_weights(tmp_path: Path) -> None:
    config = tmp_path / "bundle" / "configs" / "inference.json"
    config.parent.mkdir(parents=True)
    expression = "$bonemonai.engines.provenance({'dataset_dir': @dataset_dir}, weights=@checkpoint, seed=4)"
    content = {
        "imports": ["$import bonemonai"],
        "dataset_dir": None,
        "checkpoint": None,
        "output_dir": None,
        "about": expression,
    }
    config.write_text(json.dumps({**content, "initialize": ["$@about"], "run": []}))
    (config.parent / "metadata.json").write_text("{}")
    (tmp_path / "secret folder").mkdir()
    (tmp_path / "secret folder" / "scan.nii").write_bytes(b"values")
    torch.save({"w": torch.ones(1)}, tmp_path / "model.pt")
    workflow = create_workflow(
        config_file=str(config),
        logging_file=False,
        workflow_type=None,
        dataset_dir=str(tmp_path / "secret folder" / "scan.nii"),
        checkpoint=str(tmp_path / "model.pt"),
        output_dir="SMITH_JOHN",
    )
    about = workflow.parser.get_parsed_content("about")
    assert about["bonemonai"] == bonemonai.__version__
    assert about["packages"]["torch"] == version("torch")
    assert list(about["configs"]) == ["inference.json"]
    assert about["options"] == {"dataset_dir": "<path>", "checkpoint": "<path>", "output_dir": "<path>"}
    assert about["inputs"]["dataset_dir"]["bytes"] == 6
    assert len(about["weights"]["sha256"]) == 64
    assert about["seed"] == 4
    text = json.dumps(about)
    assert "secret" not in text
    assert "SMITH" not in text
    assert "scan.nii" not in text
    assert str(tmp_path) not in text


def test_outside_a_workflow_configs_are_unknown(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1")
    about = provenance({"dataset_dir": tmp_path / "a"})
    assert (about["configs"], about["options"], about["weights"]) == ({}, {}, None)


@pytest.mark.parametrize(
    "option",
    ["output_dir", "manifest_path", "path", "dataset#dir", "file", "classifier_checkpoint", "weights", "segmentation",
     "manifest", "root", "image", "results", "readers", "curves", "learning_curve", "output", "sweep", "gradcam",
     "pretrained", "train::dataset::cache_dir", "results#0", "Output_Dir"],
)  # fmt: skip
def test_names_of_paths_are_left_out_by_the_names_of_options(option: str) -> None:
    given = {option: "SMITH_JOHN", "model": "mga", "seed": 3}
    assert without_paths(given) == {option: "<path>", "model": "mga", "seed": 3}


def test_what_lies_in_an_option_that_is_a_path_is_left_out_too() -> None:
    given = {
        "results": {"ours": "SMITH_JOHN", "theirs": ["SMITH", {"x": "J"}], "share": 0.5, "use": True, "none": None},
        "keep_weights": True,
        "class_weights": [1, 2.5],
        "train": {"loader": {"cache_dir": "SMITH", "mode": "min"}},
        "dataset_dir": "$'SMITH'",
        "scan": Path("SMITH"),
        "scale": "@model",
    }
    assert without_paths(given) == {
        "results": {"ours": "<path>", "theirs": ["<path>", {"x": "<path>"}], "share": 0.5, "use": True, "none": None},
        "keep_weights": True,
        "class_weights": [1, 2.5],
        "train": {"loader": {"cache_dir": "<path>", "mode": "min"}},
        "dataset_dir": "<path>",
        "scan": "<path>",
        "scale": "@model",
    }


def test_configs_of_a_user_are_numbered_for_their_names_may_name_somebody(tmp_path: Path) -> None:
    own, bundle = tmp_path / "SMITH_JOHN.json", tmp_path / "configs" / "inference.json"
    bundle.parent.mkdir()
    (bundle.parent / "metadata.json").write_text("{}")
    for path in (own, bundle):
        path.write_text(path.name)
    found = config_digests([str(bundle), own])
    assert found == {"inference.json": sha256(bundle), "config 2": sha256(own)}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("$'/data/SMITH/scan.nii'", False), ('$open("SMITH\\\\a")', False), ("$str(@root) + '/SMITH'", False),
        ("SMITH.dcm::1.2.3", False), ("$@width // 2 + 1", True), ("$'dice' if @a / 2 > 1 else 'bce'", True),
        ("@model", True), ("mga", True), ("%a::b", True),
    ],
)  # fmt: skip
def test_paths_in_expressions_and_parts_of_files_are_left_out(
    value: str, kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "SMITH.dcm").write_bytes(b"")
    assert without_paths({"high": value}) == {"high": value if kept else "<path>"}
