from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import create_workflow

from bonemonai.engines import check_choice, check_overrides
from bonemonai.engines import run_check as module
from bonemonai.errors import InputError, OutputError, find_bonemonai_error

CONFIG = {
    "imports": ["$import bonemonai"],
    "dataset_dir": None,
    "max_epochs": 3,
    "seed": "$1 + 1",
    "patience": None,
    "network_def": {"_target_": "torch.nn.Linear", "in_features": 2, "out_features": 1},
    "train": {"dataset": {"size": 1, "shuffle": True}, "handlers": [{"tag": "a", "log": False}]},
    "overwrite": False,
    "pretrained": True,
    "dicom_seg": "auto",
    "initialize": ["$bonemonai.engines.check_run(inputs={'dataset_dir': @dataset_dir})"],
    "run": [],
}


@pytest.mark.parametrize(
    "option",
    ["dataset_dir", "max_epochs", "network_def#out_features", "network_def#bias", "train#dataset#size",
     "train::dataset", "train#handlers#0#tag"],
)  # fmt: skip
def test_ids_of_the_config_pass(option: str) -> None:
    check_overrides([option], CONFIG)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("datset_dir", r"did you mean --dataset_dir\?"),
        ("max_epoch", r"did you mean --max_epochs\?"),
        ("network", r"did you mean --network_def\?"),
        ("config_fil", r"did you mean --config_file\?"),
        ("train#datset", "'train' has no such entry"),
        ("train#dataset#sizes", "'train' has no such entry"),
        ("train#handlers#7", "'train' has no such entry"),
        ("zzz", "the config knows dataset_dir, dicom_seg, imports"),
    ],
)
def test_unknown_ids_are_refused_with_the_nearest(option: str, hint: str) -> None:
    with pytest.raises(InputError, match=rf"--{option}: is no option of this config; {hint}"):
        check_overrides([option], CONFIG)


@pytest.fixture
def run(tmp_path: Path) -> Any:
    folder = tmp_path / "bundle" / "configs"
    folder.mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps(CONFIG))
    (folder / "overlay.json").write_text(json.dumps({"extra": 1, "run": ["$@extra"]}))
    (folder / "metadata.json").write_text("{}")

    def start(**options: Any) -> Any:
        files = [str(folder / name) for name in ("train.json", "overlay.json")]
        return create_workflow(config_file=files, logging_file=False, workflow_type=None, **options)

    return start


def refusal(run: Any, **options: Any) -> str:
    with pytest.raises(RuntimeError) as raised:
        run(**options)
    return str(find_bonemonai_error(raised.value))


def test_workflow_with_all_it_needs_starts(run: Any, tmp_path: Path) -> None:
    assert run(dataset_dir=str(tmp_path), extra=2, **{"network_def#bias": False})


def test_missing_inputs_are_refused(run: Any, tmp_path: Path) -> None:
    assert refusal(run) == "--dataset_dir: is not given: say --dataset_dir PATH."
    missing = tmp_path / "nowhere"
    assert refusal(run, dataset_dir=str(missing)) == f"{missing}: no such file or folder (--dataset_dir)."


def test_mistyped_option_is_refused_before_the_missing_input(run: Any, tmp_path: Path) -> None:
    assert "did you mean --dataset_dir?" in refusal(run, datset_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("max_epochs", "many", "is a whole number, such as 3, got 'many'"),
        ("max_epochs", 2.0, "is a whole number"),
        ("max_epochs", True, "is a whole number"),
        ("max_epochs", 0, "must be 1 or more, got 0"),
        ("seed", -1, "must be 0 or more, got -1"),
        ("patience", 1.5, "is a whole number, got 1.5"),
        ("network_def#in_features", "two", "is a number, such as 2, got 'two'"),
        ("network_def#in_features", float("nan"), "is a number"),
    ],
)
def test_a_number_is_a_number(run: Any, option: str, value: Any, words: str, tmp_path: Path) -> None:
    assert words in refusal(run, dataset_dir=str(tmp_path), **{option: value})


@pytest.mark.parametrize(
    "value", ["false", "no", "False", " FALSE ", "true", "yes", "on", "off", "none", "", 0, 1, 1.0, "flase", [True]]
)
@pytest.mark.parametrize("option", ["overwrite", "pretrained", "train#dataset#shuffle", "train::handlers::0::log"])
def test_a_word_is_neither_true_nor_false(run: Any, tmp_path: Path, option: str, value: object) -> None:
    expected = f"--{option}: is true or false, got {value!r}: say --{option} True or False."
    assert refusal(run, dataset_dir=str(tmp_path), **{option: value}) == expected


def test_a_word_inside_a_passed_dictionary_is_refused_too(run: Any, tmp_path: Path) -> None:
    said = refusal(run, dataset_dir=str(tmp_path), train={"dataset": {"size": 2, "shuffle": "no"}, "handlers": []})
    assert said.startswith("--train#dataset#shuffle: is true or false, got 'no'")


def test_a_word_is_refused_even_where_a_file_has_its_name(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("false").touch()
    assert "got 'false'" in refusal(run, dataset_dir=str(tmp_path), pretrained="false")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("overwrite", True),
        ("train#dataset#shuffle", False),
        ("overwrite", "$not @pretrained"),
        ("overwrite", "@pretrained"),
        ("pretrained", "vgg16-397923af.pth"),
        ("pretrained", "some/where"),
        ("pretrained", Path("weights")),
        ("dicom_seg", False),
        ("dicom_seg", "no"),
        ("network_def#bias", False),
    ],
)
def test_true_false_expressions_files_and_other_options_pass(
    run: Any, tmp_path: Path, option: str, value: object
) -> None:
    assert run(dataset_dir=str(tmp_path), **{option: value})


def test_a_file_that_is_there_passes(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("weights").touch()
    assert run(dataset_dir=str(tmp_path), pretrained="weights")


def test_monais_command_line_refuses_a_word(run: Any, tmp_path: Path) -> None:
    config = str(tmp_path / "bundle" / "configs" / "train.json")
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, "--dataset_dir", str(tmp_path)]
    refused, passed = (
        subprocess.run([*command, "--overwrite", word], capture_output=True, text=True, check=False)
        for word in ("false", "False")
    )
    expected = "bonemonai: error: --overwrite: is true or false, got 'false': say --overwrite True or False."
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (2, expected)
    assert passed.returncode == 0, passed.stderr


def test_a_process_that_is_not_monais_keeps_its_excepthook(run: Any, tmp_path: Path) -> None:
    before = sys.excepthook
    run(dataset_dir=str(tmp_path))
    assert sys.excepthook is before


def test_excepthook_prints_one_line_and_sets_the_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    wrapped = RuntimeError("Failed to evaluate")
    wrapped.__cause__ = OutputError("out.zarr", "exists\nalready.")
    with pytest.raises(SystemExit) as stop:
        module._one_line_excepthook(RuntimeError, wrapped, None)
    assert stop.value.code == 4
    assert capsys.readouterr().err == "bonemonai: error: out.zarr: exists already.\n"


def test_excepthook_leaves_other_errors_alone(capsys: pytest.CaptureFixture[str]) -> None:
    module._one_line_excepthook(ValueError, ValueError("a bug"), None)
    assert "ValueError: a bug" in capsys.readouterr().err


def test_excepthook_names_the_component_that_refuses_a_value(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = {
        **CONFIG,
        "thing": {"_target_": "bonemonai.transforms.SampleBonePatches", "stride": 0},
        "run": ["$@thing"],
    }
    (tmp_path / "metadata.json").write_text("{}")
    (tmp_path / "a.json").write_text(json.dumps({**config, "initialize": []}))
    workflow = create_workflow(config_file=str(tmp_path / "a.json"), logging_file=False, workflow_type=None)
    with pytest.raises(RuntimeError) as raised:
        workflow.run()
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        module._one_line_excepthook(RuntimeError, raised.value, None)
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("bonemonai: error: ")
    assert "must be >= 1 (pixels), got 55 and 0" in said
    assert said.count("\n") == 1


def test_choices() -> None:
    check_choice("model", "a", ["a", "b"])
    with pytest.raises(InputError, match="--model: must be one of a, b, got 'c'"):
        check_choice("model", "c", ["a", "b"])
