from __future__ import annotations

import torch
from torch import nn

from bonemonai.losses import MaskGuidedAttentionLoss
from bonemonai.networks import VGG16, MaskGuidedVGG16


def test_a_mask_of_ones_changes_nothing_of_vgg16() -> None:
    """Where the mask is 1 everywhere f_out is f: the logits are plain VGG16's."""
    plain = VGG16(2, width=2, negative_slope=0.01).eval()
    guided = MaskGuidedVGG16(width=2).eval()
    state = {name: value for name, value in guided.state_dict().items() if name.startswith("attention.")}
    guided.load_state_dict({**plain.state_dict(), **state}, strict=True)
    image = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(guided(image, torch.ones(2, 1, 64, 64)), plain(image))


def test_the_mask_tells() -> None:
    torch.manual_seed(0)
    network, image = MaskGuidedVGG16(width=2).eval(), torch.rand(1, 3, 64, 64)
    masks = torch.zeros(2, 1, 64, 64)
    masks[0, :, :32, :32] = masks[1, :, 32:, 32:] = 1
    assert not torch.allclose(network(image, masks[:1]), network(image, masks[1:]), rtol=0.0, atol=0.0)


def test_activations_are_leaky() -> None:
    assert {m.negative_slope for m in MaskGuidedVGG16(width=1).modules() if isinstance(m, nn.LeakyReLU)} == {0.01}


def test_every_parameter_learns_and_attention_by_the_loss_alone() -> None:
    torch.manual_seed(0)
    network = MaskGuidedVGG16(width=4).train()
    mask = (torch.rand(2, 1, 64, 64) > 0.7).float()
    prediction = network(torch.rand(2, 3, 64, 64), mask)
    assert prediction.attention.shape == prediction.guide.shape == (2, 1, 2, 2)
    MaskGuidedAttentionLoss(0)(prediction, torch.tensor([0, 1])).backward(retain_graph=True)
    convolution = network.attention.convolution
    assert convolution.weight.grad is None or not convolution.weight.grad.any()
    network.zero_grad()
    MaskGuidedAttentionLoss()(prediction, torch.tensor([0, 1])).backward()
    for name, value in network.named_parameters():
        assert value.grad is not None, name
        assert value.grad.any(), name
