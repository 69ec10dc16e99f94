"""The 13-layer U-Net that segments lacunae (paper 1, II.C)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F


class LacunaUNet(nn.Module):
    """U-Net with two poolings: 13 convolutions, the up-convolutions and the last 1 x 1 included.

    Two 3 x 3 convolutions with LeakyReLU a level, 2 x 2 max-pooling, up-sampling by 2 followed by a 2 x 2
    convolution that halves the channels, concatenation with the encoder's map, 1 x 1 to the classes. No layer
    normalises over space, so a plane may be cut into tiles. Any size goes in and comes back: odd ones, such as
    the paper's 55 x 55, are padded with zeros at the far end to a multiple of 4 and cropped again, instead of
    resizing the up-sampled map to the skip.

    Args:
        in_channels: of the image.
        out_channels: classes; 2 for lacuna against the rest.
        width: channels of the first level, doubled at each of the next two; 64 in the paper.
        negative_slope: of LeakyReLU; the paper does not print it, PyTorch's default is taken.

    Shape:
        image: (B, in_channels, H, W) float32. Returns (B, out_channels, H, W) float32 logits.

    Source:
        Poles et al., II.C. "13 layers" counted as U-Net counts its 23 (5 d + 3 for d poolings) gives d = 2.

    Example:
        >>> LacunaUNet(width=4)(torch.zeros(1, 1, 55, 55)).shape
        torch.Size([1, 2, 55, 55])
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, *, width: int = 64, negative_slope: float = 0.01
    ) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width must be >= 1 (channels), got {width}.")
        self.encoder1 = _double_conv(in_channels, width, negative_slope)
        self.encoder2 = _double_conv(width, 2 * width, negative_slope)
        self.bottom = _double_conv(2 * width, 4 * width, negative_slope)
        self.up2 = _up_conv(4 * width)
        self.decoder2 = _double_conv(4 * width, 2 * width, negative_slope)
        self.up1 = _up_conv(2 * width)
        self.decoder1 = _double_conv(2 * width, width, negative_slope)
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=negative_slope, nonlinearity="leaky_relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of each pixel."""
        height, width = image.shape[-2:]
        # to multiples of 4: two 2 x 2 poolings
        level1 = self.encoder1(F.pad(image, (0, -width % 4, 0, -height % 4)))
        level2 = self.encoder2(F.max_pool2d(level1, 2))
        level3 = self.bottom(F.max_pool2d(level2, 2))
        level2 = self.decoder2(torch.cat([level2, self.up2(level3)], dim=1))
        level1 = self.decoder1(torch.cat([level1, self.up1(level2)], dim=1))
        logits: torch.Tensor = self.head(level1)[..., :height, :width]
        return logits


def stored_width(checkpoint: str | Path, default: int = 64) -> int:
    """Width of the network whose weights a file holds, so that a config need not repeat it.

    Args:
        checkpoint: a ``state_dict`` saved by the bundle's training.
        default: returned where the file does not exist.
    """
    if not Path(checkpoint).is_file():
        return default
    try:
        state: Mapping[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return int(state["head.weight"].shape[1])
    except Exception:  # whoever loads the weights says what is wrong with the file
        return default


def _double_conv(in_channels: int, out_channels: int, negative_slope: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
        nn.LeakyReLU(negative_slope),
        nn.Conv2d(out_channels, out_channels, kernel_size=3, padding=1),
        nn.LeakyReLU(negative_slope),
    )


def _up_conv(channels: int) -> nn.Sequential:
    """Double the size, then halve the channels with a 2 x 2 convolution padded at the far end."""
    return nn.Sequential(
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(channels, channels // 2, kernel_size=2),
    )
