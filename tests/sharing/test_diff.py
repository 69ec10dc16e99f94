from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import bundle_files
from bonemonai.sharing.diff import diff_bundles, diff_tensors
from bonemonai.sharing.pack import pack_bundle
from bonemonai.sharing.unpack import unpack_bundle
from bonemonai.sharing.weights_check import describe_all
from tests.sharing.small_bundle import INFERENCE, METADATA, write_bundle
from tests.sharing.test_weights_check import packed, weights


def test_a_bundle_and_its_archive_are_equal(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", {"models/model.pt": packed(weights())})
    pack_bundle(folder, tmp_path / "a.zip")
    unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    assert diff_bundles(folder, tmp_path / "out") == []


def test_what_changed_is_told(tmp_path: Path) -> None:
    one = write_bundle(
        tmp_path / "one",
        {"configs/inference.json": {**INFERENCE, "gone": {"a": 1, "b": [2]}, "flag": 1, "same": [1, {"x": 2}],
                                    "long": "x" * 100, "kind": {"a": 1}}, "docs/old.md": "x"},
    )  # fmt: skip
    changed = {**INFERENCE, "width": 4, "flag": True, "same": [1, {"x": 3}], "long": "x" * 99 + "y", "new": {},
               "kind": [1], "x#y": None}  # fmt: skip
    other = write_bundle(
        tmp_path / "other",
        {"configs/inference.json": changed, "configs/metadata.json": {**METADATA, "version": "0.1.0"},
         "docs/README.md": "other", "configs/new.json": {}},
    )  # fmt: skip
    shown = "x" * 56
    lines = diff_bundles(one, other)
    readme = next(line for line in lines if "README" in line)
    assert readme.startswith("~ docs/README.md: sha256 ")
    assert lines == [
        "~ configs/inference.json: width: 3 -> 4",
        "- configs/inference.json: gone::a = 1",
        "- configs/inference.json: gone::b::0 = 2",
        "~ configs/inference.json: flag: 1 -> true",
        "~ configs/inference.json: same::1::x: 2 -> 3",
        f'~ configs/inference.json: long: "{shown}... -> "{shown}...',
        "~ configs/inference.json: kind: {...} -> [...]",
        "- configs/inference.json: kind::a = 1",
        "+ configs/inference.json: new = {}",
        "+ configs/inference.json: kind::0 = 1",
        "+ configs/inference.json: x::y = null",
        '~ configs/metadata.json: version: "0.2.0" -> "0.1.0"',
        "+ configs/new.json",
        readme,
        "- docs/old.md",
    ]


def test_weights_are_compared_key_by_key_on_request(tmp_path: Path) -> None:
    contents = {
        "same": weights(),
        "values": weights(0.25),
        "shapes": {"weight": torch.zeros(2, 4), "gain": torch.zeros(()), "bias": torch.zeros(2).half()},
    }
    folders = {
        name: write_bundle(tmp_path / name, {"models/model.pt": packed(state)}) for name, state in contents.items()
    }
    found = {name: describe_all(bundle_files(folder)) for name, folder in folders.items()}
    assert diff_tensors(found["same"], found["same"]) == []
    assert diff_tensors(found["same"], found["values"]) == [
        "~ models/model.pt: same keys, shapes and types, other values"
    ]
    assert diff_tensors(found["same"], found["shapes"]) == [
        "~ models/model.pt: weight: float32 2 x 3 -> float32 2 x 4",
        "~ models/model.pt: bias: float32 2 -> float16 2",
        "+ models/model.pt: gain = float32 scalar",
    ]
    (line,) = diff_bundles(folders["same"], folders["values"])
    assert line.startswith("~ models/model.pt: sha256 ")


def test_what_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no folder"):
        diff_bundles(write_bundle(tmp_path / "b"), tmp_path / "gone")
