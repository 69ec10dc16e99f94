"""What an object would do, as a digest: its class, its settings, the text of its functions."""

from __future__ import annotations

import hashlib
import inspect
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms.compose import Compose
from torch import nn

# all that there is to them, their repr says
_PRINTED = (bool, int, float, complex, bytes, torch.dtype, np.dtype, np.ufunc, type)


def code_digests(transform: Any) -> dict[str, str]:
    """Digest each step of a pre-processing, so that a change can be named.

    Args:
        transform: a ``Compose``, a single transform, any callable, or None.

    Returns:
        Position and class to digest.

    Example:
        >>> from monai.transforms import Compose, Identity
        >>> list(code_digests(Compose([Identity()])))
        ['0 Identity']
    """
    steps = transform.transforms if isinstance(transform, Compose) else [] if transform is None else [transform]
    return {f"{index} {_name(step).rpartition('.')[2]}": code_digest(step) for index, step in enumerate(steps)}


def code_digest(value: Any) -> str:
    """Digest of an object: the same for two made alike, in any process.

    Objects are told apart by class and attributes (those that are pickled), functions by their text, defaults and what
    they enclose, networks by their printed structure (weights are not looked at), files that are named by what they
    hold. A lambda, and a function without a text, as in a config, is told by its instructions and by what it names
    outside of itself, too. States of random generators are not looked at.

    Args:
        value: any object.
    """
    return hashlib.sha256(_text(value, ()).encode()).hexdigest()


def _text(value: Any, outer: tuple[int, ...]) -> str:
    if value is None or isinstance(value, _PRINTED):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, str | Path):
        return _path_or_text(value)
    if id(value) in outer:
        return "itself"
    outer = (*outer, id(value))
    if isinstance(value, torch.Tensor | np.ndarray | np.generic):
        array = np.ascontiguousarray(value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value)
        return f"{array.dtype} {array.shape} {hashlib.sha256(array.tobytes()).hexdigest()}"
    if isinstance(value, Mapping):
        return f"mapping {sorted(_text(pair, outer) for pair in value.items())}"
    if isinstance(value, list | tuple | set | frozenset):
        inner = [_text(element, outer) for element in value]
        return f"{type(value).__name__} {sorted(inner) if isinstance(value, set | frozenset) else inner}"
    return f"{_name(value)} {_behaviour(value, outer)}"


def _behaviour(value: Any, outer: tuple[int, ...]) -> str:
    if isinstance(value, nn.Module):
        return f"{value} {_source(type(value))}"
    if isinstance(value, partial):
        return _text([value.func, value.args, value.keywords], outer)
    if inspect.isroutine(value):
        enclosed = inspect.getclosurevars(value).nonlocals.values() if inspect.isfunction(value) else ()
        defaults = [d for d in (getattr(value, "__defaults__", None), getattr(value, "__kwdefaults__", None)) if d]
        bound = [v for v in (getattr(value, "__self__", None), *enclosed, *defaults) if not inspect.ismodule(v)]
        text = _source(value)
        # a line of text may hold several lambdas
        done = "" if text and value.__name__ != "<lambda>" else _compiled(value, outer)
        return f"{text} {done} {_text(bound, outer)}"
    if isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator):
        return ""
    # what a class leaves out when it is pickled, such as open files, is no setting
    pickles_itself = getattr(type(value), "__getstate__", None) != getattr(object, "__getstate__", None)
    state = value.__getstate__() if pickles_itself else getattr(value, "__dict__", {})
    return f"{_source(type(value))} {_text(state, outer)}"


def _compiled(function: Any, outer: tuple[int, ...]) -> str:
    """What a function does, whatever its text: its instructions, constants, and the values that it names outside."""
    if not inspect.isfunction(function):  # in C
        return ""
    codes = [function.__code__]
    for code in codes:  # with the functions and comprehensions inside, which are found on the way
        codes += [constant for constant in code.co_consts if inspect.iscode(constant)]
    constants = [constant for code in codes for constant in code.co_consts if not inspect.iscode(constant)]
    instructions = [(code.co_code, code.co_names, code.co_varnames) for code in codes]
    outside = {}
    for name in {name for code in codes for name in code.co_names} & set(function.__globals__):
        value = function.__globals__[name]
        if isinstance(value, Mapping):  # all that a config has resolved: the ids that are named count
            value = {key: value[key] for key in constants if key in value}
        if not inspect.ismodule(value):
            outside[name] = value
    return _text([instructions, constants, outside], outer)


def _path_or_text(value: str | Path) -> str:
    names_a_file = isinstance(value, Path) or os.sep in value
    if names_a_file and os.path.isfile(value):
        with open(value, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    return f"text {value}"


def _name(value: Any) -> str:
    named = value if inspect.isroutine(value) else type(value)
    return f"{getattr(named, '__module__', '')}.{getattr(named, '__qualname__', type(value).__name__)}"


def _source(value: Any) -> str:
    try:
        return inspect.getsource(value)
    except (OSError, TypeError):  # made in an interpreter, or in C
        return ""
