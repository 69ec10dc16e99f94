from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events

from bonemonai.engines import StopEarly


def train(scores: list[float], patience: int = 2, *, every: int = 1, counts: Any = None, start: Any = None) -> Any:
    """Epochs that were run, and the handler."""
    validator = SimpleNamespace(state=SimpleNamespace(epoch=0, metrics={}, key_metric_name="dice"))
    trainer = Engine(lambda engine, batch: None)

    def validate(engine: Engine) -> None:
        if engine.state.epoch % every == 0:
            validator.state.epoch, validator.state.metrics = (
                engine.state.epoch,
                {"dice": scores[engine.state.epoch - 1]},
            )

    trainer.add_event_handler(Events.EPOCH_COMPLETED, validate)
    handler = StopEarly(validator, patience, counts=counts)
    handler.attach(trainer)
    if start is not None:
        trainer.add_event_handler(Events.STARTED, lambda: handler.load_state_dict(start))
    trainer.run([0], max_epochs=len(scores))
    return trainer.state.epoch, handler


def test_it_ends_after_so_many_validations_without_a_higher_score() -> None:
    assert train([0.1, 0.3, 0.2, 0.3, 0.9])[0] == 4
    assert train([0.1, 0.3, 0.2, 0.4, 0.3, 0.2, 0.9])[0] == 6
    assert train([0.1, 0.2, 0.3])[0] == 3
    assert train([0.1, 0.3, 0.2, 0.9], patience=1)[0] == 3


def test_epochs_without_a_validation_do_not_count() -> None:
    assert train([0.0, 0.3, 0.0, 0.2, 0.0, 0.1, 0.0, 0.9], every=2)[0] == 6


def test_epochs_that_are_not_considered_do_not_count() -> None:
    considered = iter([False, False, False, True, True, True, True])
    assert train([0.9, 0.1, 0.1, 0.2, 0.1, 0.1, 0.9], counts=lambda: next(considered))[0] == 6


def test_one_that_ended_ends_again_and_one_that_had_not_goes_on() -> None:
    ended = train([0.3, 0.2, 0.1])[1].state_dict()
    assert train([0.1] * 5, start=ended)[0] == 0
    going = train([0.3, 0.2])[1].state_dict()
    assert train([0.1, 0.1], start=going)[0] == 1


def test_patience_is_one_or_more() -> None:
    with pytest.raises(ValueError, match=r"patience must be >= 1 \(validations\), got 0"):
        StopEarly(None, 0)
