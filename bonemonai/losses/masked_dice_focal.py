"""Dice and focal loss of the foreground inside a mask (paper 1, II.C)."""

from __future__ import annotations

import torch
from monai.losses import DiceLoss, FocalLoss
from torch import nn


class MaskedDiceFocalLoss(nn.Module):
    """Sum of Dice and focal loss over the pixels of a mask, foreground channel only.

    MONAI's MaskedDiceLoss multiplies logits by the mask, after which the sigmoid of a masked pixel is 0.5 and
    still counts; here what lies outside takes no part at all: its prediction and target are both 0 for Dice,
    and it is left out of focal's mean.

    Args:
        gamma: focusing exponent of the focal loss.
        lambda_dice: weight of the Dice loss.
        lambda_focal: weight of the focal loss.

    Shape:
        logits: (B, 2, ...) float, background and lacuna.
        target: (B, 2, ...) any type: first channel 1 in lacunae, second non-zero where the loss counts (bone). With
        one channel only, (B, 1, ...), every pixel counts. One tensor, because MONAI's trainer hands a loss one.
        Returns a scalar >= 0.

    Raises:
        ValueError: if logits has not two channels, or the shapes do not fit.

    Source:
        Poles et al., II.C; monai.losses.DiceLoss and FocalLoss.
    """

    def __init__(self, *, gamma: float = 2.0, lambda_dice: float = 1.0, lambda_focal: float = 1.0) -> None:
        super().__init__()
        # batch: most patches hold few lacunae or none, and the Dice of an empty patch is all or nothing
        self.dice = DiceLoss(batch=True)
        self.focal = FocalLoss(gamma=gamma, reduction="none")
        self.lambda_dice, self.lambda_focal = lambda_dice, lambda_focal

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss of a batch."""
        if logits.shape[1] != 2 or target.shape[1] not in (1, 2) or logits.shape[2:] != target.shape[2:]:
            raise ValueError(
                f"logits must be (B, 2, ...) and target (B, 1 or 2, ...), got {logits.shape} and {target.shape}."
            )
        truth = target[:, :1].to(logits.dtype)
        weight = (target[:, 1:] != 0).to(logits.dtype) if target.shape[1] == 2 else torch.ones_like(truth)
        truth = truth * weight
        # two-class softmax is the sigmoid of the difference
        lacuna = logits[:, 1:] - logits[:, :1]
        dice = self.dice(torch.sigmoid(lacuna) * weight, truth)
        focal = (self.focal(lacuna, truth) * weight).sum() / weight.sum().clamp_min(1.0)
        loss: torch.Tensor = self.lambda_dice * dice + self.lambda_focal * focal
        return loss
