"""Gated channel transformation, the gated attention of paper 4's classifier."""

from __future__ import annotations

import torch
from torch import nn


class GatedChannels(nn.Module):
    """Scale each channel of a map by what its norm is among the norms of all channels.

    s_c = alpha_c sqrt(sum of x_c^2 + eps), s^_c = sqrt(C) s_c / sqrt(sum over channels of s_c^2 + eps), and x_c becomes
    x_c (1 + tanh(gamma_c s^_c + beta_c)). A training starts with alpha = 1, gamma = beta = 0, where the gate is 1 and
    the map stays as it is. Norms are taken in float32 at least: squares overflow in half precision.

    The authors of the transformation add eps to the mean of s_c^2; paper 4 prints the sum, as here.

    Args:
        channels: of the map.
        eps: keeps square roots and the division from zero; not printed, the one of the transformation's authors.

    Shape:
        maps: (B, channels, H, W); returns the same.

    Raises:
        ValueError: if an argument is out of its range, or a map has other channels.

    Source:
        Zhang et al., 3.5, equations (12) to (15) and Figure 4(a); Yang et al., CVPR 2020, 11794.

    Example:
        >>> maps = torch.rand(1, 4, 8, 8)
        >>> torch.equal(GatedChannels(4)(maps), maps)
        True
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        if channels < 1:
            raise ValueError(f"channels must be >= 1 (channels), got {channels}.")
        if eps <= 0:
            raise ValueError(f"eps must be > 0 (square roots have no slope at zero), got {eps}.")
        self.channels, self.eps = channels, eps
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Return the gated map."""
        if maps.ndim != 4 or maps.shape[1] != self.channels:
            raise ValueError(f"maps must be (B, {self.channels}, H, W), got {tuple(maps.shape)}.")
        squares = maps.to(torch.promote_types(maps.dtype, torch.float32)).square().sum(dim=(2, 3))
        embedded = self.alpha * (squares + self.eps).sqrt()
        normed = self.channels**0.5 * embedded / (embedded.square().sum(dim=1, keepdim=True) + self.eps).sqrt()
        gate = 1 + torch.tanh(self.gamma * normed + self.beta)
        return maps * gate.to(maps.dtype)[:, :, None, None]
