"""Expressions of configs as text: references replaced and parsed as MONAI does it, never evaluated."""

from __future__ import annotations

import ast
import re
import warnings

from bonemonai.sharing.allowed_names import is_allowed, is_module

REFERENCES = "__local_refs"  # MONAI's name of what `@id` is replaced by
_PLACEHOLDER = "__id_"
_LONGEST = 10_000  # characters
# folders of the system and of users; others, such as /workspace, are where somebody's data lay
_ELSEWHERE = re.compile(
    r"/(?:bin|boot|dev|etc|home|lib\w*|opt|proc|root|run|sbin|srv|sys|tmp|usr|var|Applications|Library|System|Users)(?:/|$)|"
    r"~|[A-Za-z]:[/\\]|\\\\|file:"
)


class UnsafeExpressionError(ValueError):
    """An expression, or another value of a config, does what a config may not; the message says what."""


def with_references(text: str) -> str:
    """Replace ``@id#x::y`` by what MONAI replaces it by, in the same textual way, inside quotes as well.

    Args:
        text: an expression, without the leading ``$``.

    Example:
        >>> with_references("@net#0.parameters()")
        "__local_refs['net::0'].parameters()"
    """
    text = text.replace("#", "::")
    for found in sorted(_ids(text), key=len, reverse=True):
        text = text.replace(found, f"{REFERENCES}['{found[1:]}']")
    return text


def absolute_references(text: str, place: str) -> str:
    """Replace ``@#id`` (in the same level) and ``@##id`` (one level up) by ids from the top, as MONAI does.

    Args:
        text: a value of a config.
        place: its id.

    Raises:
        UnsafeExpressionError: if there is no such level, or the levels' names hold more than letters and digits: they
            would become part of the expression.

    Example:
        >>> absolute_references("@##size", "net::options::width")
        '@net::size'
    """
    text, levels = text.replace("#", "::"), place.split("::")
    for found in sorted(set(re.findall(r"[@%]::+", text)), reverse=True):
        up = found.count("::")
        if up > len(levels):
            raise UnsafeExpressionError("refers to a level above the config")
        names = levels[: len(levels) - up]
        if not all(re.fullmatch(r"\w+", name) for name in names):
            raise UnsafeExpressionError("refers to an id whose name is no plain word")
        text = text.replace(found, found[0] + "".join(f"{name}::" for name in names))
    return text


def check_text(text: str) -> None:
    """Refuse a text that means something else once it is handed on, or a place outside the bundle.

    Args:
        text: a value of a config, or a constant of an expression.

    Raises:
        UnsafeExpressionError: saying what it is.
    """
    if "$" in text or "_target_" in text:
        raise UnsafeExpressionError("holds a text that could become an expression of its own")
    if _ELSEWHERE.match(text) or ".." in re.split(r"[/\\]", text):
        raise UnsafeExpressionError("names a place outside the bundle")


def parse_expression(text: str) -> ast.stmt:
    """The one statement that an expression is, references replaced.

    Args:
        text: without the leading ``$``.

    Raises:
        UnsafeExpressionError: if it is none.
    """
    if len(text) > _LONGEST:
        raise UnsafeExpressionError("is too long to be checked")
    try:
        statements = _parse(text)
    except (SyntaxError, ValueError, IndexError, RecursionError, MemoryError) as error:
        raise UnsafeExpressionError(f"is no expression ({type(error).__name__})") from error
    if len(statements) != 1 or not isinstance(statements[0], ast.Expr | ast.Import | ast.ImportFrom):
        raise UnsafeExpressionError("is not one expression")
    return statements[0]


def _ids(text: str) -> list[str]:
    return re.findall(r"@\w*(?:::\w*)*", text.replace("#", "::"))


def _parse(text: str) -> list[ast.stmt]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none
            return ast.parse(with_references(text)).body
    except SyntaxError:
        # f'{@id}' becomes quotes within the same quotes: an error before Python 3.12, no other meaning
        ids = sorted(set(_ids(text)), key=len, reverse=True)
        if _PLACEHOLDER in text:
            raise
        for number, found in enumerate(ids):
            text = text.replace("#", "::").replace(found, f"{_PLACEHOLDER}{number}_")
        tree = _WithReferences([found[1:] for found in ids]).visit(ast.parse(text))
        return list(tree.body)


class _WithReferences(ast.NodeTransformer):
    def __init__(self, ids: list[str]) -> None:
        self.ids = ids

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if not node.id.startswith(_PLACEHOLDER):
            return node
        key = ast.Constant(self.ids[int(node.id.removeprefix(_PLACEHOLDER).removesuffix("_"))])
        return ast.Subscript(ast.Name(REFERENCES, ast.Load()), key, ast.Load())

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, str) and _PLACEHOLDER in node.value:
            raise SyntaxError("a reference inside a text would end it")
        return node


def imported_name(statement: ast.Import | ast.ImportFrom) -> tuple[str, str]:
    """Name that an import binds, and the dotted name that it stands for.

    Args:
        statement: of an expression such as ``$import numpy as np``.

    Raises:
        UnsafeExpressionError: if it imports more than one thing, or of a package that is not on the list.
    """
    first = statement.names[0]
    bound = first.asname or first.name
    name = f"{statement.module}.{first.name}" if isinstance(statement, ast.ImportFrom) else first.name
    if len(statement.names) > 1 or (isinstance(statement, ast.ImportFrom) and statement.level):
        raise UnsafeExpressionError("imports more than one thing, or by a relative name")
    if not (is_allowed(name) or is_module(name)) or any(part[:1] in "_*" for part in name.split(".")):
        raise UnsafeExpressionError(f"imports {name}, which is not on the list")
    if bound.startswith("_"):
        raise UnsafeExpressionError(f"binds {bound}")
    return bound, name
