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

    Objects are told apart by class and attributes, functions by their text and what they enclose, networks by their
    printed structure (weights are not looked at), files that are named by what they hold. States of random generators
    are not looked at.

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
        bound = [v for v in (getattr(value, "__self__", None), *enclosed) if not inspect.ismodule(v)]
        return f"{_source(value)} {_text(bound, outer)}"
    if isinstance(value, np.random.RandomState | np.random.Generator | torch.Generator):
        return ""
    return f"{_source(type(value))} {_text(getattr(value, '__dict__', {}), outer)}"


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
