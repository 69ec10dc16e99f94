from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bonemonai.engines.overlay_check import check_overlays
from bonemonai.errors import InputError
from tests.conftest import ROOT

TRAIN: dict[str, Any] = {
    "imports": ["$import pathlib"],
    "width": 8,
    "max_epochs": 3,
    "network_def": {"_target_": "torch.nn.Linear", "in_features": "@width", "out_features": 1},
    "train": {"dataset": ["a"], "loader": {"_target_": "DataLoader", "dataset": "@train#dataset"}},
    "run": ["$print(@network_def)"],
}


def check(folder: Path, overlay: dict[str, Any], sibling: dict[str, Any] | None = None) -> None:
    for name, content in {"train": TRAIN, "smoke": sibling or {}}.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    (folder / "own").mkdir()
    (folder / "own" / "mine.json").write_text(json.dumps(overlay))
    check_overlays([folder / "train.json", folder / "own" / "mine.json"])


@pytest.mark.parametrize(
    "overlay",
    [
        {"_desc_": "small", "width": 2, "imports": [], "run": []},
        {"network_def#bias": False},
        {"train#loader#batch_size": 2, "train#dataset": ["b"]},
        {"split": "test", "train#dataset": "@split"},
        {"train#extra": 1, "run": ["$print(@train#extra)"]},
        {"train#other": 1, "run": ["$print(@train::other)"]},
    ],
)
def test_what_replaces_extends_or_is_referred_to(tmp_path: Path, overlay: dict[str, Any]) -> None:
    check(tmp_path, overlay)


def test_only_the_bundles_own_overlays_serve_several_configs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sets 'levels'"):
        check(tmp_path, {"levels": 3}, sibling={"levels": 2})
    (tmp_path / "other.json").write_text('{"levels": 3}')
    check_overlays([tmp_path / "train.json", tmp_path / "other.json"])


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ({"max_epoch": 2}, "mine.json: sets 'max_epoch', which no config knows; did you mean 'max_epochs'?"),
        ({"widht": 2}, "did you mean 'width'?"),
        ({"train#datset": ["b"]}, "sets 'train#datset'"),
        ({"zzzzzzzz": 2}, "which no config knows; remove it."),
        ({"spli": "test", "run": ["$print(@split)"]}, "sets 'spli'"),
    ],
)
def test_what_is_mistyped(tmp_path: Path, overlay: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        check(tmp_path, overlay)
    assert words in str(caught.value)


@pytest.mark.parametrize("bundle", sorted((ROOT / "bundles").iterdir()), ids=lambda path: path.name)
def test_every_overlay_of_a_bundle_passes(bundle: Path) -> None:
    for file in (bundle / "configs").glob("*.json"):
        described = json.loads(file.read_text()).get("_desc_", "")
        base = next((word for word in described.split() if "verlay of" in described and ".json" in word), None)
        if base is not None:
            check_overlays([bundle / "configs" / (base.split(".json")[0] + ".json"), file])
