"""A training from its rehearsal to its last epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ignite.engine import Events
from monai.handlers import ValidationHandler

from bonemonai.engines.parallel_training import share_buffers
from bonemonai.engines.rehearsal import rehearse
from bonemonai.engines.resumable_training import ResumableTraining
from bonemonai.engines.seeded_epochs import SeededEpochs
from bonemonai.engines.training_record import TrainingRecord
from bonemonai.errors import InputError
from bonemonai.inferers.ranks import world_size

logger = logging.getLogger(__name__)


class Training:
    """Run MONAI's trainer so that it can be stopped at any moment, and so that its result depends on the seed only.

    Before the first step one batch is trained and validated, and saved for trial (:func:`rehearse`). Data order is of
    seed and epoch, augmentation of seed, epoch and sample (:class:`SeededEpochs`): the number of workers does not
    matter, nor does stopping, after which the same call goes on (:class:`ResumableTraining`).

    Args:
        trainer: MONAI's.
        parts: what has a state besides network and optimiser, of any kinds: handlers with ``state_dict`` or with a
            scheduler (``lr_scheduler``), losses that learn. Others are passed over, so that all handlers may be given.
        record: on disk.
        validator: MONAI's evaluator, if there is one.
        seed: of the run, 0 or more.
        rehearsal: False begins at once.

    Raises:
        InputError: see :func:`rehearse`; or no epoch would be validated, or the learning rate is 0 in one.
        OutputError: see :func:`rehearse`, and :meth:`TrainingRecord.locked`.
        ResumeError: see :class:`ResumableTraining`.
    """

    def __init__(
        self,
        trainer: Any,
        parts: Sequence[Any],
        record: TrainingRecord,
        validator: Any = None,
        *,
        seed: int = 0,
        rehearsal: bool = True,
    ) -> None:
        self.trainer, self.validator, self.record, self.rehearsal = trainer, validator, record, rehearsal
        named = enumerate(getattr(part, "lr_scheduler", part) for part in parts if part is not None)
        self.parts = {f"{type(part).__name__} {number}": part for number, part in named}
        SeededEpochs(seed).attach(trainer)
        trainer.add_event_handler(Events.EPOCH_STARTED, _refuse_to_stand_still)
        if validator is not None and world_size() > 1:
            validator.add_event_handler(Events.STARTED, lambda _: share_buffers(trainer.network))

    def run(self) -> None:
        """Rehearse, and train."""
        for part in self.parts.values():
            if isinstance(part, ValidationHandler) and part.interval > self.trainer.state.max_epochs:
                raise InputError("--val_interval", f"is {part.interval}: no epoch would be validated, nor kept.")
        with self.record.locked():
            if self.rehearsal and not self.record.continues:
                rehearse(self.trainer, self.validator, self.parts, self.record.checkpoint.parent)
                logger.info("rehearsal: a batch was trained, validated and saved.")
            self.record.begin()
            # after all that works at the end of an epoch
            stateful = {name: part for name, part in self.parts.items() if hasattr(part, "state_dict")}
            ResumableTraining(self.record, stateful).attach(self.trainer)
            self.trainer.run()


def _refuse_to_stand_still(engine: Any) -> None:
    if all(group["lr"] == 0 for group in engine.optimizer.param_groups):
        cure = "choose fewer --max_epochs, or a longer schedule."
        raise InputError("learning rate", f"is 0 in epoch {engine.state.epoch}: nothing would be learnt; {cure}")
