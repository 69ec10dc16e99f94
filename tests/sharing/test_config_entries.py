from __future__ import annotations

import json

import pytest

from bonemonai.errors import InputError
from bonemonai.sharing.config_entries import config_entries, parse_json


def test_ids_are_monais() -> None:
    config = {"a": {"b": [1, {"c": 2}]}, "x#y::0": 3, "+z": {}}
    entries = {entry.id: entry.value for entry in config_entries({"f": config})}
    assert entries == {
        "a": {"b": [1, {"c": 2}]}, "a::b": [1, {"c": 2}], "a::b::0": 1, "a::b::1": {"c": 2}, "a::b::1::c": 2,
        "x::y::0": 3, "z": {},
    }  # fmt: skip


def test_an_entry_knows_its_component() -> None:
    entries = {entry.id: entry for entry in config_entries({"f": {"a": {"_target_": "X", "b": 1}, "a#c": 2, "d": [3]}})}
    assert not entries["a::b"].is_of_overlay
    assert entries["a::b"].key == "b"
    assert entries["a::c"].is_of_overlay
    assert entries["d::0"].is_of_overlay


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1, "a": 2}', "a key stands twice"),
        (b'{"a": {"b": 1, "b": 1}}', "a key stands twice"),
        (b"{", "is no valid JSON"),
        (b"\xff", "is no valid JSON"),
        (b"\xef\xbb\xbf{}", "is no valid JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_json_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=f"^f.json: .*{reason}"):
        parse_json("f.json", content)


def test_configs_nested_without_end_are_refused() -> None:
    with pytest.raises(InputError, match="more than 50 levels"):
        config_entries({"f": {"a": json.loads("[" * 60 + "]" * 60)}})
