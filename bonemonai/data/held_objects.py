"""What objects such as data loaders hold, searched in an order that depends on their structure only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from bonemonai.data.volume import Volume

_SEARCHED = ("monai.", "bonemonai.", "torch.utils.data.", "tests.")  # packages whose objects are looked into
_MOST_ITEMS = 64  # of a list: longer ones are data


def held_objects(*roots: Any) -> Iterator[Any]:
    """Objects and all that they hold, each once: attributes, items of short lists and dictionaries.

    Data are not looked into: tensors, arrays, networks, volumes, and lists of more than 64 items.

    Args:
        roots: where to begin.
    """
    seen: set[int] = set()
    kept: list[Any] = []  # so that no id is given twice
    waiting = list(reversed(roots))
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        kept.append(each)
        yield each
        waiting += reversed(_inside(each))


def held_generators(*roots: Any) -> list[Any]:
    """Generators of random numbers that objects hold, such as those of MONAI's random transforms.

    Args:
        roots: where to begin.

    Returns:
        NumPy's ``RandomState`` and ``Generator`` and PyTorch's ``Generator``, each once, in a fixed order.
    """
    kinds = (np.random.RandomState, np.random.Generator, torch.Generator)
    return [each for each in held_objects(*roots) if isinstance(each, kinds)]


def _inside(each: Any) -> list[Any]:
    if isinstance(each, Mapping):
        return list(each.values()) if len(each) <= _MOST_ITEMS else []
    if isinstance(each, list | tuple):
        return list(each) if len(each) <= _MOST_ITEMS else []
    if isinstance(each, Volume | torch.Tensor | torch.nn.Module | np.ndarray):
        return []
    is_ours = f"{type(each).__module__}.".startswith(_SEARCHED)
    return list(vars(each).values()) if is_ours and hasattr(each, "__dict__") else []
