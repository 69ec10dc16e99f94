from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import nn

from bonemonai.networks import DamageCNN


def trainable(network: nn.Module) -> int:
    return sum(value.numel() for value in network.parameters() if value.requires_grad)


@pytest.mark.parametrize(
    ("options", "parameters", "last_map", "hidden"),
    [({}, 19_265_858, (256, 12, 12), 512), ({"layers": 5, "kernel_size": 3}, 20_446_018, (512, 6, 6), 1024)],
    ids=["cortical", "trabecular"],
)
def test_parameters_are_as_many_as_the_paper_prints(
    options: dict[str, Any], parameters: int, last_map: tuple[int, ...], hidden: int
) -> None:
    with torch.device("meta"):
        network = DamageCNN(**options)
        image = torch.zeros(2, 1, 200, 200)
        assert network.features(image.expand(-1, 3, -1, -1)).shape == (2, *last_map)
        assert network(image).shape == (2, 2)
    assert trainable(network) == parameters
    assert [layer.out_features for layer in network.classifier if isinstance(layer, nn.Linear)] == [hidden, 2]


def test_the_sweeps_kernel_is_the_first_convolutions() -> None:
    with torch.device("meta"):
        for kernel_size in (1, 3, 5, 7, 9, 11):
            network = DamageCNN(layers=3, kernel_size=kernel_size)
            kernels = [layer.kernel_size for layer in network.features if isinstance(layer, nn.Conv2d)]
            assert kernels == [(kernel_size, kernel_size), (3, 3), (3, 3)]
            # "same" padding
            assert network.features.conv1(torch.zeros(1, 3, 200, 200)).shape[2:] == (200, 200)


def test_equals_the_layers_one_by_one() -> None:
    torch.manual_seed(0)
    network = DamageCNN(3, layers=2, image_size=14, width=2).eval()
    image = torch.rand(4, 3, 14, 14)
    state, maps = network.state_dict(), image
    for number, padding in ((1, 2), (2, 1)):
        weight, bias = (state[f"features.conv{number}.{name}"] for name in ("weight", "bias"))
        maps = nn.functional.max_pool2d(nn.functional.conv2d(maps, weight, bias, padding=padding).clamp(min=0), 2)
    hidden = (maps.flatten(1) @ state["classifier.1.weight"].T + state["classifier.1.bias"]).clamp(min=0)
    expected = hidden @ state["classifier.3.weight"].T + state["classifier.3.bias"]
    with torch.no_grad():
        torch.testing.assert_close(network(image), expected)


def test_starts_as_keras_does() -> None:
    """Glorot uniform: limit sqrt(6 / (fan in + fan out)), over the kernel's pixels in a convolution; zero biases."""
    torch.manual_seed(0)
    network = DamageCNN(layers=2, image_size=32, width=16)
    fans = {
        "features.conv1": (25 * 3, 25 * 16), "features.conv2": (9 * 16, 9 * 32),
        "classifier.1": (32 * 64, 64), "classifier.3": (64, 2),
    }  # fmt: skip
    state = network.state_dict()
    assert {name.rsplit(".", 1)[0] for name in state} == set(fans)
    for name, fan in fans.items():
        weight, limit = state[f"{name}.weight"], math.sqrt(6 / sum(fan))
        assert 0.9 * limit < weight.abs().max() <= limit, name
        assert float(weight.std()) == pytest.approx(limit / math.sqrt(3), rel=0.15), name
        assert not state[f"{name}.bias"].any(), name


def test_grey_is_repeated() -> None:
    torch.manual_seed(0)
    network = DamageCNN(layers=2, image_size=16, width=2).eval()
    grey = torch.rand(2, 1, 16, 16)
    with torch.no_grad():
        assert torch.equal(network(grey), network(grey.repeat(1, 3, 1, 1)))
        assert DamageCNN(in_channels=1, layers=2, image_size=16, width=2)(grey).shape == (2, 2)


def test_training_and_evaluation_are_the_same_function() -> None:
    torch.manual_seed(0)
    network = DamageCNN(layers=2, image_size=16, width=2)
    image = torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        together = network.train()(image)
        alone = torch.cat([network.eval()(one[None]) for one in image])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("layers", [1, 4, 5])
def test_layer_for_gradcam_is_the_last_convolutions_relu(layers: int) -> None:
    with torch.device("meta"):
        network = DamageCNN(layers=layers, width=1)
    names = [name for name, _ in network.features.named_children()]
    assert network.cam_layer == f"features.{names[-2]}"
    assert isinstance(network.get_submodule(network.cam_layer), nn.ReLU)
    assert [name.rstrip("0123456789") for name in names[-3:]] == ["conv", "relu", "pool"]


def test_other_images_are_refused() -> None:
    network = DamageCNN(layers=2, image_size=16, width=1)
    for size in ((15, 16), (16, 17)):
        with pytest.raises(ValueError, match=f"the network's 16 x 16 pixels, got {size[0]} x {size[1]}") as caught:
            network(torch.zeros(1, 1, *size))
        assert "\n" not in str(caught.value)
    for shape in ((1, 2, 16, 16), (1, 16, 16)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 3, H, W), got {list(shape)}")):
            network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "kernel_size must be odd .* got 4"),
        ({"kernel_size": 0}, "kernel_size must be >= 1"),
        ({"layers": 0}, "layers must be >= 1"),
        ({"width": 0}, "width must be >= 1"),
        ({"num_classes": 0}, "num_classes must be >= 1"),
        ({"in_channels": 0}, "in_channels must be >= 1"),
        ({"layers": 5, "image_size": 31}, "image_size must be >= 32 .* got 31"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DamageCNN(**options)


def test_smallest_image_leaves_one_pixel() -> None:
    assert DamageCNN(layers=5, image_size=32, width=1)(torch.zeros(1, 1, 32, 32)).shape == (1, 2)
