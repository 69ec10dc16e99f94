"""JSON files that are there whole, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.data.atomic import atomic_path


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write, indented, under a temporary name that becomes the final one.

    Args:
        path: the file.
        content: JSON values.
    """
    with atomic_path(path) as partial:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read an object, or None if the file is not there, is damaged, or holds none.

    Args:
        path: the file.

    Example:
        >>> read_json(Path("no such file.json")) is None
        True
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None
