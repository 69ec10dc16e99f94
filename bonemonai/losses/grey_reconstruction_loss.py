"""How far predicted grey values are from those they should be (paper 5)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from monai.losses import SSIMLoss
from torch import nn
from torch.nn import functional as F

Kind = Literal["bce", "l1", "ssim"]


class GreyReconstructionLoss(nn.Module):
    """Cross-entropy with soft targets, absolute error, or 1 - SSIM, of grey values scaled to [0, 1].

    On grey targets cross-entropy is least where the prediction equals the target, but not 0 there: it keeps the
    target's own entropy. Logits go in, and a sigmoid is taken inside.

    Args:
        kind: "bce", the paper's "cross-entropy"; "l1"; or "ssim", in 11 x 11 Gaussian windows.

    Shape:
        logits: (B, 1, H, W); target: the same, in [0, 1]; 11 x 11 pixels at least for "ssim". Returns a scalar.

    Raises:
        ValueError: for another kind.

    Source:
        David et al., 2.3 (the loss's name; that its targets are soft is inferred).

    Example:
        >>> target = torch.full((1, 1, 2, 2), 0.5)
        >>> round(GreyReconstructionLoss("bce")(torch.zeros_like(target), target).item(), 4)  # ln 2
        0.6931
    """

    def __init__(self, kind: Kind = "bce") -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}.")
        self.kind = kind
        self.ssim = SSIMLoss(spatial_dims=2, data_range=1.0, win_size=11)

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if self.kind == "bce":
            return F.binary_cross_entropy_with_logits(logits, target)
        value = logits.sigmoid()
        if self.kind == "l1":
            return F.l1_loss(value, target)
        similarity: torch.Tensor = self.ssim(value, target)
        return similarity
