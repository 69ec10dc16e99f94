from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bonemonai.networks import LacunaUNet, stored_width


def test_has_13_convolutions_of_the_papers_widths() -> None:
    convolutions = [m for m in LacunaUNet().modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == 13
    assert [(c.out_channels, c.kernel_size[0]) for c in convolutions] == [
        *[(64, 3)] * 2,
        *[(128, 3)] * 2,
        *[(256, 3)] * 2,
        (128, 2),
        *[(128, 3)] * 2,
        (64, 2),
        *[(64, 3)] * 2,
        (2, 1),
    ]


def test_activations_are_leaky_and_nothing_normalises_over_space() -> None:
    modules = list(LacunaUNet(width=2).modules())
    assert sum(isinstance(m, nn.LeakyReLU) for m in modules) == 10
    assert not any("Norm" in type(m).__name__ for m in modules)


def test_parameter_count_of_the_layers_by_hand() -> None:
    def conv(i: int, o: int, k: int) -> int:
        return i * o * k * k + o

    pairs = [(1, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    pairs += [(256, 128), (128, 128), (128, 64), (64, 64)]
    expected = sum(conv(i, o, 3) for i, o in pairs) + conv(256, 128, 2) + conv(128, 64, 2) + conv(64, 2, 1)
    assert sum(p.numel() for p in LacunaUNet().parameters()) == expected


@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_comes_back(height: int, width: int) -> None:
    assert LacunaUNet(width=1)(torch.zeros(2, 1, height, width)).shape == (2, 2, height, width)


def test_odd_size_is_padded_at_the_far_end() -> None:
    torch.manual_seed(0)
    network = LacunaUNet(width=3).eval()
    image = torch.rand(1, 1, 55, 55)
    padded = nn.functional.pad(image, (0, 1, 0, 1))
    assert torch.equal(network(image), network(padded)[..., :55, :55])


def test_every_parameter_learns() -> None:
    network = LacunaUNet(width=4)
    network(torch.rand(1, 1, 16, 16)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_width_of_stored_weights(tmp_path: Path) -> None:
    torch.save(LacunaUNet(width=5).state_dict(), tmp_path / "model.pt")
    assert stored_width(tmp_path / "model.pt") == 5
    assert stored_width(tmp_path / "nowhere.pt") == 64
    with pytest.raises(ValueError, match="width must be >= 1"):
        LacunaUNet(width=0)
