"""What paper 4's network says of whole slices, against what is true of them: the loss of MONAI's trainer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bonemonai.engines.pair_batch import map_sides
from bonemonai.losses.multitask_loss import MultitaskLoss, MultitaskValue
from bonemonai.networks.multitask_network import MultitaskPrediction
from bonemonai.networks.vertebra_crop import crop_at


class MultitaskCriterion(nn.Module):
    """Cut the truth as the network cut the slices, leave out what was not found, and take the losses.

    Of a vertebra without a crop there is no mask, and of a subject with neither no class: their losses are left out,
    for what stands in their place in the prediction is no output. A part of the network that was not run has no loss.

    Args:
        loss: of the six tasks; its weights are this module's parameters.

    Attributes:
        last: of the last batch, the losses and weights that the total is made of.

    Shape:
        targets: ``boxes`` (B, 2, 4), ``present`` (B, 2) bool, ``mask`` and ``boundary`` (B, 2, H, W), ``class`` (B,)
        int64, -1 where it is not known; each a tensor or a :class:`bonemonai.transforms.Mixed` pair. Returns a scalar.

    Source:
        Zhang et al., eq. (19).
    """

    def __init__(self, loss: MultitaskLoss) -> None:
        super().__init__()
        self.loss = loss
        self.last: MultitaskValue | None = None

    def forward(self, prediction: MultitaskPrediction, targets: Mapping[str, Any]) -> torch.Tensor:
        """Return the weighed sum."""
        given, wanted = self._pairs(prediction, targets)
        touched = _touched(prediction) if torch.distributed.is_initialized() else 0
        if not given:  # a batch that shows no vertebra while no part is trained that could learn from it
            self.last = None
            return touched + torch.stack([0 * value for value in self.loss.parameters()]).sum()
        self.last = self.loss(given, wanted)
        return touched + self.last.total

    def terms(self) -> dict[str, float]:
        """Losses and weights of the last batch, ``loss_<task>`` and ``weight_<task>``."""
        if self.last is None:
            return {}
        return {
            **{f"loss_{name}": float(value) for name, value in self.last.losses.items()},
            **{f"weight_{name}": float(value) for name, value in self.last.weights.items()},
        }

    def _pairs(
        self, prediction: MultitaskPrediction, targets: Mapping[str, Any]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        given: dict[str, Any] = {}
        wanted: dict[str, Any] = {}
        if prediction.outputs is not None and "boxes" in targets:
            classes = prediction.outputs[0].shape[-1] - 5
            given["boxes"] = prediction.outputs
            # NaN times 0 is NaN: an absent box is a place, and its label says that there is none
            wanted["boxes"] = map_sides(lambda boxes: boxes.flatten(0, 1)[:, None].nan_to_num(0), targets["boxes"])
            wanted["labels"] = map_sides(lambda present: _labels(present, classes), targets["present"])
        kept = prediction.found.flatten()
        for name, value in (("mask", prediction.mask), ("boundary", prediction.boundary)):
            if name in targets and value is not None and bool(kept.any()):
                given[name] = value[kept]
                wanted[name] = map_sides(lambda slices: self._cut(slices, prediction, kept), targets[name])
        # weights are 0 without the classifier; NaN of a subject that has a crop is an error, and must stay
        decided = prediction.found.any(dim=1) & ~(prediction.weights == 0).all(dim=1)
        if "class" in targets and bool(decided.any()):
            given["logits"] = prediction.logits[decided]
            wanted["class"] = map_sides(lambda labels: labels[decided], targets["class"])
        return given, wanted

    @staticmethod
    def _cut(slices: torch.Tensor, prediction: MultitaskPrediction, kept: torch.Tensor) -> torch.Tensor:
        size = prediction.crops.shape[-1]
        return crop_at(slices.flatten(0, 1)[:, None][kept], prediction.corners[kept], size)


def _touched(prediction: MultitaskPrediction) -> torch.Tensor:
    """Zero, made of all outputs: processes wait for each other's gradients of all that was run, used or not."""
    outputs = [*(prediction.outputs or ()), prediction.mask, prediction.boundary, prediction.logits, prediction.weights]
    return torch.stack([0 * each.float().nan_to_num().sum() for each in outputs if each is not None]).sum()


def _labels(present: torch.Tensor, classes: int) -> torch.Tensor:
    """Class of each slice's box, (2 B, 1): L1 or L2, or the one there is; -1 without a box."""
    levels = torch.arange(2, device=present.device).clamp(max=classes - 1).expand(len(present), 2)
    return torch.where(present, levels, -1).flatten()[:, None]
