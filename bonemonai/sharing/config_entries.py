"""Configs as a flat list: every value with the id that MONAI gives it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bonemonai.errors import InputError

_DEEPEST = 50  # levels


@dataclass(frozen=True)
class ConfigEntry:
    """One value of a config, of any type.

    Args:
        file: of the bundle.
        id: with ``::`` between the levels, also where an overlay writes ``#``, and without its ``+``.
        value: as it stands there.
        holder: dictionary that it stands in, if any; None where its id leads into another one.
        is_merged: whether it is added (``+id``) to what stands under the same id in another file.
    """

    file: str
    id: str
    value: Any
    holder: Mapping[str, Any] | None = None
    is_merged: bool = False

    @property
    def key(self) -> str:
        """Last level of the id."""
        return self.id.rpartition("::")[2]

    @property
    def is_of_overlay(self) -> bool:
        """Whether the rest of the component that this belongs to may stand in another file."""
        return self.is_merged or self.holder is None or "_target_" not in self.holder


def parse_json(file: str, content: bytes) -> Any:
    """Parse strictly: a key that stands twice is refused, because readers differ in which they take.

    Args:
        file: to name in a refusal.
        content: bytes of the file.

    Raises:
        InputError: if it is no JSON in UTF-8.
    """
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else error
        raise InputError(file, f"is no valid JSON: {reason}.") from error


def config_entries(configs: Mapping[str, Any]) -> list[ConfigEntry]:
    """Every value of configs, dictionaries and lists before what they hold.

    Args:
        configs: file to parsed content.

    Raises:
        InputError: if one is nested deeper than any config is.
    """
    entries: list[ConfigEntry] = []
    for file, content in configs.items():
        holder = content if isinstance(content, Mapping) else None
        for key, value in _items(content):
            # where files are merged, the keys of the top level may be ids themselves, to be added to
            name = key.removeprefix("+").replace("#", "::")
            entries += _walk(_entry(file, name, key, value, holder, is_merged=key.startswith("+")), 1)
    return entries


def _walk(entry: ConfigEntry, depth: int) -> Iterator[ConfigEntry]:
    if depth > _DEEPEST:
        raise InputError(entry.file, f"is nested more than {_DEEPEST} levels deep.")
    yield entry
    holder = entry.value if isinstance(entry.value, Mapping) else None
    for key, value in _items(entry.value):
        name = f"{entry.id}::{key.replace('#', '::')}"
        yield from _walk(_entry(entry.file, name, key, value, holder, is_merged=entry.is_merged), depth + 1)


def _entry(
    file: str, name: str, key: str, value: Any, holder: Mapping[str, Any] | None, *, is_merged: bool
) -> ConfigEntry:
    return ConfigEntry(file, name, value, None if "#" in key or "::" in key else holder, is_merged)


def _items(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from value.items()
    elif isinstance(value, list):
        yield from ((str(number), element) for number, element in enumerate(value))


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        raise ValueError("a key stands twice in one object")
    return content
