from __future__ import annotations

import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks import DarkNet53
from bonemonai.networks.darknet53 import darknet_convolution
from tests.networks.torchvision_models import seeded


def used(network: nn.Module) -> nn.Module:
    """As after training: batch normalisation whose means and variances are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.05, 0.5)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


@pytest.mark.parametrize(("width", "count"), [(32, 40_584_928), (4, 638_140)])
def test_parameters_by_hand(width: int, count: int) -> None:
    kernels, channels = [(3, width, 9)], width
    for residuals in (1, 2, 8, 8, 4):
        kernels.append((channels, 2 * channels, 9))
        channels *= 2
        kernels += [(channels, channels // 2, 1), (channels // 2, channels, 9)] * residuals
    weights = sum(given * made * size for given, made, size in kernels)
    normed = sum(made for _, made, _ in kernels)
    with torch.device("meta"):
        network = DarkNet53(width=width)
    assert sum(value.numel() for value in network.parameters()) == weights + 2 * normed == count
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert [(layer.in_channels, layer.out_channels, layer.kernel_size[0] ** 2) for layer in layers] == kernels
    assert len(layers) == 52
    if width == 32:
        # darknet53.conv.74, the public file of these layers: 162,482,580 bytes, 20 of them before the numbers
        assert 20 + 4 * (weights + 4 * normed) == 162_482_580


def test_maps_are_of_strides_8_16_and_32() -> None:
    with torch.device("meta"):
        network = DarkNet53()
        maps = network(torch.zeros(1, 3, 512, 512))
    assert [tuple(one.shape) for one in maps] == [(1, 256, 64, 64), (1, 512, 32, 32), (1, 1024, 16, 16)]
    assert network.channels == (256, 512, 1024)


def test_layers_are_the_papers() -> None:
    with torch.device("meta"):
        network = DarkNet53(width=2)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            assert layer.padding[0] == layer.kernel_size[0] // 2
        if isinstance(layer, nn.LeakyReLU):
            assert layer.negative_slope == 0.1
    strides = [module.stride[0] for module in network.modules() if isinstance(module, nn.Conv2d)]
    assert strides.count(2) == 5
    assert strides.count(1) == 47
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 52
    assert sum(isinstance(module, nn.LeakyReLU) for module in network.modules()) == 52


def test_equals_the_layers_one_by_one() -> None:
    with seeded():
        network = used(DarkNet53(width=2))
        image = torch.rand(2, 3, 64, 32)
    state = list(network.state_dict().values())

    def layer(maps: torch.Tensor, stride: int = 1) -> torch.Tensor:
        kernel, weight, bias, mean, variance, _ = (state.pop(0) for _ in range(6))
        maps = F.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        maps = (maps - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        maps = maps * weight[:, None, None] + bias[:, None, None]
        return torch.where(maps > 0, maps, 0.1 * maps)

    maps, expected = layer(image), []
    for residuals in (1, 2, 8, 8, 4):
        maps = layer(maps, stride=2)
        for _ in range(residuals):
            maps = maps + layer(layer(maps))
        expected.append(maps)
    assert state == []
    with torch.no_grad():
        found = network(image)
    for one, other in zip(found, expected[2:], strict=True):
        assert other.std() > 0.05
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_checkpointing_changes_nothing_but_memory() -> None:
    with seeded():
        network, image = DarkNet53(width=2), torch.rand(2, 3, 64, 64)
    found = {}
    for checkpointing in (False, True):
        network.zero_grad()
        network.checkpointing = checkpointing
        maps = network(image)
        sum(one.square().mean() for one in maps).backward()  # type: ignore[union-attr]
        found[checkpointing] = [*maps, *(value.grad.clone() for value in network.parameters())]  # type: ignore[union-attr]
    for one, other in zip(found[False], found[True], strict=True):
        assert torch.equal(one, other)


def test_other_images_and_arguments_are_refused() -> None:
    network = DarkNet53(width=1)
    for rows, columns in ((64, 65), (16, 32), (0, 32)):
        with pytest.raises(ValueError, match=rf"multiples of 32 x 32 pixels .*got {rows} x {columns}; resize"):
            network(torch.zeros(1, 3, rows, columns))
    for shape in ((1, 1, 32, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {shape}")):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match="width must be >= 1"):
        DarkNet53(width=0)
    with pytest.raises(ValueError, match="in_channels must be >= 1"):
        DarkNet53(0)


def test_a_convolution_halves_the_map_or_keeps_it() -> None:
    maps = torch.zeros(1, 2, 8, 6)
    assert darknet_convolution(2, 3, 3, stride=2)(maps).shape == (1, 3, 4, 3)
    assert darknet_convolution(2, 3, 1)(maps).shape == (1, 3, 8, 6)
