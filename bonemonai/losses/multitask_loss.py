"""Six losses of one network, weighed by what the training finds out about them (paper 4, 3.7)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from monai.losses import DiceLoss
from torch import nn
from torch.nn import functional as F

from bonemonai.losses.yolo_loss import YoloLoss
from bonemonai.transforms.balanced_mixup import Mixed

TASKS = ("box", "category", "confidence", "dice", "heatmap", "classification")

# what a loss needs, of the prediction and of the target
_NEEDS = {
    "dice": ("mask", "mask"),
    "heatmap": ("boundary", "boundary"),
    "classification": ("logits", "class"),
}


class MultitaskValue(NamedTuple):
    """A loss and what it is made of.

    Attributes:
        total: scalar; to be minimised.
        losses: of each task that is there, scalars without a gradient.
        weights: of each task, 1 / (2 sigma^2), without a gradient.
    """

    total: torch.Tensor
    losses: dict[str, torch.Tensor]
    weights: dict[str, torch.Tensor]


class UncertaintyWeights(nn.Module):
    """Sum of losses with learnable weights: sum_i exp(-s_i) L_i / 2 + ln(1 + exp(s_i)) / 2, s_i = ln sigma_i^2.

    No weight can fall to 0 for good: it would cost s_i / 2. Kendall's own term is s_i / 2 on both sides; of a loss that
    reaches 0 (as that of the class does where all boxes are of one class) it goes on to fall at the same rate, the
    weight exp(-s_i) grows exponentially with the steps, and the sum falls below 0 without end. Here, as in Liebel and
    Koerner, the term is never below 0 and its slope dies out as exp(s_i): the sum stays above 0. The best s_i for a
    loss that stands still, with u = exp(s_i), is u = (L + sqrt(L^2 + 4 L)) / 2.

    Give the parameters to the optimiser beside the network's, without weight decay.

    Args:
        names: of the tasks.
        initial: s at first; 0 weighs each loss with 1/2.

    Raises:
        ValueError: if there is no name, or one is there twice.

    Source:
        Kendall, Gal and Cipolla, CVPR 2018, eq. (10); Liebel and Koerner, arXiv:1805.06334, eq. (2), here with
        1/2 ln(1 + sigma^2) as Kendall's ln sigma = 1/2 ln sigma^2. Zhang et al., eq. (19), says "adaptive" only.

    Example:
        >>> weigh = UncertaintyWeights(["a", "b"])
        >>> round(weigh({"a": torch.tensor(2.0)}).item(), 4)  # 1 + ln(2) / 2
        1.3466
    """

    def __init__(self, names: Sequence[str], *, initial: float = 0.0) -> None:
        super().__init__()
        if not names or len(set(names)) != len(names):
            raise ValueError(f"names must be one or more, each once, got {list(names)}.")
        self.log_variances = nn.ParameterDict({name: nn.Parameter(torch.tensor(float(initial))) for name in names})

    @staticmethod
    def best(loss: float) -> float:
        """The s that minimises the sum for a loss that stands still; minus infinity at 0."""
        variance = (loss + math.sqrt(loss**2 + 4 * loss)) / 2
        return math.log(variance) if variance else -math.inf

    def weights(self) -> dict[str, torch.Tensor]:
        """exp(-s) / 2 of each task, without a gradient."""
        return {name: torch.exp(-value.detach()) / 2 for name, value in self.log_variances.items()}

    def forward(self, losses: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the sum over the losses that are there; a task that is not takes no part, nor does its weight.

        Args:
            losses: scalars by task.

        Raises:
            ValueError: if there is none, or one of no task.
        """
        unknown = [name for name in losses if name not in self.log_variances]
        if unknown or not losses:
            raise ValueError(f"losses must be of {', '.join(self.log_variances)}, got {', '.join(losses) or 'none'}.")
        terms = []
        for name, loss in losses.items():
            value = self.log_variances[name]
            terms.append((torch.exp(-value) * loss + F.softplus(value)) / 2)
        return torch.stack(terms).sum()


class MultitaskLoss(nn.Module):
    """Box, category and confidence (YOLOv3), Dice, mean squared error of the boundary, cross-entropy, weighed.

    A loss is left out where the prediction or the target it needs is missing (not in the dictionary, or None): a batch
    without masks trains the other tasks. Mixed batches, whose targets are :class:`bonemonai.transforms.Mixed` pairs,
    cost the weighted sum of the losses to both targets, task by task.

    Args:
        anchors: see :class:`bonemonai.losses.YoloLoss`.
        strides: see :class:`bonemonai.losses.YoloLoss`.
        class_weights: of the cross-entropy, one a class; None weighs them alike.

    Shape:
        prediction: "boxes", the locator's outputs, see :class:`bonemonai.losses.YoloLoss`; "mask", (B, 1, H, W) logits;
        "boundary", (B, 1, H, W), compared as it is; "logits", (B, K). target: "boxes" (B, n, 4), "labels" (B, n),
        "mask" (B, 1, H, W) of 0 and 1, "boundary" (B, 1, H, W) in [0, 1], "class" (B,) int64, -1 where it is not known,
        which takes no part.

    Raises:
        InputError: see :class:`bonemonai.losses.YoloLoss`.
        ValueError: if no task has both prediction and target, or the pairs are of several lam.

    Source:
        Zhang et al., eq. (19); the weights: :class:`UncertaintyWeights`.
    """

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        strides: Sequence[int] = (8, 16, 32),
        *,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.yolo = YoloLoss(anchors, strides)
        self.dice = DiceLoss(sigmoid=True)
        self.cross_entropy = nn.CrossEntropyLoss(None if class_weights is None else torch.tensor(class_weights))
        self.weigh = UncertaintyWeights(TASKS)

    def forward(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> MultitaskValue:
        """Return the total, the losses and the weights."""
        losses: dict[str, torch.Tensor] = {}
        for share, side in _sides(target):
            for name, loss in self.losses(prediction, side).items():
                losses[name] = losses[name] + share * loss if name in losses else share * loss
        if not losses:
            raise ValueError("prediction and target must share a task, got none that both have.")
        ordered = {name: losses[name] for name in TASKS if name in losses}
        return MultitaskValue(
            self.weigh(ordered), {name: loss.detach() for name, loss in ordered.items()}, self.weigh.weights()
        )

    def losses(self, prediction: Mapping[str, Any], target: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """The losses of the tasks that are there, unweighed.

        Args:
            prediction: see the class.
            target: see the class, not mixed.
        """
        found: dict[str, torch.Tensor] = {}
        if prediction.get("boxes") is not None and target.get("boxes") is not None:
            terms = self.yolo(prediction["boxes"], target["boxes"], target["labels"])
            found = dict(zip(TASKS, terms, strict=False))
        measures: dict[str, Callable[..., torch.Tensor]] = {
            "dice": self.dice,
            "heatmap": F.mse_loss,
            "classification": self.cross_entropy,
        }
        for name, measure in measures.items():
            value, truth = (given.get(key) for given, key in zip((prediction, target), _NEEDS[name], strict=True))
            if name == "classification" and value is not None and truth is not None:
                value, truth = value[truth >= 0], truth[truth >= 0]
            if value is not None and truth is not None and len(truth):
                found[name] = measure(value, truth)
        return found


def _sides(target: Mapping[str, Any]) -> list[tuple[float, dict[str, Any]]]:
    """Both targets of a mixed batch with their weights, or the one of another."""
    mixed = {key: value for key, value in target.items() if isinstance(value, Mixed)}
    if not mixed:
        return [(1.0, dict(target))]
    lams = {pair.lam for pair in mixed.values()}
    if len(lams) > 1:
        raise ValueError(f"target must be mixed with one lam, got {sorted(lams)}.")
    lam = lams.pop()
    first = {**target, **{key: pair.target_a for key, pair in mixed.items()}}
    second = {**target, **{key: pair.target_b for key, pair in mixed.items()}}
    return [(1 - lam, first), (lam, second)]
