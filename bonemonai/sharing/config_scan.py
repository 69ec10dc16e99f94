"""What configs would run: every `_target_` against the list, every expression against the grammar, nothing executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from bonemonai.sharing.allowed_names import DEFAULT_ALIASES, full_target, may_be_called
from bonemonai.sharing.bundle_files import METADATA
from bonemonai.sharing.config_entries import ConfigEntry, config_entries
from bonemonai.sharing.expression_check import check_argument, check_expression
from bonemonai.sharing.expression_text import (
    UnsafeExpressionError,
    absolute_references,
    check_text,
    imported_name,
    parse_expression,
)
from bonemonai.sharing.runner_check import check_runners

# arguments that MONAI takes for a class to look up, and what such classes are called
_CLASSES = {"reader": "reader", "writer": "writer", "merger_cls": "merger"}


@dataclass(frozen=True)
class Finding:
    """What a config may not do.

    Args:
        file: of the bundle.
        id: of the value.
        text: the value, shortened.
        reason: what it does.
    """

    file: str
    id: str
    text: str
    reason: str


@dataclass(frozen=True)
class ConfigScan:
    """What a scan saw.

    Args:
        targets: number of ``_target_``.
        expressions: number of expressions.
        findings: what was refused.
    """

    targets: int
    expressions: int
    findings: list[Finding]


def scan_configs(configs: Mapping[str, Any]) -> ConfigScan:
    """Look at all that MONAI would locate, import or evaluate in a bundle's JSON files, merged in any order.

    Not only expressions run code: a ``_target_`` names any function of any module, an argument such as LoadImage's
    ``reader`` is looked up by its name, ``%`` brings in values of other files, and ``_desc_`` is evaluated as all else.

    Args:
        configs: file to parsed content; of all JSON files, because a config may name any of them.
    """
    entries = config_entries(configs)
    aliases: dict[str, list[str]] = {name: [module] for name, module in DEFAULT_ALIASES.items()}
    refused: dict[tuple[str, str], Finding] = {}
    # imports first: an expression may use what a later list, or another file, imports
    for check in (_collect_import, _check_entry):
        for entry in entries:
            try:
                check(entry, aliases)
            except UnsafeExpressionError as error:
                refused.setdefault((entry.file, entry.id), _finding(entry, error))
    for entry, reason in check_runners(entries):
        refused.setdefault((entry.file, entry.id), _finding(entry, reason))
    targets = sum(entry.key == "_target_" for entry in entries)
    return ConfigScan(targets, sum(_is_expression(entry.value) for entry in entries), list(refused.values()))


def _collect_import(entry: ConfigEntry, aliases: dict[str, list[str]]) -> None:
    statement = _import_of(entry)
    if statement is None:
        return
    if entry.id.split("::")[0] != "imports" or entry.id.count("::") > 1 or entry.file == METADATA:
        _refuse("imports outside the list imports")
    alias, module = imported_name(statement)
    if module not in aliases.setdefault(alias, []):
        aliases[alias].append(module)


def _import_of(entry: ConfigEntry) -> ast.Import | ast.ImportFrom | None:
    if not _is_expression(entry.value) or "import" not in entry.value:
        return None
    statement = parse_expression(entry.value[1:])
    return statement if isinstance(statement, ast.Import | ast.ImportFrom) else None


def _check_entry(entry: ConfigEntry, aliases: dict[str, list[str]]) -> None:
    if entry.key == "_target_":
        _check_target(entry)
    elif entry.key == "_mode_":
        _check_mode(entry)
    elif entry.key in _CLASSES:
        _check_class(entry)
    check_argument(entry.key, entry.value)
    if isinstance(entry.value, str):
        _check_text(entry, aliases)


def _check_text(entry: ConfigEntry, aliases: Mapping[str, Sequence[str]]) -> None:
    text = absolute_references(entry.value, entry.id)
    check_text(text.removeprefix("$"))
    if text.startswith("%") and re.search(r"\.(?:json|ya?ml)", text, re.IGNORECASE):
        _refuse("takes a value from another file")
    if text.startswith(("@", "%")) and text[1:].split("::")[0] in ("", "imports"):
        _refuse("refers to the whole config, or to its imports")
    if text.startswith("$") and _import_of(entry) is None:
        check_expression(text[1:], aliases)


def _check_target(entry: ConfigEntry) -> None:
    if not isinstance(entry.value, str) or entry.value.startswith(("@", "%", "$")):
        _refuse("is made up when it runs")
    target = full_target(entry.value)
    if target is None:
        _refuse("is not on the list")
    if entry.is_of_overlay and not may_be_called(target):
        _refuse("is put into a component whose arguments stand elsewhere")


def _check_mode(entry: ConfigEntry) -> None:
    mode = entry.value.strip() if isinstance(entry.value, str) else None
    if mode not in ("default", "callable"):
        _refuse("is neither default nor callable")
    target = None if entry.is_of_overlay else full_target(str((entry.holder or {})["_target_"]))
    if mode == "callable" and (target is None or not may_be_called(target)):
        _refuse("hands on a class whose arguments are not seen")


def _check_class(entry: ConfigEntry) -> None:
    """A text is looked up as the name of a class, first among MONAI's, then anywhere."""
    target = None if entry.is_of_overlay else (entry.holder or {}).get("_target_")
    of_package = isinstance(target, str) and target.startswith("bonemonai.")
    for value in entry.value if isinstance(entry.value, list) else [entry.value]:
        if not isinstance(value, str) or (of_package and value.startswith(("@", "$"))):
            continue
        if not value.isidentifier() or not value.lower().endswith(_CLASSES[entry.key]) or full_target(value) is None:
            _refuse("is looked up as the name of a class, and is none of MONAI's")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("$")


def _finding(entry: ConfigEntry, error: UnsafeExpressionError) -> Finding:
    text = str(entry.value)
    return Finding(entry.file, entry.id, text if len(text) <= 90 else text[:87] + "...", str(error))


def _refuse(what: str) -> NoReturn:
    raise UnsafeExpressionError(what)
