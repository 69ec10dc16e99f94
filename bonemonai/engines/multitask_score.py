"""How good paper 4's network is on validation subjects, in numbers that choose an epoch."""

from __future__ import annotations

from typing import Any

import torch
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce

from bonemonai.networks.multitask_network import MultitaskPrediction
from bonemonai.networks.vertebra_crop import crop_at

QUANTITIES = ("score", "found", "dice", "accuracy", "probability")


class MultitaskScore(Metric):
    """One quantity of a validation in which the locator says where crops are cut.

    "found" is the share of vertebrae whose crop's centre lies in the true box, "dice" the mean Dice index of the true
    vertebrae (0 for one without a crop), "accuracy" the share of subjects whose class is right (wrong without any
    crop), "probability" the mean probability of the true class (0 without any crop), and "score" the mean of found,
    dice and probability, which chooses an epoch: with few subjects an accuracy is too coarse.

    Args:
        quantity: one of :data:`QUANTITIES`.
        device: of the sums.

    Attach to MONAI's evaluator with ``decollate=False``. What no subject has, such as a class, is left out of the score
    and is NaN itself.

    Raises:
        ValueError: for another word.
    """

    _state_dict_all_req_keys = ("_sums",)

    def __init__(self, quantity: str = "score", device: torch.device | str = "cpu") -> None:
        if quantity not in QUANTITIES:
            raise ValueError(f"quantity must be one of {', '.join(QUANTITIES)}, got {quantity!r}.")
        self.quantity = quantity
        super().__init__(output_transform=lambda output: (output["pred"], output["label"]), device=device)

    @reinit__is_reduced
    def reset(self) -> None:
        """Begin anew."""
        # sum and count of found, dice, accuracy, probability
        self._sums = torch.zeros(4, 2, dtype=torch.float64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[MultitaskPrediction, dict[str, torch.Tensor]]) -> None:
        """Add a batch."""
        prediction, truth = output
        present = truth["present"].flatten()
        self._add(0, _on_it(prediction, truth["boxes"].flatten(0, 1))[present])
        self._add(1, _dice(prediction, truth["mask"].flatten(0, 1)[:, None])[present])
        known = truth["class"] >= 0
        labels = truth["class"][known]
        # of a subject without a crop; NaN of another is an error, and must stay
        without = ~prediction.found.any(dim=1)[known]
        chances = prediction.logits[known].float().softmax(dim=1).masked_fill(without[:, None], 0)
        self._add(2, (chances.argmax(dim=1) == labels) & (chances.sum(dim=1) > 0))
        self._add(3, chances.gather(1, labels[:, None])[:, 0])

    @sync_all_reduce("_sums")
    def compute(self) -> float:
        """The quantity."""
        found, dice, accuracy, probability = (self._sums[:, 0] / self._sums[:, 1]).tolist()
        # what no subject has is left out
        counts = self._sums[:, 1].tolist()
        parts = [value for value, number in ((found, counts[0]), (dice, counts[1]), (probability, counts[3])) if number]
        score = sum(parts) / len(parts) if parts else float("nan")
        values: dict[str, Any] = {"found": found, "dice": dice, "accuracy": accuracy, "probability": probability}
        return float({"score": score, **values}[self.quantity])

    def _add(self, row: int, values: torch.Tensor) -> None:
        self._sums[row] += torch.tensor([float(values.double().sum()), float(len(values))], dtype=torch.float64).to(
            self._device
        )


def _on_it(prediction: MultitaskPrediction, boxes: torch.Tensor) -> torch.Tensor:
    """Whether each crop's centre lies in the true box."""
    centres = prediction.corners + prediction.crops.shape[-1] / 2
    inside = (centres >= boxes[:, [1, 0]]) & (centres <= boxes[:, [3, 2]])
    return inside.all(dim=1) & prediction.found.flatten()


def _dice(prediction: MultitaskPrediction, masks: torch.Tensor) -> torch.Tensor:
    """Dice index of each vertebra, over the slice: what lies outside of the crop is missed."""
    cut = crop_at(masks, prediction.corners, prediction.crops.shape[-1]) > 0.5
    marked = prediction.mask > 0
    shared, sums = (cut & marked).sum((1, 2, 3)), marked.sum((1, 2, 3)) + (masks > 0.5).sum((1, 2, 3))
    return 2 * shared / sums.clamp(min=1)


def further_multitask_scores() -> dict[str, MultitaskScore]:
    """All quantities but the score, for the evaluator's ``additional_metrics``."""
    return {quantity: MultitaskScore(quantity) for quantity in QUANTITIES if quantity != "score"}
