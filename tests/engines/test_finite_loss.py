from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine

from bonemonai.engines import FiniteLoss
from bonemonai.errors import NumericalError


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("decollated", [False, True])
def test_first_bad_batch_ends_the_run_and_is_named(bad: float, decollated: bool) -> None:
    seen = []

    def step(engine: Engine, batch: int) -> object:
        seen.append(batch)
        output = {"loss": torch.tensor(bad if engine.state.epoch == 2 and batch == 1 else 0.5)}
        return [output] if decollated else output

    engine = Engine(step)
    FiniteLoss().attach(engine)
    with pytest.raises(NumericalError, match=r"loss: is (nan|inf) in epoch 2, batch 2"):
        engine.run([0, 1, 2], max_epochs=3)
    assert seen == [0, 1, 2, 0, 1]
