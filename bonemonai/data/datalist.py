"""MONAI's and the Medical Segmentation Decathlon's datalists, as rows of a manifest."""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from bonemonai.errors import InputError

_SPLIT_OF = {
    "training": "train",
    "train": "train",
    "validation": "val",
    "val": "val",
    "test": "test",
    "testing": "test",
}


def parse_datalist(path: Path) -> pd.DataFrame:
    """Read a datalist: an object of lists of images, each a path or an object with ``image``.

    Args:
        path: the JSON file.

    Returns:
        One row an image, all columns of type str, the index being the image's number in the file, from 1.

    Raises:
        InputError: if the file is no such object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_unique)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"is no valid JSON: {error}") from error
    lists = {key: value for key, value in content.items() if key in _SPLIT_OF} if isinstance(content, dict) else {}
    if not lists or not all(isinstance(items, list) for items in lists.values()):
        raise InputError(path, "is no datalist: lists named training, validation or test are due.")
    rows = [_row(item, _SPLIT_OF[key], path) for key, items in lists.items() for item in items]
    columns = list(dict.fromkeys(["patient", "image", *(name for row in rows for name in row)]))
    values = [[row.get(name, "") for name in columns] for row in rows]
    return pd.DataFrame(values, columns=columns, index=range(1, len(rows) + 1), dtype=object)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _row(item: Any, split: str, path: Path) -> dict[str, str]:
    item = {"image": item} if isinstance(item, str) else item
    if not isinstance(item, dict) or not isinstance(item.get("image"), str):
        raise InputError(path, f"names no image in {str(item)[:80]!r}.")
    nested = [name for name, value in item.items() if not isinstance(value, str | int | float)]
    if nested:
        raise InputError(path, f"gives {nested[0]!r} of {item['image']!r} as a list or object; text is due.")
    row = {name: str(value).strip() for name, value in item.items()}
    # the lists' own convention: one file a patient
    row.setdefault("patient", PurePosixPath(row["image"]).name.split(".")[0])
    return {**row, "split": split}
