"""Gradient checkpointing that leaves batch normalisation's running statistics right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_checkpointed(module: nn.Module, *inputs: Any) -> Any:
    """Run a module without keeping what lies between its inputs and its outputs; the backward pass runs it again.

    PyTorch's own checkpointing lets batch normalisation see each batch twice, so that its running means and variances
    come out other than without. Here the second run leaves them alone: outputs, gradients and state are those of a
    plain run, and only time (one more forward pass) and memory differ.

    Args:
        module: what to run.
        *inputs: its arguments.

    Returns:
        What the module returns; where gradients are off, by a plain run.

    Example:
        >>> run_checkpointed(nn.ReLU(), torch.tensor([-1.0, 2.0]))
        tensor([0., 2.])
    """
    if not torch.is_grad_enabled():
        return module(*inputs)
    return checkpoint(module, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), _no_statistics(module)))


@contextmanager
def _no_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch normalisation update copies of its statistics; to turn tracking off would change what is saved."""
    own = [
        (norm, dict(norm.named_buffers(recurse=False)))
        for norm in module.modules()
        if isinstance(norm, nn.modules.batchnorm._BatchNorm)
    ]
    for norm, buffers in own:
        for name, value in buffers.items():
            setattr(norm, name, value.clone())
    try:
        yield
    finally:
        for norm, buffers in own:
            for name, value in buffers.items():
                setattr(norm, name, value)
