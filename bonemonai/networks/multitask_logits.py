"""Paper 4's network as programs want it that know tensors only."""

from __future__ import annotations

import torch
from torch import nn

from bonemonai.networks.multitask_network import MultitaskNetwork


class MultitaskLogits(nn.Module):
    """Slices of L1 and L2 in, logits out; boxes, outlines and weights are left away.

    Args:
        network: the whole network.

    Shape:
        images: (B, 2, 1, H, W), see :class:`MultitaskNetwork`. Returns (B, num_classes); NaN where the locator finds
        neither vertebra.

    Source:
        Zhang et al., Figure 1.
    """

    def __init__(self, network: MultitaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.network(images).logits
        return logits
