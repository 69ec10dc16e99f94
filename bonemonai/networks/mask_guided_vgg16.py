"""The classifier of paper 1: VGG16 whose features a lacuna mask weights."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import nn

from bonemonai.networks.mask_guided_attention import MaskGuidedAttention
from bonemonai.networks.vgg16 import vgg16_classifier, vgg16_features


class MaskGuidedPrediction(NamedTuple):
    """What :class:`MaskGuidedVGG16` returns in training, for the loss.

    Attributes:
        logits: (B, num_classes).
        attention: Am, (B, 1, h, w), 0 to 1.
        guide: A_MGA, (B, 1, h, w), 0 to 1.
    """

    logits: torch.Tensor
    attention: torch.Tensor
    guide: torch.Tensor


class MaskGuidedVGG16(nn.Module):
    """VGG16 features with LeakyReLU, mask-guided attention, and VGG16's fully connected layers.

    Parameters are named as torchvision's VGG16 names them, so that its ImageNet weights fit; the attention's own come
    besides. A 55 x 55 patch as it is leaves a 1 x 1 map, on which attention means nothing: see
    :class:`bonemonai.networks.PatchClassifier`.

    Args:
        num_classes: outputs.
        attention: "mask" or "learned", see :class:`MaskGuidedAttention`.
        in_channels: of the image.
        width: channels of the first stage, 64 in VGG16.
        negative_slope: of LeakyReLU; not printed, PyTorch's default.
        dropout: of the classifier.

    Shape:
        image: (B, in_channels, H, W) float32, H and W >= 32; mask: (B, 1, H, W), 0 to 1, lacunae. Returns
        (B, num_classes) logits in evaluation and a :class:`MaskGuidedPrediction` in training.

    Source:
        Poles et al., II.D.

    Example:
        >>> network = MaskGuidedVGG16(width=1).eval()
        >>> network(torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        num_classes: int = 2,
        attention: Literal["mask", "learned"] = "mask",
        in_channels: int = 3,
        *,
        width: int = 64,
        negative_slope: float = 0.01,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.features = vgg16_features(in_channels, width=width, negative_slope=negative_slope)
        self.attention = MaskGuidedAttention(attention)
        self.weighted = nn.Identity()  # f_out by a name, for Grad-CAM
        self.avgpool = nn.AdaptiveAvgPool2d(7)
        self.classifier = vgg16_classifier(num_classes, width=width, negative_slope=negative_slope, dropout=dropout)

    def forward(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor | MaskGuidedPrediction:
        """Return the logits; in training also both attention maps."""
        features, attention, guide = self.attention(self.features(image), mask)
        logits: torch.Tensor = self.classifier(self.avgpool(self.weighted(features)).flatten(1))
        return MaskGuidedPrediction(logits, attention, guide) if self.training else logits
