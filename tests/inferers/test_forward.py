from __future__ import annotations

import logging
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bonemonai.errors import InputError
from bonemonai.inferers.forward import Forward, network_device
from bonemonai.inferers.slice_wise import SliceWise


class Fits:
    """A network that holds so many elements and no more."""

    def __init__(self, most: int, error: RuntimeError | None = None) -> None:
        self.most, self.error = most, error or torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        self.tried: list[int] = []

    def __call__(self, batch: torch.Tensor) -> torch.Tensor:
        self.tried.append(len(batch))
        if len(batch) > self.most:
            raise self.error
        return batch * 2 + 1


@given(st.integers(1, 9), st.integers(1, 20))
def test_memory_that_runs_out_changes_no_result(most: int, size: int) -> None:
    batch = torch.randn(size, 1, 2, 3)
    network = Fits(most)
    forward = Forward(network)
    assert torch.equal(forward(batch), batch * 2 + 1)
    assert (forward.halved > 0) == (size > most)
    assert forward.passes == len(network.tried)
    assert forward.halved == sum(tried > most for tried in network.tried)


def test_a_batch_that_was_halved_stays_halved() -> None:
    network = Fits(4)
    forward = Forward(network)
    batch = torch.randn(8, 1, 2, 3)
    forward(batch)
    assert (network.tried, forward.halved, forward.passes) == ([8, 4, 4], 1, 3)
    network.tried.clear()
    assert torch.equal(forward(batch[:7]), batch[:7] * 2 + 1)
    assert torch.equal(forward(batch[:2]), batch[:2] * 2 + 1)
    assert (network.tried, forward.halved) == ([4, 3, 2], 1)


def test_a_batch_is_halved_as_often_as_needed() -> None:
    network = Fits(1)
    forward = Forward(network)
    batch = torch.randn(8, 1, 2, 3)
    assert torch.equal(forward(batch), batch * 2 + 1)
    halved = forward.halved
    assert halved >= 3
    network.tried.clear()
    forward(batch)
    assert (network.tried, forward.halved) == ([1] * 8, halved)


def test_no_memory_on_the_cpu_is_no_memory() -> None:
    error = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")
    forward = Forward(Fits(2, error))
    batch = torch.randn(4, 1, 2, 3)
    assert torch.equal(forward(batch), batch * 2 + 1)
    assert forward.halved == 1


def test_halving_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        Forward(Fits(4))(torch.randn(4, 1, 2, 3))
        assert not caplog.records
        Forward(Fits(4))(torch.randn(6, 1, 2, 3))
    assert "out of memory: batches of 6 are halved" in caplog.text


def test_one_element_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"^planes 3 to 9: a tile of \(1, 1, 2, 3\) does not fit into memory; lower"):
        Forward(Fits(0))(torch.randn(5, 1, 2, 3), "planes 3 to 9")


@pytest.mark.parametrize("error", [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ValueError("no")])
def test_other_errors_are_the_networks_own(error: Exception) -> None:
    network = Fits(2, error)  # type: ignore[arg-type]
    with pytest.raises(type(error), match=str(error)):
        Forward(network)(torch.randn(4, 1, 2, 3))
    assert network.tried == [4]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(1, 1, 3), r"^Conv2d: returns size \(2, 3\) for \(4, 5\); both must be the same"),
        (nn.Flatten(2), r"^Flatten: returns size \(20,\) for \(4, 5\)"),
        (nn.Flatten(), r"^Flatten: returns size \(\) for \(4, 5\)"),
        (nn.MaxPool2d(1, return_indices=True), "^MaxPool2d: must return one tensor"),
    ],
)
def test_outputs_of_another_kind_are_refused(network: nn.Module, message: str) -> None:
    with torch.no_grad(), pytest.raises(InputError, match=message):
        Forward(network)(torch.randn(2, 1, 4, 5))


def test_arguments_are_passed_on() -> None:
    def network(batch: torch.Tensor, factor: float, *, plus: float) -> torch.Tensor:
        return batch * factor + plus

    assert Forward(network, 3.0, plus=0.5)(torch.ones(2, 1, 2, 2)).unique().tolist() == [3.5]


def test_any_number_of_channels_comes_back() -> None:
    with torch.no_grad():
        assert Forward(nn.Conv3d(2, 5, 1))(torch.randn(3, 2, 4, 4, 4)).shape == (3, 5, 4, 4, 4)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((2, 3, 4, 5), torch.channels_last), ((2, 3, 4, 5, 6), torch.channels_last_3d)],
)
def test_channels_are_last_if_asked_for(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    seen: list[bool] = []

    def network(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.is_contiguous(memory_format=layout))
        return batch

    batch = torch.arange(float(math.prod(shape))).reshape(shape)
    assert torch.equal(Forward(network, channels_last=True)(batch), batch)
    assert torch.equal(Forward(network)(batch), batch)
    assert seen == [True, False]


def test_device_is_that_of_the_weights() -> None:
    elsewhere = nn.Conv2d(1, 2, 1, device="meta")
    assert network_device(elsewhere).type == "meta"
    assert network_device(SliceWise(elsewhere, 0)).type == "meta"
    assert network_device(nn.Conv2d(1, 2, 1)).type == "cpu"
    assert network_device(nn.Identity()).type == network_device(lambda batch: batch).type == "cpu"


def test_batches_are_brought_to_the_network() -> None:
    forward = Forward(nn.Conv2d(1, 2, 1, device="meta"))
    assert forward.device.type == "meta"
    output = forward(torch.zeros(3, 1, 4, 4))
    assert (output.device.type, output.shape) == ("meta", (3, 2, 4, 4))
