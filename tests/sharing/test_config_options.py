from __future__ import annotations

import json
from typing import Any

import pytest

from bonemonai.sharing.config_options import Option, overlays, shown, workflows
from tests.conftest import ROOT

TRAIN: dict[str, Any] = {
    "_desc_": "Trains.",
    "bundle_root": "$bonemonai.engines.find_bundle_root()",
    "width": 64,
    "fold": None,
    "loss": {"_target_": "DiceLoss", "_desc_": "why this one", "sigmoid": True},
    "train": {"handlers": [{"_target_": "StatsHandler"}], "dataloader": {"batch": 4}},
    "run": ["$@train#trainer.run()"],
}
EVALUATE: dict[str, Any] = {"_desc_": "Overlay of train.json: scores.", "train#dataloader#batch": 1, "split": "test"}
SMALL: dict[str, Any] = {"_desc_": "Overlay of evaluate.json: small; see inference.json.", "width": 2, "split": "val"}
CONFIGS = {
    "configs/train.json": TRAIN, "configs/evaluate.json": EVALUATE, "configs/small.json": SMALL,
    "configs/metadata.json": {"version": "1"}, "models/model.json": {"sha256": "0"},
}  # fmt: skip


def test_a_workflow_has_every_id_of_its_top_level() -> None:
    (found,) = workflows(CONFIGS, "| id | meaning | default |\n|---|---|---|\n| `width`, `depth` | of `net` | 64 |\n")
    assert (found.name, found.description) == ("train.json", "Trains.")
    assert found.options == [
        Option("bundle_root", "$bonemonai.engines.find_bundle_root()", "folder of this bundle", False),
        Option("width", "64", "of net", False),
        Option("fold", "none", "", False),
        Option("loss", "DiceLoss(sigmoid=true)", "why this one", True),
        Option("train", "{handlers: [StatsHandler], dataloader: {batch}}", "", True),
        Option("run", "[$@train#trainer.run()]", "", True),
    ]


def test_only_tables_of_ids_explain_them() -> None:
    other = "| column | meaning |\n|---|---|\n| `width` | of a table |\n"
    assert [option.meaning for option in workflows(CONFIGS, other)[0].options if option.id == "width"] == [""]


def test_an_overlay_says_what_it_changes_and_from_what() -> None:
    evaluate, small = overlays(CONFIGS)
    assert evaluate.changes == [("train#dataloader#batch", "4", "1"), ("split", "", '"test"')]
    # through the overlay that it is an overlay of; what else its description mentions does not count
    assert small.changes == [("width", "64", "2"), ("split", '"test"', '"val"')]


def test_overlays_that_name_each_other_end() -> None:
    ring = {f"configs/{a}.json": {"_desc_": f"Overlay of {b}.json: x", "v": 1} for a, b in (("a", "b"), ("b", "a"))}
    assert [overlay.changes for overlay in overlays({**ring, "configs/c.json": {"w": 1}})] == [
        [("v", "1", "1")], [("v", "1", "1")], [("w", "", "1")]
    ]  # fmt: skip
    assert overlays({"configs/a.json": {"_desc_": "Overlay of a.json: itself", "v": 1}})[0].changes == [("v", "", "1")]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"), ("val", '"val"'), ("@width", "@width"), ([1, [2, None]], "[1, [2, none]]"), ([], "[]"),
        ({"a": {"_target_": "X"}}, "{a: X}"), ({"_target_": "F", "f": {"_target_": "G", "x": 1}}, "F(f=G)"),
    ],
)  # fmt: skip
def test_values_as_text(value: Any, text: str) -> None:
    assert shown(value) == text


def test_the_projects_overlays_name_what_they_are_overlays_of() -> None:
    for folder in (ROOT / "bundles").iterdir():
        configs = {f"configs/{path.name}": json.loads(path.read_text()) for path in (folder / "configs").glob("*.json")}
        assert [overlay.name for overlay in overlays(configs) if "Overlay of " not in overlay.description] == []
        assert [workflow.name for workflow in workflows(configs) if not workflow.description] == []
