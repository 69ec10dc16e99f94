"""Any classifier of one image as one of two: a baseline's answer to L1 and L2 together (paper 4)."""

from __future__ import annotations

import torch
from torch import nn

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PairClassifier(nn.Module):
    """Classify the images of L1 and L2 by one network, and take the mean of both logits.

    The mean is ours: the paper does not say how a baseline decides from two images. Where one vertebra is missing the
    other decides alone; the network never sees a missing one's image, so that batch normalisation does not learn it.
    Where both are missing there is no class, and the logits are NaN: leave such a case out of the loss and report it as
    missing. (The argument of the maximum of NaN is 0, a class like any other.)

    Mean and standard deviation of ImageNet are taken off inside, as :class:`TransferResNet50` does; the caller gives
    grey values in [0, 1] and does not normalise them.

    Args:
        backbone: (N, 3, H, W) -> (N, num_classes), as :func:`torchvision_classifier` builds it.
        num_classes: its outputs.

    Shape:
        images: (B, 2, 1, H, W), repeated to three channels, float32 in [0, 1], 512 x 512 in the paper; present: (B, 2)
        bool, all by default. Returns (B, num_classes) logits.

    Raises:
        ValueError: if an argument is out of its range, images or present have other shapes, or the backbone has other
            outputs.

    Source:
        Zhang et al., 4.3.2 and 4.4, Table 2.

    Example:
        >>> network = PairClassifier(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), 3)
        >>> network(torch.zeros(1, 2, 1, 8, 8)).shape
        torch.Size([1, 3])
    """

    def __init__(self, backbone: nn.Module, num_classes: int = 3) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be >= 1 (classes), got {num_classes}.")
        super().__init__()
        self.backbone, self.num_classes = backbone, num_classes
        self.mean = nn.Buffer(torch.tensor(_IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(_IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, images: torch.Tensor, present: torch.Tensor | None = None) -> torch.Tensor:
        """Return the logits."""
        if images.ndim != 5 or tuple(images.shape[1:3]) != (2, 1):
            raise ValueError(f"images must be (B, 2, 1, H, W), got {tuple(images.shape)}.")
        if present is None:
            present = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
        if present.shape != images.shape[:2] or present.dtype != torch.bool:
            raise ValueError(
                f"present must be bool and {tuple(images.shape[:2])} (is the vertebra there?), got {present.dtype} and "
                f"{tuple(present.shape)}."
            )
        if not present.any():
            return images.new_full((len(images), self.num_classes), torch.nan)
        logits = self.backbone((images[present] - self.mean) / self.std)
        if tuple(logits.shape[1:]) != (self.num_classes,):
            raise ValueError(f"backbone must return (N, {self.num_classes}), got {tuple(logits.shape)}.")
        # 0 / 0 is NaN: neither is there
        whose = present.nonzero()[:, 0]
        sums = logits.new_zeros((len(images), self.num_classes)).index_add(0, whose, logits)
        mean: torch.Tensor = sums / present.sum(dim=1, keepdim=True)
        return mean
