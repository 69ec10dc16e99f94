"""The convolutional network of paper 2: pristine bone or failed."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import nn


class DamageCNN(nn.Module):
    """Convolutions with ReLU and 2 x 2 max-pooling, filters doubling from layer to layer, and two dense layers.

    ``kernel_size``, which the paper sweeps, is the first convolution's; the others are 3 x 3. The first dense layer has
    twice as many units as the last convolution has filters. The paper's Figure 4 is lost; these sizes are the ones that
    give its numbers of trainable parameters: 19,265,858 with the defaults (cortical bone), 20,446,018 with
    ``layers=5, kernel_size=3`` (trabecular). That the padding is "same" and an image 200 x 200 is inferred (192 to 207
    give the same numbers), and so is the first dense layer at other depths.

    The paper trained in Keras, hence Keras's initial values: Glorot uniform weights and zero biases. PyTorch's own are
    others, and the paper's learning rates go with Keras's.

    Args:
        num_classes: outputs.
        in_channels: of the first convolution; the paper's parameters are counted with 3, though scans are grey.
        layers: convolutions, each followed by a pooling; 4 for cortical bone, 5 for trabecular, 3 in the baseline.
        kernel_size: of the first convolution, pixels, odd.
        image_size: rows and columns of the image, pixels, at least ``2**layers``; the dense layers are made for it.
        width: filters of the first convolution; smaller ones are for CPUs and tests.

    Attributes:
        cam_layer: name of the layer for Grad-CAM: the last convolution's ReLU, before the last pooling.

    Shape:
        image: (B, 1, image_size, image_size) or (B, in_channels, image_size, image_size) float32, grey in [0, 1]; one
        channel is repeated to in_channels. Returns (B, num_classes) float32 logits.

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or another size.

    Source:
        Shen et al., 2.2, 3.2, 3.5 (parameters) and Figure 4; Glorot and Bengio, AISTATS 2010.

    Example:
        >>> DamageCNN(image_size=64, width=1)(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        num_classes: int = 2,
        *,
        in_channels: int = 3,
        layers: int = 4,
        kernel_size: int = 5,
        image_size: int = 200,
        width: int = 32,
    ) -> None:
        super().__init__()
        for name, value, unit in (
            ("num_classes", num_classes, "classes"), ("in_channels", in_channels, "channels"),
            ("layers", layers, "convolutions"), ("kernel_size", kernel_size, "pixels"), ("width", width, "filters"),
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} must be >= 1 ({unit}), got {value}.")
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd (pixels; an even kernel has no centre), got {kernel_size}.")
        if image_size < 2**layers:
            raise ValueError(
                f"image_size must be >= {2**layers} (pixels; {layers} layers halve it as often), got {image_size}."
            )
        self.in_channels, self.image_size = in_channels, image_size
        self.cam_layer = f"features.relu{layers}"
        modules: OrderedDict[str, nn.Module] = OrderedDict()
        channels = in_channels
        for number in range(1, layers + 1):
            filters, kernel = width * 2 ** (number - 1), kernel_size if number == 1 else 3
            modules[f"conv{number}"] = nn.Conv2d(channels, filters, kernel, padding=kernel // 2)
            modules[f"relu{number}"] = nn.ReLU()
            modules[f"pool{number}"] = nn.MaxPool2d(2)
            channels = filters
        self.features = nn.Sequential(modules)
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * (image_size // 2**layers) ** 2, 2 * channels),
            nn.ReLU(),
            nn.Linear(2 * channels, num_classes),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if image.ndim != 4 or image.shape[1] not in (1, self.in_channels):
            raise ValueError(f"image must be (B, 1, H, W) or (B, {self.in_channels}, H, W), got {list(image.shape)}.")
        rows, columns = image.shape[2:]
        if (rows, columns) != (self.image_size, self.image_size):
            raise ValueError(
                f"image must have the network's {self.image_size} x {self.image_size} pixels, got {rows} x {columns}."
            )
        logits: torch.Tensor = self.classifier(self.features(image.expand(-1, self.in_channels, -1, -1)))
        return logits
