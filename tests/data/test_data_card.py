from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from bonemonai.data import describe_training_data, read_data_card, read_manifest, refuse_trained_on
from bonemonai.data.data_card import copy_data_card
from bonemonai.errors import InputError


def test_phantom_says_it_is_synthetic_and_names_no_patient(study: Path) -> None:
    manifest = study / "manifest.csv"
    said = describe_training_data(manifest, read_manifest(manifest))
    assert said["kind"] == read_data_card(manifest)["kind"] == "synthetic"
    assert said["patients"] == {"train": 2, "val": 1, "test": 1}
    assert "H01" not in str(said)


def test_missing_card_is_said(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    manifest = tmp_path / "m.csv"
    manifest.write_text("patient,image,split\nP1,a,train\n")
    assert read_data_card(manifest) == {}
    assert "no data card" in describe_training_data(manifest, read_manifest(manifest))["data"]


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_card_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match=r"m\.json"):
        read_data_card(tmp_path / "m.csv")


def test_leakage_is_described(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    manifest = tmp_path / "m.csv"
    manifest.write_text("patient,image,plane,split,leakage\nP1,a,XY,train,shared\nP1,a,XZ,test,shared\n")
    table = read_manifest(manifest, allow_shared_patient=True)
    assert describe_training_data(manifest, table)["leakage"] == "shared"


def test_card_goes_with_what_is_made_of_a_manifest(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"name": "scans", "kind": "synthetic"}))
    copy_data_card(tmp_path / "a.csv", tmp_path / "b.csv", masks_predicted_by=["model:1"])
    card = read_data_card(tmp_path / "b.csv")
    assert card == {"name": "scans", "kind": "synthetic", "masks_predicted_by": ["model:1"]}
    (tmp_path / "x").touch()
    table = pd.DataFrame({"patient": ["a"], "image": [str(tmp_path / "x")], "split": ["train"]})
    assert describe_training_data(tmp_path / "b.csv", table)["masks_predicted_by"] == ["model:1"]
    copy_data_card(tmp_path / "none.csv", tmp_path / "c.csv")
    assert not (tmp_path / "c.json").exists()


def test_scans_that_weights_were_trained_on_are_not_scored(study: Path) -> None:
    manifest = read_manifest(study / "manifest.csv")
    card = {"trained_on": describe_training_data(study / "manifest.csv", manifest)}
    assert len(card["trained_on"]["scans"]) == 2
    refuse_trained_on(card, manifest, "test")
    refuse_trained_on({"trained_on": None}, manifest, "train")
    swapped = manifest.assign(split=manifest["split"].map({"train": "test", "test": "train", "val": "val"}))
    with pytest.raises(InputError, match="is in split 'test', but these weights were trained or chosen on it"):
        refuse_trained_on(card, swapped, "test")
    # nor are those that the weights had seen which training began with
    tuned = {"trained_on": {"scans": [], "initial": {"trained_on": {"scans": [], "initial": card}}}}
    refuse_trained_on(tuned, manifest, "test")
    with pytest.raises(InputError, match="these weights were trained or chosen on it"):
        refuse_trained_on(tuned, swapped, "test")
    only = describe_training_data(
        study / "manifest.csv", manifest, manifest[manifest["split"] == "val"].to_dict("records")
    )
    assert set(only["scans"]).isdisjoint(card["trained_on"]["scans"])
