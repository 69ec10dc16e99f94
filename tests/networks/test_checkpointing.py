from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from bonemonai.networks.checkpointing import run_checkpointed


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(3, 1, 1))


@pytest.mark.parametrize("training", [True, False])
def test_output_gradients_and_state_are_those_of_a_plain_run(training: bool) -> None:
    plain = small().train(training)
    checked = copy.deepcopy(plain)
    image = torch.rand(4, 2, 8, 8)
    torch.manual_seed(1)
    expected = plain(image)
    torch.manual_seed(1)
    found = run_checkpointed(checked, image)
    assert torch.equal(found, expected)
    expected.square().sum().backward()
    found.square().sum().backward()
    for (name, one), other in zip(plain.named_parameters(), checked.parameters(), strict=True):
        assert one.grad is not None
        assert torch.equal(one.grad, other.grad), name  # type: ignore[arg-type]
    for name, value in plain.state_dict().items():
        assert torch.equal(value, checked.state_dict()[name]), name
    assert int(checked.state_dict()["1.num_batches_tracked"]) == training


def test_the_module_runs_again_in_the_backward_pass_and_only_there() -> None:
    runs = []
    module = nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())
    module.register_forward_pre_hook(lambda *_: runs.append(torch.is_grad_enabled()))
    output = run_checkpointed(module, torch.ones(1, 2))
    assert len(runs) == 1
    output.sum().backward()
    assert len(runs) == 2
    with torch.no_grad():
        run_checkpointed(module, torch.ones(1, 2))
    assert len(runs) == 3


def test_statistics_are_the_modules_own_again_after_an_error() -> None:
    class Fails(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.runs = nn.BatchNorm1d(2), 0

        def forward(self, values: torch.Tensor) -> torch.Tensor:
            self.runs += 1
            if self.runs == 2:
                raise RuntimeError("no memory")
            normed: torch.Tensor = self.norm(values).sigmoid()
            return normed

    module = Fails()
    own = module.norm.running_mean
    output = run_checkpointed(module, torch.rand(3, 2))
    with pytest.raises(RuntimeError, match="no memory"):
        output.sum().backward()
    assert module.norm.running_mean is own
