"""Weights as a file holds them, read without running what else it may hold."""

from __future__ import annotations

from pathlib import Path

import torch

from bonemonai.errors import InputError


def read_state_dict(path: str | Path) -> dict[str, torch.Tensor]:
    """Read a ``state_dict``, onto the CPU.

    Args:
        path: an existing file.

    Raises:
        InputError: if it is no file of weights, or holds NaN or infinite numbers.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(path, f"is no file of weights: {str(error).splitlines()[0]}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(path, "is no file of weights: it holds no state_dict.")
    for name, value in state.items():
        if not torch.isfinite(value).all():
            raise InputError(path, f"holds NaN or infinite weights in {name}.")
    return state
