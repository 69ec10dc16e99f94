"""Segmentation with VGG16 as encoder: baselines vgg16-1 and vgg16-2 of paper 1."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks.vgg16 import vgg16_features

_STRIDE = 16  # four of the five poolings; the last one would leave 55-pixel patches a 2 x 2 map


class VGG16UNet(nn.Module):
    """VGG16's convolutions and a decoder that mirrors them, taking the place of :class:`LacunaUNet`.

    The paper says no more than "vgg16"; the decoder is ours: at each level nearest up-sampling, concatenation with the
    encoder's map, two 3 x 3 convolutions. A single-channel image is repeated to three where ImageNet weights want it.
    The encoder's parameters are named ``features``, as torchvision names them.

    Args:
        in_channels: of the image.
        out_channels: classes.
        width: channels of the first stage, 64 in VGG16.
        negative_slope: of LeakyReLU.

    Shape:
        image: (B, in_channels, H, W) float32, any size (padded with zeros at the far end to a multiple of 16, cropped
        back). Returns (B, out_channels, H, W) float32 logits.

    Source:
        Poles et al., III.A.

    Example:
        >>> VGG16UNet(width=1)(torch.zeros(1, 1, 55, 55)).shape
        torch.Size([1, 2, 55, 55])
    """

    def __init__(
        self, in_channels: int = 1, out_channels: int = 2, *, width: int = 64, negative_slope: float = 0.01
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.features = vgg16_features(3, width=width, negative_slope=negative_slope)[:-1]
        channels = [width, 2 * width, 4 * width, 8 * width, 8 * width]
        self.decoders = nn.ModuleList(
            _double_conv(deep + skip, skip, negative_slope) for skip, deep in pairwise(channels)
        )
        self.head = nn.Conv2d(width, out_channels, kernel_size=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits of each pixel."""
        if image.shape[1] != self.in_channels or self.in_channels not in (1, 3):
            raise ValueError(f"image must have {self.in_channels} channels, 1 or 3, got {image.shape[1]}.")
        height, width = image.shape[-2:]
        features = F.pad(image, (0, -width % _STRIDE, 0, -height % _STRIDE)).expand(-1, 3, -1, -1)
        skips = []
        for layer in self.features.children():
            if isinstance(layer, nn.MaxPool2d):
                skips.append(features)
            features = layer(features)
        for decoder, skip in zip(reversed(self.decoders), reversed(skips), strict=True):
            features = decoder(torch.cat([skip, F.interpolate(features, scale_factor=2, mode="nearest")], dim=1))
        logits: torch.Tensor = self.head(features)[..., :height, :width]
        return logits


def _double_conv(in_channels: int, out_channels: int, negative_slope: float) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (in_channels, out_channels):
        convolution = nn.Conv2d(channels, out_channels, kernel_size=3, padding=1)
        nn.init.kaiming_normal_(convolution.weight, a=negative_slope, nonlinearity="leaky_relu")
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, nn.LeakyReLU(negative_slope)]
    return nn.Sequential(*layers)
