"""Options that a config hands to what runs other configs: they must not be made up while it runs."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

from bonemonai.sharing.allowed_names import is_runner
from bonemonai.sharing.config_entries import ConfigEntry
from bonemonai.sharing.expression_text import (
    REFERENCES,
    UnsafeExpressionError,
    absolute_references,
    parse_expression,
)

# arguments to the folder of the bundle whose files they name; the others become overrides
_ARGUMENTS = {"baseline": "", "cells": "", "options": "", "values": "", "weights": "", "evaluate": "configs",
              "train": "configs"}  # fmt: skip
_CALLS = ("bool", "dict", "float", "int", "len", "list", "pathlib.Path", "range", "str", "tuple")
_STORED = "bonemonai.engines.stored_option"
_ROOT, _ROOT_IS = f"pathlib.Path({REFERENCES}['bundle_root'])", "$bonemonai.engines.find_bundle_root()"


def check_runners(entries: Sequence[ConfigEntry]) -> Iterator[tuple[ConfigEntry, UnsafeExpressionError]]:
    """Find options of cross-validations, sweeps and matrices that are more than values that stand in the configs.

    These run config files with the options that they are given, and an option may be an expression, or a component: a
    text that is put together while the first config runs would be evaluated by the second, and no scan would see it.

    Args:
        entries: all values of a bundle's JSON files.

    Yields:
        A value, and what it does.
    """
    runners = sorted({entry.id for entry in entries if isinstance(entry.value, Mapping) and _runs(entry.value)})
    by_id: dict[str, list[ConfigEntry]] = defaultdict(list)
    for entry in entries:
        by_id[entry.id].append(entry)
        by_id[f"_meta_::{entry.id}"].append(entry)  # where MONAI puts the metadata
    waiting = [(f"{runner}::{argument}", place) for runner in runners for argument, place in _ARGUMENTS.items()]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, place = waiting.pop()
        for entry in () if (name, place) in seen else by_id.get(name, ()):
            try:
                waiting += _mentioned(entry, place)
            except UnsafeExpressionError as error:
                yield entry, error
        seen.add((name, place))
    for entry in entries if runners else ():
        if isinstance(entry.value, str) and entry.value.startswith("%"):
            yield entry, UnsafeExpressionError("copies a value, beside what runs other configs")


def _runs(component: Mapping[str, Any]) -> bool:
    return isinstance(component.get("_target_"), str) and is_runner(component["_target_"])


def _mentioned(entry: ConfigEntry, place: str) -> list[tuple[str, str]]:
    """Ids that a value is made of, each with the folder whose files it may name."""
    value = entry.value
    if isinstance(value, Mapping | list):
        if isinstance(value, Mapping) and "_target_" in value:
            _refuse("is a component, among the options of what runs other configs")
        keys: Any = value if isinstance(value, Mapping) else range(len(value))
        return [(f"{entry.id}::{key}", place) for key in keys]
    if not isinstance(value, str) or value == _ROOT_IS:
        return []
    text = absolute_references(value, entry.id)
    if text.startswith("@"):
        return [(text[1:], place)]
    if text.startswith("$"):
        statement = parse_expression(text[1:])
        _check_place(statement, place)
        return _references(statement, place)
    if place and (entry.id == "bundle_root" or not re.fullmatch(r"[\w-]*", text)):
        _refuse(f"is a file, which only those in {place} may be")
    return []


def _references(statement: ast.stmt, place: str) -> list[tuple[str, str]]:
    """Ids that an expression refers to, if it only puts together what stands in configs and in cards of weights."""
    found: list[tuple[str, str]] = []
    cards: list[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.DictComp) or (
            isinstance(node, ast.Dict) and not all(key is None or isinstance(key, ast.Constant) for key in node.keys)
        ):
            _refuse("makes up names of options")
        if isinstance(node, ast.Call) and ast.unparse(node.func) == _STORED and node.args:
            cards.append(node.args[0])
            found.append((_reference(node.args[0]) or _refuse("reads an option of some file"), "models"))
        elif isinstance(node, ast.Call):
            _check_call(node)
        reference = _reference(node)
        if reference and not any(node is card for card in cards):
            found.append((reference, place))
    return found


def _reference(node: ast.AST) -> str:
    if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name) or node.value.id != REFERENCES:
        return ""
    return str(getattr(node.slice, "value", ""))


def _check_place(statement: ast.stmt, place: str) -> None:
    """A config that is run, or a card that is read, is one of the bundle's, which are all checked."""
    for node in ast.walk(statement) if place else ():
        is_root = isinstance(node, ast.Call) and ast.unparse(node.func) == "pathlib.Path"
        is_first = isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and not isinstance(node.left, ast.BinOp)
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if (
            (is_root and ast.unparse(node) != _ROOT)
            or (is_first and not ast.unparse(node).startswith(f"{_ROOT} / '{place}'"))
            or not re.fullmatch(r"[\w.-]*", text)
        ):
            _refuse(f"is a file, which only those in {place} may be")


def _check_call(node: ast.Call) -> None:
    name = ast.unparse(node.func)
    if name not in _CALLS:
        _refuse(f"calls {name} for the options of what runs other configs")
    for argument in node.args if name == "dict" else ():
        is_dictionary = isinstance(argument, ast.Call) and ast.unparse(argument.func) == "dict"
        if not (_reference(argument) or is_dictionary or isinstance(argument, ast.Dict)):
            _refuse("makes up names of options")


def _refuse(what: str) -> NoReturn:
    raise UnsafeExpressionError(what)
