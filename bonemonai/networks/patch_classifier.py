"""Patches of a scan as networks for photographs take them: three channels, resized, on ImageNet's scale."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks.mask_guided_vgg16 import MaskGuidedPrediction, MaskGuidedVGG16

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PatchClassifier(nn.Module):
    """A classifier of grey patches and their lacuna masks.

    All networks that paper 1 compares get the same patches through it; those that are not guided ignore the mask.

    Args:
        network: takes (B, 3, n, n) and, if it is a :class:`MaskGuidedVGG16`, (B, 1, n, n) besides.
        patch_input_size: n, pixels, that patches are resized to, bilinearly. 224 leaves VGG16 a 7 x 7 map; the 55
            pixels of a patch would leave 1 x 1.

    Shape:
        patches: (B, 2, H, W) float32; channel 0 grey in [0, 1], channel 1 the lacuna mask, 0 to 1. Returns what the
        network returns: (B, classes) logits in evaluation.

    Example:
        >>> from bonemonai.networks import VGG16
        >>> PatchClassifier(VGG16(width=1), 64)(torch.zeros(1, 2, 55, 55)).shape
        torch.Size([1, 2])
    """

    def __init__(self, network: nn.Module, patch_input_size: int = 224) -> None:
        super().__init__()
        if patch_input_size < 32:
            raise ValueError(f"patch_input_size must be >= 32 (pixels), got {patch_input_size}.")
        self.network, self.patch_input_size = network, patch_input_size
        self.mean = nn.Buffer(torch.tensor(_IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(_IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, patches: torch.Tensor) -> torch.Tensor | MaskGuidedPrediction:
        """Return the logits."""
        if patches.ndim != 4 or patches.shape[1] != 2:
            raise ValueError(f"patches must be (B, 2, H, W), grey and mask, got {tuple(patches.shape)}.")
        size = (self.patch_input_size, self.patch_input_size)
        resized = F.interpolate(patches, size, mode="bilinear", align_corners=False)
        image = (resized[:, :1] - self.mean) / self.std
        guided = isinstance(self.network, MaskGuidedVGG16)
        prediction: torch.Tensor | MaskGuidedPrediction = (
            self.network(image, resized[:, 1:]) if guided else self.network(image)
        )
        return prediction
