from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks import VGG16, MaskGuidedVGG16, PatchClassifier


class Seen(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.image = image
        return image.mean((2, 3))


def test_grey_comes_as_three_channels_on_imagenets_scale() -> None:
    network = Seen()
    patches = torch.rand(2, 2, 55, 55)
    PatchClassifier(network, 224)(patches)
    assert network.image.shape == (2, 3, 224, 224)
    grey = F.interpolate(patches[:, :1], (224, 224), mode="bilinear")
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        torch.testing.assert_close(network.image[:, channel], (grey[:, 0] - mean) / std)


def test_only_a_guided_network_gets_the_mask() -> None:
    torch.manual_seed(0)
    patches = torch.rand(1, 2, 55, 55)
    moved = patches.clone()
    moved[:, 1] = (torch.arange(55) > 30).float()
    plain, guided = PatchClassifier(VGG16(width=2), 64).eval(), PatchClassifier(MaskGuidedVGG16(width=2), 64).eval()
    assert torch.equal(plain(patches), plain(moved))
    assert not torch.equal(guided(patches), guided(moved))


def test_weights_are_the_networks_own() -> None:
    network = VGG16(width=1)
    assert {f"network.{name}" for name in network.state_dict()} == set(PatchClassifier(network).state_dict())


def test_what_is_no_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 2, H, W\)"):
        PatchClassifier(VGG16(width=1))(torch.zeros(1, 1, 55, 55))
    with pytest.raises(ValueError, match="patch_input_size must be >= 32"):
        PatchClassifier(VGG16(width=1), 31)
