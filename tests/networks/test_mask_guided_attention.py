from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.networks import MaskGuidedAttention
from bonemonai.networks.mask_guided_attention import pooled_guide


def test_output_is_half_the_features_and_half_weighted_by_the_mask() -> None:
    torch.manual_seed(0)
    module = MaskGuidedAttention()
    features, mask = torch.rand(3, 5, 7, 7), (torch.rand(3, 1, 224, 224) > 0.9).float()
    guided = module(features, mask)
    # by hand: blocks of 32 x 32 averaged, over the largest
    blocks = mask.reshape(3, 7, 32, 7, 32).mean((2, 4))
    guide = blocks / blocks.amax((1, 2), keepdim=True)
    torch.testing.assert_close(guided.guide[:, 0], guide)
    torch.testing.assert_close(guided.features, features * (0.5 + 0.5 * guide[:, None]))


def test_attention_is_the_sigmoid_of_one_convolution_over_mean_and_maximum() -> None:
    module = MaskGuidedAttention(kernel_size=1)
    features = torch.rand(2, 4, 3, 3)
    (weight_mean, weight_max), bias = module.convolution.weight.detach().flatten(), module.convolution.bias.detach()
    by_hand = 1 / (1 + torch.exp(-(weight_mean * features.mean(1) + weight_max * features.amax(1) + bias)))
    torch.testing.assert_close(module(features, torch.zeros(2, 1, 9, 9)).attention[:, 0], by_hand)


def test_empty_mask_gives_zero_and_no_nan() -> None:
    features = torch.rand(2, 4, 7, 7)
    mask = torch.zeros(2, 1, 70, 70)
    mask[1, 0, 3, 3] = 1
    guided = MaskGuidedAttention()(features, mask)
    assert torch.equal(guided.guide[0], torch.zeros(1, 7, 7))
    assert torch.equal(guided.features[0], 0.5 * features[0])
    assert float(guided.guide[1].max()) == 1


def test_learned_attention_does_not_look_at_the_mask() -> None:
    module, features = MaskGuidedAttention("learned"), torch.rand(1, 4, 7, 7)
    one, two = (module(features, torch.full((1, 1, 14, 14), value)) for value in (0.0, 1.0))
    assert torch.equal(one.features, two.features)
    torch.testing.assert_close(one.features, features * (0.5 + 0.5 * one.attention))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 7), st.floats(0, 1))
def test_guide_is_within_0_and_1_at_any_size(height: int, width: int, size: int, share: float) -> None:
    rng = np.random.default_rng(height * 61 + width)
    mask = torch.from_numpy(rng.random((1, 1, height, width)) < share).float()
    guide = pooled_guide(mask, (size, size))
    assert guide.shape == (1, 1, size, size)
    assert float(guide.max()) == (1 if mask.any() else 0)
    assert float(guide.min()) >= 0


def test_what_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="attention must be mask or learned, got 'both'"):
        MaskGuidedAttention("both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        MaskGuidedAttention(kernel_size=4)
