"""MS-Net, the network of paper 3 that marks the lumbar vertebra in a CT slice."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

import torch
from torch import nn


class MSNet(nn.Module):
    """U-Net of strided convolutions: nine 4 x 4 convolutions halve the slice to one pixel, nine deconvolutions undo it.

    The paper counts eight deconvolutions and lists nine; what fits its picture and pix2pix, whose generator this is, is
    eight whose maps are joined with the encoder's of the same size (512 x 5, 256, 128, 64 channels) and one that makes
    the mark image. pix2pix's, too, is what the paper does not print: batch normalisation everywhere but behind the
    first convolution, at the bottom (one pixel is no batch) and at the output, and ReLU in the decoder. Its dropout is
    left out, since the paper has none here. The output's sigmoid is ours: a mark image lies in [0, 1], and the paper
    compares it by L1.

    Under L1 an empty mark is a trap where little is to be marked. Initial weights are PyTorch's for that reason: with
    pix2pix's N(0, 0.02), trainings of 60 to 150 steps on squares of 3 % of the image (widths 8, 16 and 64) left the
    marks empty, 4 of 4; with PyTorch's the same four reached Dice 0.94 to 0.99 on the images they were trained on.
    Narrow networks fall into it again: 2 of 3 with width 4.

    The bottom sees the whole slice, so slices must not be cut into tiles.

    Args:
        in_channels: of the slice.
        out_channels: mark images.
        width: channels of the first convolution, doubled by each of the next three and kept by the rest; 64 in the
            paper, smaller ones are for CPUs and tests.
        layers: convolutions, as many as 512 pixels can be halved in the paper; fewer, at least 2, for smaller slices.

    Shape:
        image: (B, in_channels, H, W) float32, grey in [0, 1]; H and W multiples of ``2**layers``, 512 with the
        defaults. Returns (B, out_channels, H, W) float32 in [0, 1].

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or a size that cannot be halved
            that often.

    Source:
        Tang et al., 2.1 and Figure 2; Isola et al., arXiv:1611.07004, 6.1.

    Example:
        >>> MSNet(width=1, layers=4)(torch.zeros(1, 1, 32, 48)).shape
        torch.Size([1, 1, 32, 48])
    """

    def __init__(self, in_channels: int = 1, out_channels: int = 1, *, width: int = 64, layers: int = 9) -> None:
        super().__init__()
        for name, value, lowest, unit in (
            ("in_channels", in_channels, 1, "channels"), ("out_channels", out_channels, 1, "channels"),
            ("width", width, 1, "channels"), ("layers", layers, 2, "convolutions"),
        ):  # fmt: skip
            if value < lowest:
                raise ValueError(f"{name} must be >= {lowest} ({unit}), got {value}.")
        self.in_channels, self.layers = in_channels, layers
        channels = [width * min(2**number, 8) for number in range(layers)]
        self.encoder = nn.ModuleList(
            _block(nn.Conv2d, given, filters, nn.LeakyReLU(0.2), norm=0 < number < layers - 1)
            for number, (given, filters) in enumerate(pairwise([in_channels, *channels]))
        )
        # from the bottom up; a map and the encoder's, joined, go into the next, so that all but the first take twice
        self.decoder = nn.ModuleList(
            _block(nn.ConvTranspose2d, deep if number == 0 else 2 * deep, filters, nn.ReLU(), norm=True)
            for number, (deep, filters) in enumerate(pairwise(reversed(channels)))
        )
        self.output = _block(nn.ConvTranspose2d, 2 * width, out_channels, nn.Sigmoid(), norm=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the mark image."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image must be (B, {self.in_channels}, H, W), got {list(image.shape)}.")
        rows, columns = image.shape[2:]
        step = 2**self.layers
        if rows < 1 or columns < 1 or rows % step or columns % step:
            raise ValueError(
                f"image must have multiples of {step} x {step} pixels ({self.layers} layers halve it as often), got "
                f"{rows} x {columns}; resize or pad it, or take fewer layers."
            )
        maps, features = [], image
        for encode in self.encoder:
            features = encode(features)
            maps.append(features)
        maps.pop()
        for decode in self.decoder:
            features = torch.cat([decode(features), maps.pop()], dim=1)
        mark: torch.Tensor = self.output(features)
        return mark


def _block(
    convolution: type[nn.Conv2d | nn.ConvTranspose2d],
    in_channels: int,
    out_channels: int,
    activation: nn.Module,
    *,
    norm: bool,
) -> nn.Sequential:
    """Make what halves or doubles a map; batch normalisation, where there is one, has the bias."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = convolution(in_channels, out_channels, kernel_size=4, stride=2, padding=1, bias=not norm)
    if norm:
        parts["norm"] = nn.BatchNorm2d(out_channels)
    parts["activation"] = activation
    return nn.Sequential(parts)
