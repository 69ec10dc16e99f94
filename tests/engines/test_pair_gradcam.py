from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from torch import nn

from bonemonai.engines import pair_gradcam
from bonemonai.networks import MultitaskNetwork
from tests.networks.test_multitask_network import cases, tiny


class OneCrop(nn.Module):
    """Logits of one vertebra's crop, the other being missing: what MONAI's GradCAM can look at."""

    def __init__(self, network: MultitaskNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, crop: torch.Tensor) -> torch.Tensor:
        found = self.network.segmenter(crop)
        vectors = torch.stack([self.network.classifier(crop, found.features), torch.zeros(1, 64)], dim=1)
        logits: torch.Tensor = self.network.fusion(vectors, torch.tensor([[True, False]])).logits
        return logits


@pytest.mark.parametrize("lf", [False, True])
def test_equals_monais_on_one_vertebra(lf: bool) -> None:
    network, (images, centres) = tiny(lf=lf).eval(), cases(1)
    centres[0, 1] = torch.nan
    with torch.no_grad():
        crop = network(images, centres).crops[:1]
    layer = f"network.classifier.{network.classifier.cam_layer}"
    reference = GradCAM(OneCrop(network).eval(), layer, postprocessing=lambda x: x)
    peaks = []
    for label in range(3):
        maps = pair_gradcam(network, images, centres, torch.tensor([label]))
        expected = reference(crop.clone().requires_grad_(), class_idx=label)[0, 0].detach().numpy()
        np.testing.assert_allclose(maps[0, 0].numpy(), expected, rtol=1e-4, atol=1e-9)
        assert not maps[0, 1].any()
        peaks.append(expected.max())
    assert max(peaks) > 0


def test_the_predicted_class_is_the_default_and_nothing_is_left_behind() -> None:
    network, (images, centres) = tiny().eval(), cases(2)
    with torch.no_grad():
        predicted = network(images, centres).logits.argmax(dim=1)
        maps = pair_gradcam(network, images, centres)
    assert torch.equal(maps, pair_gradcam(network, images, centres, predicted))
    assert all(value.grad is None for value in network.parameters())
    assert not any(module._forward_hooks for module in network.modules())


def test_a_case_without_any_crop_has_no_map() -> None:
    network, (images, centres) = tiny().eval(), cases(2)
    centres[1] = torch.nan
    maps = pair_gradcam(network, images, centres)
    assert maps.shape == (2, 2, 64, 64)
    assert not maps[1].any()
    assert not pair_gradcam(network, images, torch.full_like(centres, torch.nan)).any()
