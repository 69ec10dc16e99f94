"""Mean absolute error of a mark image, in which the little that is to be marked may weigh more (paper 3)."""

from __future__ import annotations

import torch
from torch import nn


class WeightedL1Loss(nn.Module):
    """L = mean of w |prediction - target|, w being ``foreground_weight`` where the target is 1, and 1 where it is 0.

    At a weight of 1 this is the paper's mean absolute error. A vertebral body covers about 0.5 % of a slice, so that an
    empty mark is an error of 0.005 only: networks that see few slices fall into it, and do not come out. A weight near
    the ratio of both areas, or a part of it, prevents that.

    Args:
        foreground_weight: 1 or more.

    Shape:
        prediction and target: the same, float in [0, 1]. Returns a scalar.

    Raises:
        ValueError: for a weight below 1, or shapes that differ.

    Source:
        Tang et al., 2.1 (MAE); the weight is ours.

    Example:
        >>> float(WeightedL1Loss(3)(torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.0])))
        1.75
    """

    def __init__(self, foreground_weight: float = 1.0) -> None:
        super().__init__()
        if not foreground_weight >= 1:
            raise ValueError(f"foreground_weight must be >= 1, got {foreground_weight}.")
        self.foreground_weight = foreground_weight

    def forward(self, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the loss."""
        if prediction.shape != target.shape:
            raise ValueError(f"prediction and target must have one shape, got {prediction.shape} and {target.shape}.")
        weights = 1 + (self.foreground_weight - 1) * target
        return (weights * (prediction - target).abs()).mean()
