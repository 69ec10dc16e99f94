from __future__ import annotations

import torch

from bonemonai.networks import MultitaskLogits
from tests.networks.test_multitask_network import cases, tiny


def test_logits_are_the_networks() -> None:
    network, (images, _) = tiny(score_threshold=0.0).eval(), cases()
    with torch.no_grad():
        expected = network(images).logits
        assert expected.isfinite().all()
        assert torch.equal(MultitaskLogits(network)(images), expected)
