"""What differs between two bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.sharing.bundle_files import MANIFEST, MODEL_CARD, bundle_files, file_sha256, read_configs
from bonemonai.sharing.config_entries import config_entries

_GENERATED = (MANIFEST, MODEL_CARD)  # say what the other files say
_SHOWN = 60  # characters of a value
_KINDS = ("{...}", "[...]")


def diff_bundles(one: Path, other: Path) -> list[str]:
    """Compare two bundles; of JSON files value by value, of others by sha256.

    Args:
        one: folder of a bundle.
        other: folder of another.

    Returns:
        A line a difference: ``-`` only in the first, ``+`` only in the second, ``~`` changed. The list and the model
        card that packing writes are passed over, and so are wheels.

    Raises:
        InputError: if one is no bundle.
    """
    files, others = (
        {name: path for name, path in bundle_files(each).items() if _counts(name)} for each in (one, other)
    )
    configs, other_configs = read_configs(files), read_configs(others)
    lines: list[str] = []
    for name in sorted({*files, *others}):
        if name not in files or name not in others:
            lines.append(f"{'+' if name in others else '-'} {name}")
        elif name in configs:
            lines += _values(name, configs[name], other_configs[name])
        else:
            digests = [file_sha256(each[name]) for each in (files, others)]
            if digests[0] != digests[1]:
                lines.append(f"~ {name}: sha256 {digests[0][:12]} -> {digests[1][:12]}")
    return lines


def diff_tensors(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """Compare weights of two bundles, key by key.

    Args:
        one: file to what :func:`bonemonai.sharing.describe_weights` says, of the first bundle.
        other: of the second.

    Returns:
        A line a key that is missing, or of another shape or type, and a line a file whose values alone differ.
    """
    lines: list[str] = []
    for name in sorted(one.keys() & other.keys()):
        left, right = ({key: _tensor(value) for key, value in each[name]["tensors"].items()} for each in (one, other))
        found = _compare(f"{name}: ", left, right)
        if not found and one[name]["digest"] != other[name]["digest"]:
            found = [f"~ {name}: same keys, shapes and types, other values"]
        lines += found
    return lines


def _counts(name: str) -> bool:
    return name not in _GENERATED and not name.startswith("wheels/")


def _values(name: str, one: Any, other: Any) -> list[str]:
    return _compare(f"{name}: ", _leaves(one), _leaves(other))


def _leaves(content: Any) -> dict[str, str]:
    """Values by id, as JSON, because 1 and true are not the same; of what holds others only its kind."""
    leaves = {}
    for entry in config_entries({"": {"": content}}):
        is_inner = isinstance(entry.value, Mapping | list) and bool(entry.value)
        value = _KINDS[isinstance(entry.value, list)] if is_inner else json.dumps(entry.value)
        leaves[entry.id.removeprefix("::")] = value
    return leaves


def _compare(prefix: str, left: Mapping[str, str], right: Mapping[str, str]) -> list[str]:
    lines = []
    for key in [*left, *(key for key in right if key not in left)]:
        if key in left and key in right:
            if left[key] != right[key]:
                lines.append(f"~ {prefix}{key}: {_short(left[key])} -> {_short(right[key])}")
        elif {**left, **right}[key] not in _KINDS:  # what it holds is told
            sign, value = ("-", left[key]) if key in left else ("+", right[key])
            lines.append(f"{sign} {prefix}{key} = {_short(value)}")
    return lines


def _tensor(value: Mapping[str, Any]) -> str:
    return f"{value['dtype']} {' x '.join(map(str, value['shape'])) or 'scalar'}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
