from __future__ import annotations

import torch

from bonemonai.networks import AlexNet
from tests.networks.torchvision_models import torchvision_models


def test_equals_torchvisions() -> None:
    reference = torchvision_models().alexnet(weights=None, num_classes=3).eval()
    network = AlexNet(3).eval()
    network.load_state_dict(reference.state_dict(), strict=True)
    image = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.equal(network(image), reference(image))
