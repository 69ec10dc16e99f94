from __future__ import annotations

import math
import re

import pytest
import torch

from bonemonai.networks import GatedChannels


def with_values(channels: int, dtype: torch.dtype = torch.float32) -> GatedChannels:
    generator = torch.Generator().manual_seed(0)
    gates = GatedChannels(channels).to(dtype)
    with torch.no_grad():
        for value in (gates.alpha, gates.gamma, gates.beta):
            value.copy_(torch.randn(channels, generator=generator))
    return gates


def test_equals_plain_loops() -> None:
    gates = with_values(5, torch.float64)
    maps = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alpha, gamma, beta = (value.tolist() for value in (gates.alpha, gates.gamma, gates.beta))
    expected = torch.empty_like(maps)
    for number in range(3):
        s = []
        for c in range(5):
            total = 0.0
            for row in range(4):
                for column in range(6):
                    total += float(maps[number, c, row, column]) ** 2
            s.append(alpha[c] * math.sqrt(total + 1e-5))
        norm = math.sqrt(sum(one**2 for one in s) + 1e-5)
        for c in range(5):
            gate = 1 + math.tanh(gamma[c] * math.sqrt(5) * s[c] / norm + beta[c])
            expected[number, c] = maps[number, c] * gate
    torch.testing.assert_close(gates(maps), expected, rtol=1e-12, atol=1e-12)
    assert (gates(maps) - maps).abs().max() > 0.5


@pytest.mark.parametrize("scale", [0, 1e-30, 1, 1e4])
def test_is_the_identity_at_the_start(scale: float) -> None:
    maps = torch.randn(2, 8, 5, 5) * scale
    assert torch.equal(GatedChannels(8)(maps), maps)


def test_gradients_are_those_of_finite_differences_also_of_an_empty_map() -> None:
    gates = with_values(3, torch.float64)
    maps = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    parameters = (gates.alpha, gates.gamma, gates.beta)
    assert torch.autograd.gradcheck(lambda maps, *_: gates(maps), (maps.requires_grad_(), *parameters))
    empty = torch.zeros(1, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    gates(empty).sum().backward()
    for value in (empty, *parameters):
        assert value.grad is not None
        assert value.grad.isfinite().all()


def test_half_precision_does_not_overflow() -> None:
    gates = with_values(4)
    maps = torch.full((1, 4, 64, 64), 300.0)
    found = gates(maps.half())
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), gates(maps), rtol=2e-3, atol=0)


def test_what_does_not_fit_is_refused() -> None:
    for shape in ((1, 3, 2, 2), (4, 2, 2)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 4, H, W), got {shape}")):
            GatedChannels(4)(torch.zeros(shape))
    with pytest.raises(ValueError, match="channels must be >= 1"):
        GatedChannels(0)
    with pytest.raises(ValueError, match="eps must be > 0"):
        GatedChannels(4, eps=0)
