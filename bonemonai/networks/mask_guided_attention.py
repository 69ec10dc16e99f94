"""Spatial attention that learns where a mask says the evidence lies (paper 1, II.D)."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional as F


class GuidedFeatures(NamedTuple):
    """What :class:`MaskGuidedAttention` returns.

    Attributes:
        features: f_out, (B, C, h, w).
        attention: Am, what the network finds worth attending to, (B, 1, h, w), 0 to 1.
        guide: A_MGA, what the mask says is, (B, 1, h, w), 0 to 1.
    """

    features: torch.Tensor
    attention: torch.Tensor
    guide: torch.Tensor


class MaskGuidedAttention(nn.Module):
    """Weight features by where a mask lies: f_out = 0.5 f + 0.5 (A_MGA * f).

    Am is the sigmoid of one convolution over the channels' mean and maximum. A_MGA is the mask, average-pooled to the
    features' size and divided by its maximum; an empty mask gives 0 everywhere, and halves the features alike. The
    loss draws Am to A_MGA (:class:`bonemonai.losses.MaskGuidedAttentionLoss`).

    Args:
        attention: what weights the features: "mask", A_MGA as printed, or "learned", Am, which needs no mask once
            trained.
        kernel_size: of the convolution, odd, pixels of the feature map; not printed, 7 is that of CBAM, whose
            attention this is.

    Shape:
        features: (B, C, h, w) float32; mask: (B, 1, H, W), 0 to 1. See :class:`GuidedFeatures`.

    Source:
        Poles et al., II.D; Woo et al., CBAM, arXiv:1807.06521, eq. 3.
    """

    def __init__(self, attention: Literal["mask", "learned"] = "mask", *, kernel_size: int = 7) -> None:
        super().__init__()
        if attention not in ("mask", "learned"):
            raise ValueError(f"attention must be mask or learned, got {attention!r}.")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd (pixels), got {kernel_size}.")
        self.attention = attention
        self.convolution = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2)

    def forward(self, features: torch.Tensor, mask: torch.Tensor) -> GuidedFeatures:
        """Return the weighted features and both maps."""
        maps = torch.cat([features.mean(1, keepdim=True), features.amax(1, keepdim=True)], dim=1)
        attention = torch.sigmoid(self.convolution(maps))
        guide = pooled_guide(mask, (features.shape[-2], features.shape[-1]))
        weight = guide if self.attention == "mask" else attention
        return GuidedFeatures(0.5 * features + 0.5 * weight * features, attention, guide)


def pooled_guide(mask: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Average-pool masks to a size and divide each by its maximum; an empty one stays 0.

    Args:
        mask: (B, 1, H, W), 0 to 1.
        size: (h, w) of the features.
    """
    pooled = F.adaptive_avg_pool2d(mask, size)
    peak = pooled.amax(dim=(-2, -1), keepdim=True)
    return pooled / torch.where(peak > 0, peak, torch.ones_like(peak))
