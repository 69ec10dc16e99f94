"""Cross-entropy, and how far attention is from where a mask draws it (paper 1, II.D)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class MaskGuidedAttentionLoss(nn.Module):
    """L = weight * L_MSE + L_CE; L_MSE is the mean over pixels of (A_MGA - Am)^2.

    For networks without attention, and in validation, the prediction is the logits alone, and the loss cross-entropy.

    Args:
        weight: lambda of the paper.

    Shape:
        prediction: (B, C) logits, or a tuple of logits, attention and guide, the latter two (B, 1, h, w) in [0, 1];
        target: (B,) int64 classes. Returns a scalar.

    Source:
        Poles et al., II.D.

    Example:
        >>> loss, map = MaskGuidedAttentionLoss(), torch.ones(1, 1, 7, 7)
        >>> round(float(loss((torch.zeros(1, 2), 0 * map, map), torch.tensor([1]))), 4)  # ln 2 + 0.1
        0.7931
    """

    def __init__(self, weight: float = 0.1) -> None:
        super().__init__()
        if weight < 0:
            raise ValueError(f"weight must be >= 0, got {weight}.")
        self.weight = weight

    def forward(
        self, prediction: torch.Tensor | tuple[torch.Tensor, torch.Tensor, torch.Tensor], target: torch.Tensor
    ) -> torch.Tensor:
        """Return the loss."""
        if isinstance(prediction, torch.Tensor):
            return F.cross_entropy(prediction, target)
        logits, attention, guide = prediction
        return self.weight * F.mse_loss(attention, guide) + F.cross_entropy(logits, target)
