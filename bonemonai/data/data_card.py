"""Data cards: where a data set comes from and under which licence it may be used."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.json_file import write_json
from bonemonai.data.manifest import distinct, manifest_items
from bonemonai.errors import InputError

NOT_A_DEVICE = "Research software, not a medical device: not for diagnosis, not for clinical use."


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


def scan_digests(items: Iterable[Mapping[Hashable, Any]]) -> list[str]:
    """Tell scans apart without naming them: the first digits of their sampled sha256, sorted.

    Args:
        items: rows of a manifest.
    """
    return sorted(fingerprint(image)["sha256_sampled"][:16] for image in {row["image"] for row in items})


def refuse_trained_on(weights: Mapping[str, Any], manifest: pd.DataFrame, split: str) -> None:
    """Raise if weights were trained on a scan that they are now to be scored or calibrated on.

    Args:
        weights: their card, see :func:`bonemonai.engines.weights_card`; one that does not say is not refused.
        manifest: with a split.
        split: to be scored.

    Raises:
        InputError: naming a scan.
    """
    known: set[str] = set()
    card: Mapping[str, Any] | None = weights
    while card:  # and weights that these began with, and those that they began with
        trained = card.get("trained_on") or {}
        known |= set(trained.get("scans") or ())
        if split == "test":  # whose scans chose the weights' epoch are no test either
            known |= set(trained.get("scans_validated_on") or ())
        card = trained.get("initial")
    items = {row["image"]: row for row in (manifest_items(manifest, split) if known else ())}
    for row in items.values():
        if scan_digests([row])[0] in known:
            raise InputError(
                row["image"], f"is in split {split!r}, but these weights were trained or chosen on it; another fold?"
            )


def describe_training_data(
    manifest_path: str | Path, manifest: pd.DataFrame, items: Iterable[Mapping[Hashable, Any]] | None = None
) -> dict[str, Any]:
    """Say what a model was trained on, for its card and every report; no patient is named.

    Args:
        manifest_path: of the CSV file, beside which the data card lies.
        manifest: its content, with a split.
        items: the rows that are trained on; all of split "train" by default.
    """
    card = read_data_card(manifest_path)
    described = {
        "data": card.get("name", "not described: no data card beside the manifest"),
        "kind": card.get("kind", "unknown"),
        "licence": card.get("licence"),
        "patients": {
            split: len(distinct(rows["patient"].tolist())) for split, rows in manifest.groupby("split", sort=False)
        },
        "scans": scan_digests(manifest_items(manifest, "train") if items is None else items),
    }
    if "val" in set(manifest["split"]):
        described["scans_validated_on"] = scan_digests(manifest_items(manifest, "val"))
    for name in ("masks_predicted_by", "preparation"):
        if card.get(name):
            described[name] = card[name]
    if "leakage" in manifest:
        described["leakage"] = ", ".join(distinct(manifest["leakage"].tolist()))
    return described
