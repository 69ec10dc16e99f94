"""Expressions of configs against a small grammar of what only reads, computes and calls what is on the list."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NoReturn

from bonemonai.sharing.allowed_names import is_allowed, may_be_called
from bonemonai.sharing.expression_text import REFERENCES, UnsafeExpressionError, check_text, parse_expression

_BUILTINS = (
    "abs all any bool dict enumerate filter float int isinstance len list map max min next print range reversed round "
    "set slice sorted str sum tuple zip"
)
# attributes of what an expression has in hand, of whatever type: nothing that writes files, renames, opens, formats,
# evaluates or leads to a frame. Those of classes of this package first.
_ATTRIBUTES = (
    "base cam_layer channels continues factor feature_channels folders is_joint lr_scheduler terms voxel_size_um write "
    "T abs all any argmax argmin argsort as_posix astype batch bool clamp clone columns count cpu cuda data "
    "detach device dim double dtype endswith epoch exists flatten float get half iloc index int is_dir is_file "
    "isin item items iteration join joinpath keys loc long lower max mean metrics min name named_modules "
    "named_parameters ndim network numel numpy optimizer output parameters parent permute removeprefix "
    "removesuffix requires_grad reshape round run shape sigmoid size softmax split squeeze startswith state "
    "state_dict stem strip suffix sum to tolist train transpose unique unsqueeze upper values with_name with_stem "
    "with_suffix zfill"
)
_NODES = (
    ast.BinOp, ast.BoolOp, ast.Compare, ast.Dict, ast.Expr, ast.IfExp, ast.JoinedStr, ast.List, ast.Load, ast.Set,
    ast.Slice, ast.Starred, ast.Tuple, ast.UnaryOp, ast.boolop, ast.cmpop, ast.unaryop,
    # not %: on a text it formats, and could make up what the check has not seen
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Pow, ast.MatMult, ast.BitAnd, ast.BitOr, ast.BitXor,
)  # fmt: skip
_RANKS = frozenset({"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"})
_FORMAT = re.compile(r"[<>=^]?[+-]?0?\d{0,3}(?:\.\d{1,2})?[defgs]?")
# by these a function that is allowed would unpickle, or start a debugger
_ARGUMENTS = {"weights_only": True, "allow_pickle": False, "_debug_": None}


def check_expression(text: str, aliases: Mapping[str, Sequence[str]]) -> list[str]:
    """Refuse an expression that is outside the grammar.

    Args:
        text: without the leading ``$``.
        aliases: names that the configs import, to all dotted names that they may stand for.

    Returns:
        Ids that it refers to.

    Raises:
        UnsafeExpressionError: saying what it does.
    """
    statement = parse_expression(text)
    checker = _Checker(aliases)
    try:
        checker.visit(statement)
    except RecursionError as error:
        raise UnsafeExpressionError("is nested too deeply to be checked") from error
    return checker.references


def check_argument(name: str, value: object) -> None:
    """Refuse an argument by which a function that is allowed would do what it may not.

    Args:
        name: of the argument.
        value: given; ``...`` where it is not known.

    Raises:
        UnsafeExpressionError: naming it.
    """
    if name in _ARGUMENTS and (value is not _ARGUMENTS[name] or value is None):
        _refuse(f"sets {name}")


class _Checker(ast.NodeVisitor):
    def __init__(self, aliases: Mapping[str, Sequence[str]]) -> None:
        self.aliases = aliases
        self.locals: list[str] = []
        self.references: list[str] = []

    def generic_visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp):
            self._visit_comprehension(node)
            return
        if not isinstance(node, _NODES):
            _refuse(f"uses {type(node).__name__}, which the grammar leaves out")
        super().generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bytes | complex):
            _refuse("holds a constant that is neither number nor text")
        if isinstance(node.value, str):
            check_text(node.value)

    def visit_FormattedValue(self, node: ast.FormattedValue) -> None:
        self.visit(node.value)
        style = node.format_spec.values if isinstance(node.format_spec, ast.JoinedStr) else []
        for part in style:
            if not isinstance(part, ast.Constant) or not _FORMAT.fullmatch(str(part.value)):
                _refuse("formats by more than a width and a number of digits")

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in self.aliases:
            self._check_dotted(node.id, [])
        elif node.id not in self.locals and node.id not in _BUILTINS.split():
            _refuse(f"uses {node.id}, which is not on the list")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        names, root = [node.attr], node.value
        while isinstance(root, ast.Attribute):
            names, root = [root.attr, *names], root.value
        if isinstance(root, ast.Name) and root.id in self.aliases:
            self._check_dotted(root.id, names)
            return
        self.visit(root)
        for name in names:
            _check_attribute(name)

    def _check_dotted(self, alias: str, names: list[str]) -> None:
        """Some first part must be an allowed name; the rest are attributes of what it stands for."""
        for module in self.aliases[alias]:
            dotted = [".".join([module, *names[:number]]) for number in range(len(names) + 1)]
            allowed = max((number for number, name in enumerate(dotted) if is_allowed(name)), default=None)
            if allowed is None or not may_be_called(dotted[allowed]):
                _refuse(f"uses {dotted[-1]}, which is not on the list")
            for name in names[allowed:]:
                _check_attribute(name)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        key = node.slice.value if isinstance(node.slice, ast.Constant) else None
        if isinstance(node.value, ast.Name) and node.value.id == REFERENCES:
            if not isinstance(key, str) or key.split("::")[0] in ("", "imports"):
                _refuse("refers to the whole config, or to its imports")
            self.references.append(key)
        elif not (key in _RANKS and self._is_environment(node.value)):
            self.visit(node.value)
            self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        for child in [*self._called(node), *node.args, *(keyword.value for keyword in node.keywords)]:
            self.visit(child)
        for keyword in node.keywords:
            check_argument(keyword.arg or "", keyword.value.value if isinstance(keyword.value, ast.Constant) else ...)

    def _called(self, node: ast.Call) -> list[ast.expr]:
        """What is to be checked of the thing called."""
        function, first = node.func, node.args[0] if node.args else None
        if not isinstance(function, ast.Attribute):
            return [function]
        if function.attr == "eval" and not node.args and not node.keywords:
            return [function.value]  # a network's; a table's would take code
        is_rank = isinstance(first, ast.Constant) and first.value in _RANKS
        return [] if function.attr == "get" and is_rank and self._is_environment(function.value) else [function]

    def _is_environment(self, node: ast.expr) -> bool:
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name) or node.attr != "environ":
            return False
        return list(self.aliases.get(node.value.id, ())) == ["os"]

    def visit_Lambda(self, node: ast.Lambda) -> None:
        given = node.args
        for default in [*given.defaults, *(value for value in given.kw_defaults if value is not None)]:
            self.visit(default)
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        with self._bound([name.arg for name in names if name is not None]):
            self.visit(node.body)

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        with self._bound([name for each in node.generators for name in _target_names(each.target)]):
            for each in node.generators:
                for child in [each.iter, *each.ifs]:
                    self.visit(child)
            for child in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
                self.visit(child)

    @contextmanager
    def _bound(self, names: list[str]) -> Iterator[None]:
        for name in names:
            if name in self.aliases or name.startswith("__"):
                _refuse(f"gives the name {name} another meaning")
        before = len(self.locals)
        self.locals += names
        yield
        del self.locals[before:]


def _target_names(target: ast.expr) -> list[str]:
    if isinstance(target, ast.Name):
        return [target.id]
    if not isinstance(target, ast.Tuple | ast.List):
        _refuse("assigns to something")
    return [name for element in target.elts for name in _target_names(element)]


def _check_attribute(name: str) -> None:
    if name not in _ATTRIBUTES.split():
        _refuse(f"uses the attribute {name}, which is not on the list")


def _refuse(what: str) -> NoReturn:
    raise UnsafeExpressionError(what)
