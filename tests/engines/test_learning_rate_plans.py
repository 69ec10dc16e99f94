from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch.optim.lr_scheduler import LambdaLR

from bonemonai.engines import constant_then_linear, inverse_decay
from bonemonai.errors import InputError


def rates(plan: Callable[[int], float], learning_rate: float, steps: int) -> list[float]:
    """Learning rate of each step of a real optimiser."""
    parameter = torch.nn.Parameter(torch.ones(1))
    optimiser = torch.optim.SGD([parameter], lr=learning_rate, momentum=0.9)
    scheduler = LambdaLR(optimiser, plan)
    found = []
    for _ in range(steps):
        found.append(optimiser.param_groups[0]["lr"])
        parameter.sum().backward()
        optimiser.step()
        scheduler.step()
    return found


def test_inverse_decay_is_the_papers_equation() -> None:
    plan = inverse_decay(0.006, 0.98)
    assert plan(0) == 1
    for number in (1, 10, 150, 338, 10_000, 1_000_000):
        # by logarithms, not by the same expression
        assert plan(number) == pytest.approx(math.exp(-0.98 * math.log1p(0.006 * number)), rel=1e-12)
    assert rates(plan, 0.01, 200) == pytest.approx([0.01 / (1 + 0.006 * n) ** 0.98 for n in range(200)], rel=1e-12)


def test_nothing_decays_without_gamma_or_power() -> None:
    for plan in (inverse_decay(0, 0.98), inverse_decay(0.006, 0)):
        assert {plan(number) for number in (0, 1, 1000)} == {1.0}


def test_constant_then_linear_at_the_papers_epochs() -> None:
    plan = constant_then_linear(100, 50)
    assert [plan(epoch) for epoch in (0, 99, 100, 149, 150)] == [1, 1, 50 / 51, 1 / 51, 0]
    assert [plan(epoch) for epoch in (151, 1000)] == [0, 0]
    found = rates(plan, 0.002, 150)
    assert found[:100] == [0.002] * 100
    # even steps, the last one to the 0 of epoch 150
    steps = [before - after for before, after in zip(found[99:], [*found[100:], 0], strict=True)]
    assert steps == pytest.approx([0.002 / 51] * 51, rel=1e-9)
    assert min(found) == pytest.approx(0.002 / 51)


def test_constant_then_linear_is_pix2pixs() -> None:
    """Its ``lambda_rule``, with ``epoch_count`` 1."""
    for constant, decay in ((100, 50), (0, 4), (3, 0), (1, 1)):
        plan = constant_then_linear(constant, decay)
        for epoch in range(constant + decay + 1):
            assert plan(epoch) == pytest.approx(1 - max(0, epoch + 1 - constant) / (decay + 1)), (
                constant,
                decay,
                epoch,
            )


@pytest.mark.parametrize("plan", [inverse_decay(0.006, 0.98), constant_then_linear(3, 2)], ids=["inverse", "linear"])
def test_plans_go_through_pickle_and_a_schedulers_state(plan: Callable[[int], float]) -> None:
    again = pickle.loads(pickle.dumps(plan))
    assert [again(number) for number in range(9)] == [plan(number) for number in range(9)]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5)
    scheduler = LambdaLR(optimiser, plan)
    optimiser.step()
    scheduler.step()
    state = pickle.loads(pickle.dumps(scheduler.state_dict()))
    resumed = LambdaLR(torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.5), plan)
    resumed.load_state_dict(state)
    assert resumed.last_epoch == 1
    assert resumed.get_last_lr() == [0.5 * plan(1)]


@pytest.mark.parametrize("call", ["inverse_decay(0.006, 0.98)", "constant_then_linear(100, 50)"])
def test_plans_come_by_a_config(call: str) -> None:
    parser = ConfigParser({
        "imports": ["$import bonemonai"],
        "optimizer": {"_target_": "torch.optim.SGD", "params": "$[torch.nn.Parameter(torch.ones(1))]", "lr": 0.25},
        "scheduler": {"_target_": "torch.optim.lr_scheduler.LambdaLR", "optimizer": "@optimizer",
                      "lr_lambda": f"$bonemonai.engines.{call}"},
    }, globals={"torch": "torch"})  # fmt: skip
    parser.get_parsed_content("imports")
    scheduler = parser.get_parsed_content("scheduler")
    assert isinstance(scheduler, LambdaLR)
    assert scheduler.get_last_lr() == [0.25]


@pytest.mark.parametrize(
    ("plan", "arguments", "message"),
    [
        (inverse_decay, (-0.1, 1), r"gamma: must be finite and >= 0, got -0\.1"),
        (inverse_decay, (math.nan, 1), "gamma: must be finite"),
        (inverse_decay, (0.1, -1), "power: must be finite and >= 0, got -1"),
        (inverse_decay, (0.1, math.inf), "power: must be finite"),
        (constant_then_linear, (-1, 50), r"constant: must be a whole number >= 0 \(epochs\), got -1"),
        (constant_then_linear, (1.5, 50), "constant: must be a whole number"),
        (constant_then_linear, (100, -1), r"decay: must be a whole number >= 0 \(epochs\), got -1"),
        (constant_then_linear, (0, 0), "no epoch would train"),
    ],
)
def test_arguments_out_of_range_are_refused(plan: Any, arguments: tuple[float, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(*arguments)
