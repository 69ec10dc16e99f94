from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.sharing.config_entries import parse_json
from bonemonai.sharing.config_scan import scan_configs
from tests.conftest import ROOT

BUNDLES = sorted(path for path in (ROOT / "bundles").iterdir() if path.is_dir())


def findings(config: Any, **others: Any) -> list[tuple[str, str]]:
    return [(found.id, found.reason) for found in scan_configs({"a.json": config, **others}).findings]


@pytest.mark.parametrize(
    ("config", "place", "reason"),
    [
        ({"x": {"_target_": "os.system", "command": "id"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "eval"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "builtins.exec"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "subprocess.run", "args": ["id"]}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "run_cmd"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "monai.bundle.run"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "torch.load", "f": "x"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "scripts.evil.Transform"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "torch..load"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "Compose", "y": [{"z": {"_target_": "os.system"}}]}}, "x::y::0::z::_target_", "not on"),
        ({"x#y#_target_": "os.system"}, "x::y::_target_", "not on the list"),
        ({"+x": {"_target_": "os.system"}}, "x::_target_", "not on the list"),
        ({"x": {"_target_": "@y"}, "y": "os.system"}, "x::_target_", "made up"),
        ({"x": {"_target_": "%y"}, "y": "os.system"}, "x::_target_", "made up"),
        ({"x": {"_target_": "$'os' + '.system'"}}, "x::_target_", "made up"),
        ({"x": {"_target_": "$@net.forward"}}, "x::_target_", "made up"),
        ({"x": {"_target_": {"_target_": "Compose"}}}, "x::_target_", "made up"),
        ({"x": {"_target_": "Compose", "_mode_": "debug"}}, "x::_mode_", "neither default"),
        ({"x": {"_target_": "Compose", "_mode_": "@m"}, "m": "debug"}, "x::_mode_", "neither default"),
        ({"x": {"_target_": "LoadImage", "_mode_": "callable"}}, "x::_mode_", "not seen"),
        ({"x#_mode_": "callable"}, "x::_mode_", "not seen"),
        ({"x": {"_target_": "Compose", "_debug_": True}}, "x::_debug_", "sets _debug_"),
        ({"x": {"_target_": "LoadImaged", "reader": "os.system"}}, "x::reader", "looked up"),
        ({"x": {"_target_": "LoadImaged", "reader": ["ITKReader", "open"]}}, "x::reader", "looked up"),
        ({"x": {"_target_": "LoadImaged", "reader": "NumpyReader"}}, "x::reader", "looked up"),
        ({"x": {"_target_": "LoadImaged", "reader": "@r"}, "r": "os.system"}, "x::reader", "looked up"),
        ({"x#transforms#0#reader": "@r"}, "x::transforms::0::reader", "looked up"),
        ({"+x": {"reader": "$@r"}}, "x::reader", "looked up"),
        ({"_target_": "bonemonai.engines.load_weights", "x#reader": "@r"}, "x::reader", "looked up"),
        ({"+x": {"_target_": "bonemonai.engines.load_weights", "reader": "@r"}}, "x::reader", "looked up"),
        ({"x#_target_": "LoadImaged"}, "x::_target_", "stand elsewhere"),
        ({"+x": {"_target_": "LoadImaged"}}, "x::_target_", "stand elsewhere"),
        ({"x::_target_": "bonemonai.engines.CrossValidation"}, "x::_target_", "stand elsewhere"),
        ({"x": {"_target_": "SaveImage", "writer": "subprocess.Popen"}}, "x::writer", "looked up"),
        ({"x": {"_target_": "PatchInferer", "merger_cls": "os.system"}}, "x::merger_cls", "looked up"),
        ({"x": {"_target_": "PersistentDataset", "weights_only": False}}, "x::weights_only", "sets weights_only"),
        ({"x#weights_only": "@y"}, "x::weights_only", "sets weights_only"),
        ({"x": {"_target_": "Compose", "_desc_": "$__import__('os').system('id')"}}, "x::_desc_", "__import__"),
        ({"x": {"_target_": "Compose", "_requires_": ["$exec('1')"]}}, "x::_requires_::0", "uses exec"),
        ({"x": {"_target_": "Compose", "_disabled_": "$open('x')"}}, "x::_disabled_", "uses open"),
        ({"x": [[{"y": "$torch.load('x')"}]]}, "x::0::0::y", "torch.load"),
        ({"imports": ["$import subprocess"]}, "imports::0", "imports subprocess"),
        ({"imports": ["$from os import system as dict"]}, "imports::0", "imports os.system|on the list"),
        ({"imports": ["$import os"], "x": "$os.system('id')"}, "x", "uses os.system"),
        ({"imports": ["$import os as np"], "x": "$np.system('id')"}, "x", "not on the list"),
        ({"imports#3": "$import torch", "x": "@imports#3"}, "x", "its imports"),
        ({"x": "$import torch"}, "x", "outside the list imports"),
        ({"x": {"_target_": "Lambda", "func": "$from os import system"}}, "x::func", "outside the list imports"),
        ({"x": "%other.json#y"}, "x", "another file"),
        ({"x": "%/data/other.YAML::y"}, "x", "another file"),
        ({"x": "%"}, "x", "whole config"),
        ({"x": "$@#y]", "a or evil() or [1][0": {"z": "$@#y]"}}, "a or evil() or [1][0::z", "no plain word"),
        ({"x": "a$b"}, "x", "could become"),
        ({"x": "/etc/passwd"}, "x", "outside the bundle"),
        ({"x": {"_target_": "MetricsSaver", "save_dir": "../../.."}}, "x::save_dir", "outside the bundle"),
        (["$exec('1')"], "0", "uses exec"),
    ],
)
def test_what_would_run_code_is_found(config: Any, place: str, reason: str) -> None:
    found = findings(config)
    assert place in dict(found)
    assert any(word in dict(found)[place] for word in reason.split("|"))


def test_imports_of_another_file_give_their_names_another_meaning() -> None:
    config = {"imports": ["$import torch.nn as tools"], "x": "$tools.Linear(1, 2)"}
    assert findings(config) == []
    other = {"imports": ["$import os as tools"]}
    assert findings(config, **{"b.json": other}) == [("x", "uses os.Linear, which is not on the list")]


def test_the_metadata_imports_nothing() -> None:
    scan = scan_configs({"configs/metadata.json": {"imports": ["$import torch"]}, "a.json": {"x": "@_meta_::imports"}})
    assert [found.reason for found in scan.findings] == ["imports outside the list imports"]


def test_what_was_found_is_counted_and_shortened() -> None:
    scan = scan_configs({"a.json": {"x": {"_target_": "Compose"}, "y": f"$exec('{'z' * 200}')", "z": "$1"}})
    assert (scan.targets, scan.expressions) == (1, 2)
    (found,) = scan.findings
    assert (found.file, found.id, len(found.text), found.text[:6]) == ("a.json", "y", 90, "$exec(")


def test_plain_configs_pass() -> None:
    config = {
        "imports": ["$import os", "$from pathlib import Path"],
        "x": {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "ITKReader",
            "_mode_": "default",
            "_disabled_": False,
        },
        "y": {"_target_": "bonemonai.engines.StreamingEvaluator", "writer": "@x", "_desc_": "50 % of 3 @ 4"},
        "z": {"_target_": "monai.transforms.Compose", "_mode_": "callable", "transforms": ["@x", "%y"]},
        "w": "$Path('a') / str(int(os.environ['RANK']))",
    }
    assert findings(config) == []


@pytest.mark.parametrize("bundle", BUNDLES, ids=lambda path: path.name)
def test_the_projects_own_bundles_pass_unchanged(bundle: Any) -> None:
    files = sorted(bundle.rglob("*.json"))
    scan = scan_configs({path.name: parse_json(path.name, path.read_bytes()) for path in files})
    assert scan.findings == []
    assert scan.targets > 40
    assert scan.expressions > 100


WORDS = st.sampled_from(
    ["$", "@", "%", "_target_", "a", "#", "::", "os.system", "$@a", "Compose", "imports", "$import os"]
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(WORDS, max_size=3).map("".join),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.lists(WORDS, max_size=2).map("".join), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(JSON)
def test_any_json_is_scanned(content: Any) -> None:
    scan = scan_configs({"a.json": content})
    assert "os.system" not in json.dumps([*_targets(content)]) or scan.findings


def _targets(content: Any) -> list[Any]:
    inner = list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
    own = [content["_target_"]] if isinstance(content, dict) and "_target_" in content else []
    return [*own, *(found for value in inner for found in _targets(value))]
