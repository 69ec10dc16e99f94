from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bonemonai.networks import VGG16, VGG16UNet, stored_width


def test_encoder_is_vgg16s() -> None:
    network, reference = VGG16UNet(width=2), VGG16(width=2)
    own = {k: v.shape for k, v in network.state_dict().items() if k.startswith("features.")}
    assert own == {k: v.shape for k, v in reference.state_dict().items() if k.startswith("features.")}


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70))
def test_any_size_comes_back(height: int, width: int) -> None:
    assert VGG16UNet(width=1)(torch.zeros(2, 1, height, width)).shape == (2, 2, height, width)


def test_every_parameter_learns_and_nothing_normalises_over_space() -> None:
    network = VGG16UNet(width=4)
    network(torch.rand(1, 1, 48, 48)).square().sum().backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.any(), name
    assert not any("Norm" in type(m).__name__ or isinstance(m, nn.AdaptiveAvgPool2d) for m in network.modules())


def test_width_is_read_from_weights(tmp_path: object) -> None:
    path = f"{tmp_path}/model.pt"
    torch.save(VGG16UNet(width=3).state_dict(), path)
    assert stored_width(path) == 3


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="must have 1 channels"):
        VGG16UNet(width=1)(torch.zeros(1, 3, 16, 16))
