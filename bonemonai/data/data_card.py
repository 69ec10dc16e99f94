"""Data cards: where a data set comes from and under which licence it may be used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.json_file import write_json
from bonemonai.data.manifest import distinct
from bonemonai.errors import InputError


def read_data_card(manifest: str | Path) -> dict[str, Any]:
    """Read the JSON card that lies beside a manifest under the same name.

    Args:
        manifest: path of the CSV file.

    Returns:
        The card; empty where there is none.

    Raises:
        InputError: if the card is no JSON object.
    """
    path = Path(manifest).with_suffix(".json")
    if not path.is_file():
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(path, f"is no valid JSON: {error}") from error
    if not isinstance(card, dict):
        raise InputError(path, "is no JSON object.")
    return card


def copy_data_card(source: str | Path, target: str | Path, **entries: Any) -> None:
    """Put the card of a manifest beside another one that was made from it.

    Args:
        source: the manifest that was read.
        target: the manifest that was written.
        entries: said besides; JSON values.
    """
    card = {**read_data_card(source), **entries}
    if card:
        write_json(Path(target).with_suffix(".json"), card)


def describe_training_data(manifest_path: str | Path, manifest: pd.DataFrame) -> dict[str, Any]:
    """Say what a model was trained on, for its card and every report; no patient is named.

    Args:
        manifest_path: of the CSV file, beside which the data card lies.
        manifest: its content, with a split.
    """
    card = read_data_card(manifest_path)
    described = {
        "data": card.get("name", "not described: no data card beside the manifest"),
        "kind": card.get("kind", "unknown"),
        "licence": card.get("licence"),
        "patients": {
            split: len(distinct(rows["patient"].tolist())) for split, rows in manifest.groupby("split", sort=False)
        },
    }
    if card.get("masks_predicted_by"):
        described["masks_predicted_by"] = card["masks_predicted_by"]
    if "leakage" in manifest:
        described["leakage"] = ", ".join(distinct(manifest["leakage"].tolist()))
    return described
