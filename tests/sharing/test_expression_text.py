from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from monai.bundle import ConfigParser, ReferenceResolver

from bonemonai.sharing.expression_text import (
    UnsafeExpressionError,
    absolute_references,
    check_text,
    imported_name,
    parse_expression,
    with_references,
)

PIECES = st.lists(
    st.sampled_from(["@", "#", "::", ":", "a", "net", "1", "'", " ", "+", "(", "@a", "%", "[0]", "."]), max_size=12
)


@given(PIECES)
def test_references_are_replaced_as_monai_does_it(pieces: list[str]) -> None:
    text = "$" + "".join(pieces)
    refs = {found: None for found in ReferenceResolver.match_refs_pattern(text)}
    assert with_references(text) == ReferenceResolver.update_refs_pattern(text, refs)


@given(PIECES, st.sampled_from(["a", "a::b", "a::0::c"]))
def test_relative_references_are_resolved_as_monai_does_it(pieces: list[str], place: str) -> None:
    text = "".join(pieces)
    try:
        expected = ConfigParser.resolve_relative_ids(place, text)
    except ValueError:
        with pytest.raises(UnsafeExpressionError, match="above the config"):
            absolute_references(text, place)
    else:
        assert absolute_references(text, place) == expected


def test_names_of_levels_do_not_become_code() -> None:
    with pytest.raises(UnsafeExpressionError, match="no plain word"):
        absolute_references("$@#x]", "a or evil()[b::0")


def test_quotes_within_quotes_are_parsed_as_later_pythons_do() -> None:
    statement = parse_expression("'a' + f'{@net}.pt'")
    assert ast.unparse(statement).count("__local_refs[") == 1
    for text in ("'@net'", "f'{\"@net\"}{@x}'", "__id_0_ + f'{@net}'"):
        with pytest.raises(UnsafeExpressionError, match="is no expression"):
            parse_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "a b", "a; b", "a = 1", "a: int = 1", "del a", "assert a", "for a in b: a", "with a: b", "def a(): b",
        "raise a", "while a: b", "class a: b", "import a; b", "return a", "a" * 10_001, "(" * 400, "\0", "pass",
        "global a", " 1", "not " * 3000 + "a",
    ],
)  # fmt: skip
def test_what_is_no_single_expression_is_refused(text: str) -> None:
    with pytest.raises(UnsafeExpressionError, match=r"^is (no|not one|too)"):
        parse_expression(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import numpy as np", ("np", "numpy")),
        ("import torch.nn", ("torch.nn", "torch.nn")),
        ("from pathlib import Path as P", ("P", "pathlib.Path")),
    ],
)
def test_imports(text: str, expected: tuple[str, str]) -> None:
    statement = parse_expression(text)
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    assert imported_name(statement) == expected


@pytest.mark.parametrize(
    "text",
    [
        "import subprocess", "import sys", "import shutil", "import socket", "import importlib", "import pickle",
        "import numpy, os", "from . import a", "from torch import *", "from torch import _C", "import torch._dynamo",
        "import builtins", "import os as __builtins__", "import os as _os", "from ctypes import CDLL", "import scripts",
    ],
)  # fmt: skip
def test_refused_imports(text: str) -> None:
    statement = parse_expression(text)
    assert isinstance(statement, ast.Import | ast.ImportFrom)
    with pytest.raises(UnsafeExpressionError, match=r"imports|binds"):
        imported_name(statement)


@pytest.mark.parametrize(
    "text", ["a$b", "x_target_", "/root/.bashrc", "/etc/cron.d/x", "~/x", "../x", "a/../../b", "C:\\x", "file:///x"]
)
def test_texts_that_are_refused(text: str) -> None:
    with pytest.raises(UnsafeExpressionError, match=r"could become|outside the bundle"):
        check_text(text)


@pytest.mark.parametrize(
    "text", ["", "/", "/imagesTr/*.nii.gz", "eval", "a/b", "...", "1.5", "/workspace/data", "/etcetera"]
)
def test_texts_that_are_not(text: str) -> None:
    check_text(text)
