"""All random numbers that a training draws from: where they stand, and how to go on from there."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from bonemonai.data.volume import Volume
from bonemonai.errors import ResumeError

_SEARCHED = ("monai.", "bonemonai.", "torch.utils.data.", "tests.")  # packages whose objects may hold generators
_MOST_ITEMS = 64  # of a list: longer ones are data


def random_states(*roots: Any) -> dict[str, Any]:
    """Where Python's, NumPy's and PyTorch's generators stand, and those that objects hold, such as random transforms.

    Args:
        roots: objects that are searched, such as a training's data loader; what they hold is searched as well.

    Returns:
        What ``torch.save`` can write and ``torch.load(weights_only=True)`` read.
    """
    kind, keys, place, has_gauss, gauss = np.random.get_state()  # noqa: NPY002
    version, internal, gauss_next = random.getstate()
    return {
        "python": [version, list(internal), gauss_next],
        "numpy": [str(kind), _words(keys), int(place), int(has_gauss), float(gauss)],
        "torch": torch.get_rng_state(),
        "cuda": list(torch.cuda.get_rng_state_all()) if torch.cuda.is_available() else [],
        "held": [_state(generator) for generator in _generators(roots)],
    }


def restore_random_states(states: Mapping[str, Any], *roots: Any) -> None:
    """Put all generators back to where they stood.

    Args:
        states: see :func:`random_states`.
        roots: the same objects, made anew.

    Raises:
        ResumeError: if they hold other generators than those whose states these are.
    """
    held = list(_generators(roots))
    kinds = [type(generator).__name__ for generator in held]
    if kinds != [state[0] for state in states["held"]]:
        raise ResumeError("training", "was stopped with other random transforms; say --overwrite True to begin anew.")
    version, internal, gauss_next = states["python"]
    random.setstate((version, tuple(internal), gauss_next))
    kind, keys, place, has_gauss, gauss = states["numpy"]
    np.random.set_state((kind, np.asarray(keys, dtype=np.uint32), place, has_gauss, gauss))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([state.cpu() for state in states["cuda"]])
    for generator, state in zip(held, states["held"], strict=True):
        _restore(generator, state)


def _generators(roots: tuple[Any, ...]) -> Iterator[Any]:
    """Generators that objects hold, each once, in an order that depends on their structure only."""
    seen: set[int] = set()
    kept: list[Any] = []  # so that no id is given twice
    waiting = list(reversed(roots))
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        kept.append(each)
        if isinstance(each, np.random.RandomState | np.random.Generator | torch.Generator):
            yield each
        else:
            waiting += reversed(_inside(each))


def _inside(each: Any) -> list[Any]:
    if isinstance(each, Mapping):
        return list(each.values()) if len(each) <= _MOST_ITEMS else []
    if isinstance(each, list | tuple):
        return list(each) if len(each) <= _MOST_ITEMS else []
    if isinstance(each, Volume | torch.Tensor | torch.nn.Module | np.ndarray):
        return []
    is_ours = f"{type(each).__module__}.".startswith(_SEARCHED)
    return list(vars(each).values()) if is_ours and hasattr(each, "__dict__") else []


def _state(generator: Any) -> list[Any]:
    if isinstance(generator, torch.Generator):
        return ["Generator", generator.get_state()]
    if isinstance(generator, np.random.RandomState):
        kind, keys, place, has_gauss, gauss = generator.get_state(legacy=True)
        return ["RandomState", str(kind), _words(keys), int(place), int(has_gauss), float(gauss)]
    return ["Generator", _plain(generator.bit_generator.state)]


def _restore(generator: Any, state: list[Any]) -> None:
    if isinstance(generator, torch.Generator):
        generator.set_state(state[1].cpu())
    elif isinstance(generator, np.random.RandomState):
        _, kind, keys, place, has_gauss, gauss = state
        generator.set_state((kind, np.asarray(keys, dtype=np.uint32), place, has_gauss, gauss))
    else:
        generator.bit_generator.state = _numbers(state[1])


def _words(keys: Any) -> list[int]:
    return [int(key) for key in keys]


def _plain(value: Any) -> Any:
    """Numbers as text: PCG64's are larger than what every format keeps."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, np.ndarray):
        return ["array", str(value.dtype), _words(value)]
    return ["number", str(value)] if isinstance(value, int | np.integer) else value


def _numbers(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _numbers(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple) and value and value[0] == "number":
        return int(value[1])
    if isinstance(value, list | tuple) and value and value[0] == "array":
        return np.asarray(value[2], dtype=value[1])
    return value
