"""A training ends when the validation patients' score has not risen for so many validations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping

logger = logging.getLogger(__name__)


class StopEarly:
    """Handler: Ignite's ``EarlyStopping`` on a validator's key metric, larger being better.

    The weights that are kept are those of the best epoch, see :class:`SaveBestWeights`; test patients have no say.

    Args:
        validator: MONAI's evaluator. Attach this handler after the one that runs it.
        patience: validations without a higher score, after which the training ends; 1 or more.
        counts: says whether an epoch is to be considered, see :class:`SaveBestWeights`.

    Raises:
        ValueError: if ``patience`` is below 1.

    Attach to the trainer.
    """

    def __init__(self, validator: Any, patience: int, *, counts: Callable[[], bool] | None = None) -> None:
        if patience < 1:
            raise ValueError(f"patience must be >= 1 (validations), got {patience}.")
        self.validator, self.patience, self.counts = validator, patience, counts
        self._stopper: EarlyStopping | None = None

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        self._stopper = EarlyStopping(self.patience, self._score, engine)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def state_dict(self) -> dict[str, Any]:
        """What a training that goes on must know."""
        return {} if self._stopper is None else dict(self._stopper.state_dict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on, or, where the training had ended, end it again.

        Args:
            state: see :meth:`state_dict`.
        """
        if self._stopper is None:
            return
        self._stopper.load_state_dict(state)
        if self._stopper.counter >= self.patience:
            logger.info("the training had ended early.")
            self._stopper.trainer.terminate()

    def __call__(self, engine: Any) -> None:
        """Count, and end the training where the count is full."""
        if self._stopper is None or self.validator.state.epoch != engine.state.epoch:
            return
        if self.counts is None or self.counts():
            self._stopper(engine)
            if self._stopper.counter >= self.patience:
                logger.info("the score has not risen for %d validations: the training ends.", self.patience)

    def _score(self, _: Any) -> float:
        return float(self.validator.state.metrics[self.validator.state.key_metric_name])
