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
    """Rows of a split that have a label, all of them truth: what a model may be scored against.

    A label that a model predicted is refused, whether the manifest says so (column ``label_origin``) or the label's
    own files do: results of this package name the weights they were made with. Rows without a label are left out, and
    counted in the log.

    Args:
        manifest: as :func:`bonemonai.data.read_manifest` returns it.
        split: "train", "val" or "test".

    Raises:
        InputError: if no row has a label, or a label is a prediction.
    """
    rows = manifest_items(manifest, split)
    labelled = [row for row in rows if row.get("label", "")]
    if not labelled:
        raise InputError("manifest", f"no row of split {split!r} has a label, so that nothing can be scored.")
    for row in labelled:
        refuse_predicted(row["label"], str(row.get(ORIGIN_COLUMN) or ""))
    if len(labelled) < len(rows):
        logger.warning(
            "%s: %d of %d rows have no label and are not scored.", split, len(rows) - len(labelled), len(rows)
        )
    return labelled


def refuse_predicted(label: str | Path, origin: str = "") -> None:
    """Raise if a label was predicted.

    Args:
        label: the mask.
        origin: what the manifest says of it.

    Raises:
        InputError: if it is no truth.
    """
    origin = origin or predicted_by(label)
    if origin:
        raise InputError(
            label, f"was predicted ({origin[:20]}...), and is no truth: only labels made by hand can be scored."
        )


def predicted_by(path: str | Path) -> str:
    """Say which weights made a mask, as ``model:<sha256>``; nothing where no model did, or nothing is known.

    Args:
        path: of a mask, or of a part of it. A Zarr result carries its provenance, and ``run.json`` beside results and
            their copies does; of a copy that was moved away from it nothing is known.
    """
    whole = split_part(path)[0].absolute()
    for place in [whole, *whole.parents][:4]:
        attributes: Any = (read_json(place / "zarr.json") or {}).get("attributes") or {}
        record = read_json(place.parent / "run.json") or {}
        origin = _origin(attributes.get("bonemonai")) or (
            _origin(record) if place.name in record.get("files", []) else ""
        )
        if origin:
            return origin
    return ""


def _origin(provenance: Mapping[str, Any] | None) -> str:
    weights = provenance.get("weights") if isinstance(provenance, dict) else None
    digest = weights.get("sha256") if isinstance(weights, dict) else None
    return f"model:{digest}" if digest else ""
