"""VGG16 as torchvision builds it, of any width and with the activation that paper 1 names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

# convolutions before each of the five poolings, and their channels in units of the width
_STAGES = ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8))


def vgg16_features(in_channels: int = 3, *, width: int = 64, negative_slope: float = 0.0) -> nn.Sequential:
    """The 13 convolutions of VGG16 and its five max-poolings; parameters are named as torchvision's.

    Args:
        in_channels: of the image.
        width: channels of the first stage, 64 in VGG16; the last has eight times as many.
        negative_slope: of LeakyReLU; 0 is ReLU.

    Shape:
        (B, in_channels, H, W) to (B, 8 width, H // 32, W // 32).

    Source:
        Simonyan and Zisserman, arXiv:1409.1556, configuration D; ``torchvision.models.vgg16``.
    """
    if width < 1:
        raise ValueError(f"width must be >= 1 (channels), got {width}.")
    layers: list[nn.Module] = []
    for repeats, factor in _STAGES:
        for _ in range(repeats):
            convolution = nn.Conv2d(in_channels, factor * width, kernel_size=3, padding=1)
            # He's rule over what goes in: torchvision's, over what comes out, starves a narrow network
            nn.init.kaiming_normal_(convolution.weight, a=negative_slope, nonlinearity="leaky_relu")
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            layers += [convolution, nn.LeakyReLU(negative_slope)]
            in_channels = factor * width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def vgg16_classifier(
    num_classes: int, *, width: int = 64, negative_slope: float = 0.0, dropout: float = 0.5
) -> nn.Sequential:
    """The three fully connected layers of VGG16, over 7 x 7 features.

    Args:
        num_classes: outputs.
        width: see :func:`vgg16_features`; 64 gives the hidden layers their 4096 units.
        negative_slope: of LeakyReLU; 0 is ReLU.
        dropout: probability, after either hidden layer.

    Shape:
        (B, 8 * width * 49) to (B, num_classes).
    """
    hidden = 64 * width
    layers = [
        nn.Linear(8 * width * 49, hidden),
        nn.LeakyReLU(negative_slope),
        nn.Dropout(dropout),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(negative_slope),
        nn.Dropout(dropout),
        nn.Linear(hidden, num_classes),
    ]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, a=negative_slope, nonlinearity="leaky_relu")
            nn.init.zeros_(layer.bias)
    # the first decisions are near to even, whatever the features
    nn.init.normal_(layers[-1].weight, 0, 0.01)  # type: ignore[arg-type]
    return nn.Sequential(*layers)


def stored_vgg16_width(checkpoint: str | Path, default: int = 64) -> int:
    """Width of the VGG16 whose weights a file holds, whatever it is a part of, so that a config need not repeat it.

    Args:
        checkpoint: a ``state_dict`` saved by the bundle's training.
        default: returned where the file does not exist.
    """
    if not Path(checkpoint).is_file():
        return default
    try:
        state: Mapping[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)
        return next(int(value.shape[0]) for name, value in state.items() if name.endswith("features.0.weight"))
    except Exception:  # whoever loads the weights says what is wrong with the file
        return default


class VGG16(nn.Module):
    """VGG16, state dict and output equal to torchvision's, without torchvision.

    torchvision's wheels import only beside the build of PyTorch they were made for, and its VGG has neither width nor
    slope; a bundle must run without it.

    Args:
        num_classes: outputs.
        in_channels: of the image.
        width: channels of the first stage, 64 in VGG16; smaller ones are for CPUs and tests.
        negative_slope: of LeakyReLU; 0 is ReLU.
        dropout: of the classifier.

    Shape:
        image: (B, in_channels, H, W) float32, H and W >= 32. Returns (B, num_classes) float32 logits.

    Example:
        >>> VGG16(2, width=1)(torch.zeros(1, 3, 55, 55)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        num_classes: int = 2,
        in_channels: int = 3,
        *,
        width: int = 64,
        negative_slope: float = 0.0,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = vgg16_features(in_channels, width=width, negative_slope=negative_slope)
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = vgg16_classifier(num_classes, width=width, negative_slope=negative_slope, dropout=dropout)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(image)).flatten(1))
        return logits
