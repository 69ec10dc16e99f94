"""DarkNet-53, the backbone of YOLOv3, which finds the vertebrae in paper 4."""

from __future__ import annotations

from collections import OrderedDict

import torch
from monai.networks.blocks import Convolution
from torch import nn

from bonemonai.networks.checkpointing import run_checkpointed

_RESIDUALS = (1, 2, 8, 8, 4)


class DarkNet53(nn.Module):
    """52 convolutions with residual blocks; the 53rd layer, the classifier of ImageNet, is left out.

    Each convolution is followed by batch normalisation and LeakyReLU(0.1). A 3 x 3 convolution of ``width`` channels
    comes first; then five stages, each a 3 x 3 convolution of stride 2, which doubles the channels, and 1, 2, 8, 8 and
    4 residual blocks (1 x 1 to half the channels, 3 x 3 back, and the block's input added behind the LeakyReLU).

    Args:
        in_channels: of the image.
        width: channels of the first convolution; 32 in YOLOv3, others are for CPUs and tests.

    Attributes:
        channels: of the three maps.
        checkpointing: recompute the stages in the backward pass instead of keeping their maps; off.

    Shape:
        image: (B, in_channels, H, W) float32, H and W multiples of 32. Returns three maps, of strides 8, 16 and 32:
        (B, 8 width, H / 8, W / 8), (B, 16 width, H / 16, W / 16) and (B, 32 width, H / 32, W / 32).

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or sides.

    Source:
        Zhang et al., 3.3; Redmon and Farhadi, arXiv:1804.02767, 2.4 and Table 1.

    Example:
        >>> [tuple(maps.shape) for maps in DarkNet53(width=1).eval()(torch.zeros(1, 3, 64, 96))]
        [(1, 8, 8, 12), (1, 16, 4, 6), (1, 32, 2, 3)]
    """

    def __init__(self, in_channels: int = 3, width: int = 32) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be >= 1 (channels), got {value}.")
        self.in_channels, self.checkpointing = in_channels, False
        self.channels = (8 * width, 16 * width, 32 * width)
        self.stem = darknet_convolution(in_channels, width, 3)
        self.stages = nn.ModuleList(_stage(width * 2**number, residuals) for number, residuals in enumerate(_RESIDUALS))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the maps of strides 8, 16 and 32."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image must be (B, {self.in_channels}, H, W), got {tuple(image.shape)}.")
        rows, columns = image.shape[2:]
        if rows < 1 or columns < 1 or rows % 32 or columns % 32:
            raise ValueError(
                f"image must have multiples of 32 x 32 pixels (five stages halve it), got {rows} x {columns}; resize "
                "or pad it."
            )
        maps, features = [], self.stem(image)
        for stage in self.stages:
            features = run_checkpointed(stage, features) if self.checkpointing else stage(features)
            maps.append(features)
        return maps[2], maps[3], maps[4]


def darknet_convolution(in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1) -> nn.Module:
    """Make what YOLOv3 is made of: convolution without bias, batch normalisation, LeakyReLU(0.1).

    Args:
        in_channels: of the map.
        out_channels: of what is made of it.
        kernel_size: pixels, odd; the padding is half of it.
        stride: pixels.
    """
    return Convolution(
        2,
        in_channels,
        out_channels,
        strides=stride,
        kernel_size=kernel_size,
        adn_ordering="NA",
        act=("leakyrelu", {"negative_slope": 0.1}),
        norm="batch",
        bias=False,
    )


class _Residual(nn.Module):
    """The map and what two convolutions make of it, added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = darknet_convolution(channels, channels // 2, 1)
        self.expand = darknet_convolution(channels // 2, channels, 3)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = maps + self.expand(self.reduce(maps))
        return added


def _stage(channels: int, residuals: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict(down=darknet_convolution(channels, 2 * channels, 3, stride=2))
    for number in range(residuals):
        parts[f"residual{number + 1}"] = _Residual(2 * channels)
    return nn.Sequential(parts)
