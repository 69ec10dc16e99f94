"""A 2-D network that takes a 3-D block slice by slice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class SliceWise:
    """Make a 2-D network take (B, C, D, H, W): the slices across one axis become its batch.

    Args:
        network: takes (B, C, height, width).
        spatial_dim: the axis that slices are cut across: 0, 1 or 2.

    Example:
        >>> SliceWise(torch.nn.Conv2d(1, 2, 1), 0)(torch.zeros(1, 1, 3, 8, 8)).shape
        torch.Size([1, 2, 3, 8, 8])
    """

    def __init__(self, network: Callable[..., Any], spatial_dim: int) -> None:
        if spatial_dim not in (0, 1, 2):
            raise ValueError(f"spatial_dim must be 0, 1 or 2, got {spatial_dim}.")
        self.network, self.spatial_dim = network, spatial_dim

    def __call__(self, block: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return (B, C', D, H, W)."""
        output: torch.Tensor = self.network(self.fold(block), *args, **kwargs)
        return self.unfold(output, block)

    def fold(self, block: torch.Tensor) -> torch.Tensor:
        """Make (B * slices, C, height, width) of (B, C, D, H, W)."""
        return block.movedim(self.spatial_dim + 2, 1).flatten(0, 1)

    def unfold(self, output: torch.Tensor, block: torch.Tensor) -> torch.Tensor:
        """Undo :meth:`fold` on what the network made of a block."""
        slices = (block.shape[0], block.shape[self.spatial_dim + 2])
        unfolded: torch.Tensor = output.unflatten(0, slices).movedim(1, self.spatial_dim + 2)
        return unfolded
