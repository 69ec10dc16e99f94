from __future__ import annotations

import pytest
import torch
from torch import nn

from bonemonai.networks import VGG16
from bonemonai.networks.vgg16 import vgg16_features
from tests.networks.torchvision_models import seeded, torchvision_models


def test_equals_torchvisions() -> None:
    reference = torchvision_models().vgg16(weights=None, num_classes=5).eval()
    network = VGG16(5).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(image), reference(image))


def test_starts_with_torchvisions_spread() -> None:
    with seeded():
        reference, network = torchvision_models().vgg16(weights=None), VGG16(1000)
    for (name, value), other in zip(network.named_parameters(), reference.parameters(), strict=True):
        assert float(value.detach().std()) == pytest.approx(float(other.detach().std()), rel=0.1, abs=1e-9), name


def test_features_are_13_convolutions_and_five_poolings() -> None:
    layers = list(vgg16_features())
    assert [c.out_channels for c in layers if isinstance(c, nn.Conv2d)] == [64] * 2 + [128] * 2 + [256] * 3 + [512] * 6
    assert sum(isinstance(layer, nn.MaxPool2d) for layer in layers) == 5
    slopes = {layer.negative_slope for layer in vgg16_features(negative_slope=0.2) if isinstance(layer, nn.LeakyReLU)}
    assert slopes == {0.2}


def test_patch_of_55_pixels_leaves_one_pixel_and_224_leave_seven() -> None:
    features = vgg16_features(width=1)
    assert features(torch.zeros(1, 3, 55, 55)).shape == (1, 8, 1, 1)
    assert features(torch.zeros(1, 3, 224, 224)).shape == (1, 8, 7, 7)


def test_width_must_be_positive() -> None:
    with pytest.raises(ValueError, match="width must be >= 1"):
        VGG16(width=0)
