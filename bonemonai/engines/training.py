"""A training from its rehearsal to its last epoch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from bonemonai.engines.rehearsal import rehearse
from bonemonai.engines.resumable_training import ResumableTraining
from bonemonai.engines.seeded_epochs import SeededEpochs
from bonemonai.engines.training_record import TrainingRecord

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
        InputError: see :func:`rehearse`.
        OutputError: see :func:`rehearse`.
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

    def run(self) -> None:
        """Rehearse, and train."""
        if self.rehearsal and not self.record.continues:
            rehearse(self.trainer, self.validator, self.parts, self.record.checkpoint.parent)
            logger.info("rehearsal: a batch was trained, validated and saved.")
        # after all that works at the end of an epoch
        stateful = {name: part for name, part in self.parts.items() if hasattr(part, "state_dict")}
        ResumableTraining(self.record, stateful).attach(self.trainer)
        self.trainer.run()
