"""A training that is stopped goes on where it was, bit for bit."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from torch.nn.parallel import DistributedDataParallel

from bonemonai.engines.random_states import random_states, restore_random_states
from bonemonai.engines.training_record import TrainingRecord
from bonemonai.errors import ResumeError

logger = logging.getLogger(__name__)


class ResumableTraining:
    """Handler: keep after each epoch all that a training needs, and go on from it.

    Kept are network, optimiser and scaler of the trainer, the parts that are named, epoch and iteration, and the random
    numbers of Python, NumPy and PyTorch; those that the data loader holds must be of seed and epoch, as
    :class:`SeededEpochs` makes them. On one machine a training in parts is then equal to one in one piece, bit for bit.

    Args:
        record: on disk.
        parts: name to what has ``state_dict`` and ``load_state_dict`` besides, such as schedulers, losses that learn,
            :class:`SaveBestWeights`, :class:`LearningCurve`.

    Raises:
        ResumeError: if what is kept does not fit.

    Attach to MONAI's trainer, after all handlers that work at the end of an epoch.
    """

    def __init__(self, record: TrainingRecord, parts: Mapping[str, Any]) -> None:
        self.record, self.parts = record, dict(parts)

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.STARTED, self._restore)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._keep)

    def _all(self, engine: Any) -> dict[str, Any]:
        own = {name: getattr(engine, name, None) for name in ("network", "optimizer", "scaler")}
        if isinstance(own["network"], DistributedDataParallel):
            own["network"] = own["network"].module  # the same file, whether one process trains or several
        return {name: part for name, part in {**own, **self.parts}.items() if part is not None}

    def _keep(self, engine: Any) -> None:
        state = {
            "epoch": engine.state.epoch,
            "epoch_length": engine.state.epoch_length,
            "parts": {name: part.state_dict() for name, part in self._all(engine).items()},
            "random": random_states(),
        }
        self.record.save(state, engine.state.epoch)

    def _restore(self, engine: Any) -> None:
        state = self.record.load()
        if state is None:
            return
        parts = self._all(engine)
        if set(parts) != set(state["parts"]) or state["epoch_length"] != engine.state.epoch_length:
            raise ResumeError(self.record.folder, "is of another training; say --overwrite True to begin anew.")
        for name, part in parts.items():
            try:
                part.load_state_dict(state["parts"][name])
            except (RuntimeError, ValueError, KeyError) as error:
                words = " ".join(str(error).split())
                raise ResumeError(self.record.folder, f"does not fit {name}: {words}; say --overwrite True.") from error
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["epoch"] * state["epoch_length"]
        restore_random_states(state["random"])
        logger.info("the training goes on after epoch %d.", state["epoch"])
