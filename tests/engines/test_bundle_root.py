from __future__ import annotations

import json
from pathlib import Path

import pytest
from monai.bundle import create_workflow

from bonemonai.engines import find_bundle_root
from bonemonai.errors import InputError

CONFIG = {
    "imports": ["$import bonemonai"],
    "bundle_root": "$bonemonai.engines.find_bundle_root()",
    "initialize": ["$@bundle_root"],
    "run": [],
}


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "some bundle" / "configs" / "inference.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(CONFIG))
    (path.parent / "metadata.json").write_text("{}")
    return path


def root(config: Path | str, **options: object) -> str:
    workflow = create_workflow(config_file=str(config), logging_file=False, workflow_type=None, **options)
    return str(workflow.parser.get_parsed_content("bundle_root"))


def test_is_the_configs_bundle_from_any_working_directory(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert root(config) == str(tmp_path / "some bundle")
    assert root("some bundle/configs/inference.json") == str(tmp_path / "some bundle")
    monkeypatch.chdir(config.parent)
    assert root("inference.json") == str(tmp_path / "some bundle")


def test_configs_without_a_configs_folder_are_their_own_root(config: Path, tmp_path: Path) -> None:
    moved = tmp_path / "inference.json"
    moved.write_text(config.read_text())
    assert root(moved) == str(tmp_path)


def test_option_overrules(config: Path) -> None:
    assert root(config, bundle_root="/elsewhere") == "/elsewhere"


def test_two_bundles_in_one_process(config: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "configs" / "inference.json"
    other.parent.mkdir(parents=True)
    other.write_text(config.read_text())
    (other.parent / "metadata.json").write_text("{}")
    assert root(config) == str(tmp_path / "some bundle")
    assert root(other) == str(tmp_path / "other")


def test_monai_scripts_without_a_workflow(config: Path, tmp_path: Path) -> None:
    """ckpt_export and verify_net_in_out evaluate configs with a bare parser, their files in a local variable."""
    source = "def call(config_file_, ask):\n    return ask()\n"
    scope: dict = {"__name__": "monai.bundle.scripts"}
    exec(source, scope)
    assert scope["call"](str(config), find_bundle_root) == str(tmp_path / "some bundle")


def test_without_any_workflow_it_asks() -> None:
    with pytest.raises(InputError, match="say --bundle_root PATH"):
        find_bundle_root()
