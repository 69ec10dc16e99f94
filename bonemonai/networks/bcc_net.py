"""BCC-Net, the small DenseNet of paper 3: normal bone mass, low bone mass or osteoporosis."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import nn


class BCCNet(nn.Module):
    """DenseNet with few and narrow layers, each convolution followed by batch normalisation and ReLU.

    That order (the paper's Table 1) is not the one of DenseNet, MONAI and torchvision, where normalisation and ReLU
    come first; hence a network of its own. Dropout follows each convolution but the first. What Table 1 does not print
    is ours: channels of the stem, of the 1 x 1 convolutions (4 growth rates, as in DenseNet) and of the transitions
    (half of what comes in, as in DenseNet). Initial weights are DenseNet's (He normal).

    The paper's comparators are ``blocks=(1, 1, 2, 1)``, its DenseNet-1, and ``blocks=(2, 4, 6, 4)``, its DenseNet-2.

    Args:
        in_channels: of the image.
        num_classes: outputs; softmax is the loss's and the evaluator's.
        growth_rate: channels that a dense layer adds.
        blocks: dense layers, a 1 x 1 and a 3 x 3 convolution each, of each dense block.
        stem: channels of the 7 x 7 convolution.
        bottleneck: channels of a dense layer's 1 x 1 convolution.
        compression: share of the channels that a transition keeps, in (0, 1], rounded down.
        dropout: probability, in [0, 1).

    Attributes:
        cam_layer: name of the layer for Grad-CAM: the last dense block, whose maps, all behind a ReLU, are averaged.

    Shape:
        image: (B, in_channels, H, W) float32, grey in [0, 1], 224 x 224 in the paper and at least 32 x 32 with four
        blocks; the last map is H / 32 x W / 32. Returns (B, num_classes) float32 logits.

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or is too small.

    Source:
        Tang et al., 2.2, Table 1, 3.2 (dropout) and 3.5 (comparators); Huang et al., CVPR 2017.

    Example:
        >>> BCCNet()(torch.zeros(2, 1, 224, 224)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        in_channels: int = 1,
        num_classes: int = 3,
        *,
        growth_rate: int = 12,
        blocks: Sequence[int] = (1, 2, 4, 2),
        stem: int = 24,
        bottleneck: int = 48,
        compression: float = 0.5,
        dropout: float = 0.4,
    ) -> None:
        super().__init__()
        for name, value, unit in (
            ("in_channels", in_channels, "channels"), ("num_classes", num_classes, "classes"),
            ("growth_rate", growth_rate, "channels"), ("stem", stem, "channels"),
            ("bottleneck", bottleneck, "channels"), ("every entry of blocks", min(blocks, default=0), "dense layers"),
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} must be >= 1 ({unit}), got {value}.")
        if not 0 < compression <= 1:
            raise ValueError(f"compression must be in (0, 1] (share of the channels), got {compression}.")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be in [0, 1) (probability), got {dropout}.")
        self.in_channels, self.smallest = in_channels, 2 ** (len(blocks) + 1)
        self.cam_layer = f"features.block{len(blocks)}"
        self.features = nn.Sequential()
        self.features.add_module("stem", nn.Sequential(_convolution(in_channels, stem, 7, stride=2)))
        self.features.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        channels = stem
        for number, layers in enumerate(blocks, start=1):
            self.features.add_module(f"block{number}", _dense_block(layers, channels, growth_rate, bottleneck, dropout))
            channels += layers * growth_rate
            if number < len(blocks):
                kept = max(int(channels * compression), 1)
                transition = _convolution(channels, kept, 1, dropout=dropout)
                transition["pool"] = nn.AvgPool2d(2)
                self.features.add_module(f"transition{number}", nn.Sequential(transition))
                channels = kept
        self.classifier = nn.Linear(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image must be (B, {self.in_channels}, H, W), got {list(image.shape)}.")
        if min(image.shape[2:]) < self.smallest:
            rows, columns = image.shape[2:]
            raise ValueError(
                f"image must have at least {self.smallest} x {self.smallest} pixels (pooling leaves nothing of fewer), "
                f"got {rows} x {columns}; resize it."
            )
        logits: torch.Tensor = self.classifier(self.features(image).mean(dim=(2, 3)))
        return logits


class _DenseLayer(nn.Module):
    """What a 1 x 1 and a 3 x 3 convolution make of the maps, joined to the maps."""

    def __init__(self, channels: int, growth_rate: int, bottleneck: int, dropout: float) -> None:
        super().__init__()
        self.reduce = nn.Sequential(_convolution(channels, bottleneck, 1, dropout=dropout))
        self.grow = nn.Sequential(_convolution(bottleneck, growth_rate, 3, dropout=dropout))

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return torch.cat([maps, self.grow(self.reduce(maps))], dim=1)


def _dense_block(layers: int, channels: int, growth_rate: int, bottleneck: int, dropout: float) -> nn.Sequential:
    block = nn.Sequential()
    for number in range(layers):
        layer = _DenseLayer(channels + number * growth_rate, growth_rate, bottleneck, dropout)
        block.add_module(f"layer{number + 1}", layer)
    return block


def _convolution(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, dropout: float = 0
) -> OrderedDict[str, nn.Module]:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding=kernel_size // 2, bias=False)
    parts["norm"] = nn.BatchNorm2d(out_channels)
    parts["relu"] = nn.ReLU()
    if dropout:
        parts["dropout"] = nn.Dropout(dropout)
    return parts
