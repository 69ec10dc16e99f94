"""Which rows of a manifest have a label, and whether it is truth or a model's opinion."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.json_file import read_json
from bonemonai.data.manifest import manifest_items
from bonemonai.data.volume import split_part
from bonemonai.errors import InputError

logger = logging.getLogger(__name__)

ORIGIN_COLUMN = "label_origin"


def labelled_items(manifest: pd.DataFrame, split: str = "train") -> list[dict[Hashable, Any]]:
    """Rows of a split that have a label, of whatever origin: what a model may be trained on.

    Args:
        manifest: as :func:`bonemonai.data.read_manifest` returns it.
        split: "train", "val" or "test".

    Raises:
        InputError: if no row has one.
    """
    rows = manifest_items(manifest, split)
    labelled = [row for row in rows if row.get("label", "")]
    if not labelled:
        raise InputError("manifest", f"no row of split {split!r} has a label.")
    predicted = sum(bool(row.get(ORIGIN_COLUMN)) for row in labelled)
    logger.info(
        "%s: %d rows labelled by hand, %d by a model, %d without a label left out.",
        split, len(labelled) - predicted, predicted, len(rows) - len(labelled),
    )  # fmt: skip
    return labelled


def truth_items(manifest: pd.DataFrame, split: str) -> list[dict[Hashable, Any]]:
    """Rows of a split, all of whose labels are truth: what a model may be scored against.

    A label that a model predicted is refused, whether the manifest says so (column ``label_origin``) or the label's
    own files do: results of this package name the weights they were made with.

    Args:
        manifest: as :func:`bonemonai.data.read_manifest` returns it.
        split: "train", "val" or "test".

    Raises:
        InputError: if a row has no label, or a label is a prediction.
    """
    rows = manifest_items(manifest, split)
    for row in rows:
        label = row.get("label", "")
        if not label:
            raise InputError(row["image"], f"is in split {split!r} without a label, and so cannot be scored.")
        origin = row.get(ORIGIN_COLUMN) or predicted_by(label)
        if origin:
            raise InputError(
                label,
                f"was predicted ({str(origin)[:20]}...), and is no truth: only labels made by hand can be scored.",
            )
    return rows


def predicted_by(path: str | Path) -> str:
    """Say which weights made a mask, as ``model:<sha256>``; nothing where no model did, or nothing is known.

    Args:
        path: of a mask; a result of this package carries its provenance, and ``run.json`` beside copies does.
    """
    folder = split_part(path)[0]
    if folder.is_dir():
        attributes: Any = (read_json(folder / "zarr.json") or {}).get("attributes") or {}
        origin = _origin(attributes.get("bonemonai"))
        if origin:
            return origin
    record = read_json(folder.parent / "run.json")
    return _origin(record) if record and folder.name in record.get("files", []) else ""


def _origin(provenance: Mapping[str, Any] | None) -> str:
    weights = (provenance or {}).get("weights")
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    return f"model:{digest}" if digest else ""
