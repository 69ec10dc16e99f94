from __future__ import annotations

import posixpath
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.sharing.safe_names import colliding_names, unsafe_name


@pytest.mark.parametrize(
    "name",
    [
        "", "/etc/passwd", "../x", "a/../../x", "a/..", "a//b", "./a", "a/.", "a\\b", "..\\x", "C:/x", "c:x",
        "a:stream", "a\0b", "a\nb", "a\x1b[2Jb", "a\u202etxt", "con", "CON.txt", "a/aux/b", "nul", "com1", "a.", "a /b",
        " a", "a/b.", "x" * 201, "/".join("abcdefghijklmn"), "\udc80",
    ],
)  # fmt: skip
def test_unsafe(name: str) -> None:
    assert unsafe_name(name) is not None


@pytest.mark.parametrize(
    "name", ["LICENSE", "configs/train.json", ".hidden", "a b/c", "..a", "ä/ö.txt", "console", "com10"]
)
def test_safe(name: str) -> None:
    assert unsafe_name(name) is None


@given(st.text(alphabet="ab./\\: \x00~C", max_size=12) | st.text(max_size=12))
def test_a_safe_name_stays_in_its_folder(name: str) -> None:
    if unsafe_name(name) is None:
        joined = posixpath.normpath(posixpath.join("/root", name))
        assert joined == "/root/" + name
        assert "\\" not in name


@pytest.mark.parametrize(
    "names",
    [
        ["a", "a"], ["a", "A"], ["configs/x", "Configs/y"], ["a", "a/b"], ["a/b", "a"], ["x/A/b", "x/a"], ["ß", "SS"],
        ["e\u0301", "\u00e9"], ["K", "\u212a"],
    ],
)  # fmt: skip
def test_colliding(names: list[str]) -> None:
    assert colliding_names(names) is not None


@given(st.lists(st.text(alphabet="aAbBé/e\u0301", min_size=1, max_size=5), max_size=6))
def test_names_that_do_not_collide_are_apart_on_any_system(names: list[str]) -> None:
    names = [name for name in names if unsafe_name(name) is None]
    if colliding_names(names) is None:
        folded = [unicodedata.normalize("NFC", name).casefold() for name in names]
        assert len(set(folded)) == len(names)
        assert not any(one != two and two.startswith(one + "/") for one in folded for two in folded)
