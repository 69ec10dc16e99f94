from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from bonemonai.networks import VGG16, MaskGuidedVGG16, PatchClassifier, stored_vgg16_width
from bonemonai.networks.vgg16 import vgg16_features
from tests.networks.torchvision_models import seeded, torchvision_models


def test_equals_torchvisions() -> None:
    reference = torchvision_models().vgg16(weights=None, num_classes=5).eval()
    network = VGG16(5).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(network(image), reference(image))


def test_signals_neither_die_nor_explode_at_any_width() -> None:
    for width in (4, 32):
        with seeded():
            network = VGG16(10, width=width).eval()
        with torch.no_grad():
            spread = float(network(torch.randn(8, 3, 64, 64)).std())
        assert 0.01 < spread < 1, width


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


def test_width_is_read_from_weights(tmp_path: Path) -> None:
    torch.save(PatchClassifier(MaskGuidedVGG16(width=3)).state_dict(), tmp_path / "model.pt")
    assert stored_vgg16_width(tmp_path / "model.pt") == 3
    (tmp_path / "text.pt").write_text("no weights")
    assert [stored_vgg16_width(tmp_path / name, 7) for name in ("text.pt", "none.pt")] == [7, 7]
