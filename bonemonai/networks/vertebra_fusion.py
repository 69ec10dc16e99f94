"""One class from two vertebrae: the feature fusion module of paper 4."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn


class FusedPrediction(NamedTuple):
    """What :class:`VertebraFusion` returns.

    Attributes:
        logits: (B, num_classes); NaN where both vertebrae are missing.
        weights: (B, 2), W1 and W2, of L1 and L2; 0 for a missing vertebra.
    """

    logits: torch.Tensor
    weights: torch.Tensor


class VertebraFusion(nn.Module):
    """Weigh the vectors of L1 and L2, W1 + W2 = 1, concatenate them, and classify by a linear layer.

    The same perceptron of two layers, with ReLU between, gives each vector a number; softmax over the two numbers gives
    the weights, which a bias of the second layer would not change. Units of the hidden layer are ours, the paper prints
    none. Without ``feature_fusion`` (FF) the vectors
    are concatenated as they are, and both weights are 1.

    A vertebra may be missing: its box was not found. Its weight is 0 then and the other's 1, whatever its vector holds;
    it takes and gives no gradient. Where both are missing there is no class, and the logits are NaN: leave such a case
    out of the loss and report it as missing. (The argument of the maximum of NaN is 0, a class like any other.)

    Args:
        channels: of a vector; 2048 in the paper.
        num_classes: outputs; softmax is the loss's and the evaluator's.
        feature_fusion: the switch FF.
        hidden: units between the perceptron's two layers.

    Shape:
        vectors: (B, 2, channels) float32; present: (B, 2) bool, all by default. Returns a :class:`FusedPrediction`.

    Raises:
        ValueError: if an argument is out of its range, or vectors or present have other shapes.

    Source:
        Zhang et al., 3.6, equations (17) and (18).

    Example:
        >>> fused = VertebraFusion(8)(torch.rand(1, 2, 8), torch.tensor([[False, True]]))
        >>> fused.weights.tolist()
        [[0.0, 1.0]]
    """

    def __init__(
        self, channels: int = 2048, num_classes: int = 3, *, feature_fusion: bool = True, hidden: int = 128
    ) -> None:
        super().__init__()
        for name, value, unit in (
            ("channels", channels, "channels"), ("num_classes", num_classes, "classes"), ("hidden", hidden, "units")
        ):  # fmt: skip
            if value < 1:
                raise ValueError(f"{name} must be >= 1 ({unit}), got {value}.")
        self.channels, self.feature_fusion = channels, feature_fusion
        if feature_fusion:
            self.perceptron = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1, bias=False))
        self.fc = nn.Linear(2 * channels, num_classes)

    def forward(self, vectors: torch.Tensor, present: torch.Tensor | None = None) -> FusedPrediction:
        """Return logits and weights."""
        if vectors.ndim != 3 or tuple(vectors.shape[1:]) != (2, self.channels):
            raise ValueError(f"vectors must be (B, 2, {self.channels}), got {tuple(vectors.shape)}.")
        if present is None:
            present = torch.ones(vectors.shape[:2], dtype=torch.bool, device=vectors.device)
        if present.shape != vectors.shape[:2] or present.dtype != torch.bool:
            raise ValueError(
                f"present must be bool and {tuple(vectors.shape[:2])} (is the vertebra there?), got {present.dtype} "
                f"and {tuple(present.shape)}."
            )
        # also NaN times 0 is NaN
        vectors = vectors.masked_fill(~present[:, :, None], 0)
        any_present = present.any(dim=1, keepdim=True)
        if self.feature_fusion:
            # softmax of nothing but -inf has no gradient
            scores = self.perceptron(vectors)[:, :, 0].masked_fill(~present & any_present, -torch.inf)
            weights = scores.softmax(dim=1).masked_fill(~present, 0)
        else:
            weights = present.to(vectors.dtype)
        logits = self.fc((weights[:, :, None] * vectors).flatten(1))
        return FusedPrediction(logits.masked_fill(~any_present, torch.nan), weights)
