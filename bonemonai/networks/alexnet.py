"""AlexNet as torchvision builds it: a baseline of paper 1."""

from __future__ import annotations

import torch
from torch import nn


class AlexNet(nn.Module):
    """AlexNet, state dict and output equal to torchvision's, without torchvision (see :class:`VGG16`).

    Args:
        num_classes: outputs.
        in_channels: of the image.
        dropout: of the classifier.

    Shape:
        image: (B, in_channels, H, W) float32, H and W >= 63. Returns (B, num_classes) float32 logits.

    Source:
        Krizhevsky, arXiv:1404.5997; ``torchvision.models.alexnet``.

    Example:
        >>> AlexNet(2)(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self, num_classes: int = 2, in_channels: int = 3, *, dropout: float = 0.5) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 64, kernel_size=11, stride=4, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(64, 192, kernel_size=5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
            nn.Conv2d(192, 384, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(384, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(256, 256, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(kernel_size=3, stride=2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d(6)
        self.classifier = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(256 * 36, 4096),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, num_classes),
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        logits: torch.Tensor = self.classifier(self.avgpool(self.features(image)).flatten(1))
        return logits
