"""Batches of pairs of slices, as paper 4's network and its losses take them; and which parts are trained when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Engine, Events

from bonemonai.errors import InputError
from bonemonai.networks.multitask_network import PARTS
from bonemonai.transforms.balanced_mixup import Mixed

TARGETS = ("mask", "boundary", "boxes", "present", "class")


def prepare_pairs(
    batch: Mapping[str, Any], device: torch.device | None = None, non_blocking: bool = False, **_: Any
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Take images and targets out of a batch; ``prepare_batch`` of MONAI's engines.

    Args:
        batch: ``image`` (B, 2, H, W) and of :data:`TARGETS` what there is, tensors or
            :class:`bonemonai.transforms.Mixed` pairs of them.
        device: where they go.
        non_blocking: of the copy.

    Returns:
        Images (B, 2, 1, H, W), and the targets.
    """
    targets = {
        name: map_sides(lambda value: value.to(device, non_blocking=non_blocking), batch[name])
        for name in TARGETS
        if name in batch
    }
    return batch["image"].to(device, non_blocking=non_blocking)[:, :, None], targets


def map_sides(function: Callable[[Any], Any], target: Any) -> Any:
    """Apply a function to a target, or to both of a mixed batch."""
    if isinstance(target, Mixed):
        return Mixed(function(target.target_a), function(target.target_b), target.lam)
    return function(target)


def true_centres(targets: Mapping[str, Any]) -> torch.Tensor:
    """Centres of the boxes; of a mixed batch those of the side that weighs more: an image is cut once.

    Args:
        targets: with ``boxes``, (B, 2, 4), sides x, y, x, y, NaN for a vertebra that is not there.

    Returns:
        (B, 2, 2), row and column, pixels.
    """
    boxes = targets["boxes"]
    if isinstance(boxes, Mixed):
        boxes = boxes.target_b if boxes.lam > 0.5 else boxes.target_a
    centres: torch.Tensor = (boxes[..., [1, 0]] + boxes[..., [3, 2]]) / 2
    return centres


class PairTraining:
    """``prepare_batch`` of a training: says where crops are cut, and which parts of the network are run, by the epoch.

    Attach to the trainer as well, which tells it the epoch. Stages follow each other: the locator alone, the
    segmentation alone, then all parts together. A part that is not run gets no gradient and no statistics.

    Crops are cut at the true centres first: where a locator that knows nothing finds a vertebra, there is none. From
    ``located_from`` on they are cut where it finds them, see :meth:`bonemonai.networks.MultitaskNetwork.forward`.

    Args:
        locator_epochs: that train the locator alone; 0, as in the paper, trains all parts from the start.
        segmenter_epochs: after these, that train the segmentation alone.
        located_from: first epoch, from 1, in which crops are cut where the locator finds vertebrae; None cuts all at
            the true centres.
        classify: whether the classifier is trained after the stages; False where no condition is known, so that it
            stays as it is.

    Raises:
        InputError: if a number is below 0, or ``located_from`` below 1; when the training starts, if no epoch is left
            after the stages.

    Source:
        Zhang et al., 3.3; the stages, and how long the true centres are taken, are ours.
    """

    def __init__(
        self,
        locator_epochs: int = 0,
        segmenter_epochs: int = 0,
        located_from: int | None = None,
        *,
        classify: bool = True,
    ) -> None:
        if locator_epochs < 0 or segmenter_epochs < 0 or (located_from is not None and located_from < 1):
            found = f"{locator_epochs}, {segmenter_epochs} and {located_from}"
            raise InputError("stages", f"have epochs >= 0, and located_from >= 1 or None, got {found}.")
        self.locator_epochs, self.segmenter_epochs, self.located_from = locator_epochs, segmenter_epochs, located_from
        self.classify = classify
        self.epoch = 1

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.STARTED, self._check)
        engine.add_event_handler(Events.EPOCH_STARTED, self._set_epoch)

    def _check(self, engine: Any) -> None:
        alone = self.locator_epochs + self.segmenter_epochs
        if alone >= engine.state.max_epochs:
            raise InputError("max_epochs", f"is {engine.state.max_epochs}, and {alone} epochs train single parts only.")

    def _set_epoch(self, engine: Any) -> None:
        self.epoch = engine.state.epoch

    @property
    def parts(self) -> tuple[str, ...]:
        """That are trained in this epoch."""
        if self.epoch <= self.locator_epochs:
            return ("locator",)
        if not self.is_joint:
            return ("segmenter",)
        return PARTS if self.classify else ("locator", "segmenter")

    @property
    def is_joint(self) -> bool:
        """Whether the stages are over: what is validated then is the network as it will be used."""
        return self.epoch > self.locator_epochs + self.segmenter_epochs

    def __call__(
        self, batch: Mapping[str, Any], device: torch.device | None = None, non_blocking: bool = False, **_: Any
    ) -> tuple[torch.Tensor, dict[str, Any], tuple[()], dict[str, Any]]:
        """Take images, targets and the network's options out of a batch, see :func:`prepare_pairs`."""
        images, targets = prepare_pairs(batch, device, non_blocking)
        parts = self.parts
        located = self.located_from is not None and self.epoch >= self.located_from and "locator" in parts
        return images, targets, (), {"centres": true_centres(targets), "prefer_located": located, "parts": parts}
