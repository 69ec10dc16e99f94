"""A training whose loss is no number any more ends at once."""

from __future__ import annotations

import math
from typing import Any

import torch
from ignite.engine import Engine, Events

from bonemonai.errors import NumericalError


class FiniteLoss:
    """Handler: raise at the first batch whose loss is NaN or infinite.

    Weights saved before are kept. Ignite's ``TerminateOnNan`` ends a run without saying that it failed.

    Raises:
        NumericalError: naming epoch and batch.

    Attach to the trainer.
    """

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Any) -> None:
        """Look at the loss of the batch."""
        output = engine.state.output
        loss = float(torch.as_tensor((output if isinstance(output, dict) else output[0])["loss"]).detach())
        if not math.isfinite(loss):
            batch = (engine.state.iteration - 1) % engine.state.epoch_length + 1
            raise NumericalError(
                "loss", f"is {loss} in epoch {engine.state.epoch}, batch {batch}; a smaller --learning_rate may help."
            )
