from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from bonemonai.losses import GreyReconstructionLoss


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 1, 24, 32, generator=generator), torch.rand(2, 1, 24, 32, generator=generator)


def test_cross_entropy_of_soft_targets_by_hand() -> None:
    logits, target = images()
    value = logits.sigmoid()
    expected = -(target * value.log() + (1 - target) * (1 - value).log()).mean()
    assert GreyReconstructionLoss()(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
    # least at the target, where it is the target's entropy
    at_target = GreyReconstructionLoss()(target.logit(1e-6), target)
    entropy = torch.distributions.Bernoulli(target).entropy().mean()
    assert at_target.item() == pytest.approx(entropy.item(), abs=1e-4)
    assert at_target < GreyReconstructionLoss()((target + 0.01).clamp(0, 1).logit(1e-6), target)


def test_absolute_error() -> None:
    logits, target = images()
    expected = (logits.sigmoid() - target).abs().mean().item()
    assert GreyReconstructionLoss("l1")(logits, target).item() == pytest.approx(expected, rel=1e-5)


def test_similarity_is_scikit_images_where_windows_lie_inside() -> None:
    logits, target = images()
    found = 1 - GreyReconstructionLoss("ssim")(logits, target).item()
    maps = [
        structural_similarity(one, other, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
                              full=True)[1][5:-5, 5:-5]
        for one, other in zip(logits.sigmoid()[:, 0].numpy(), target[:, 0].numpy(), strict=True)
    ]  # fmt: skip
    assert found == pytest.approx(float(np.mean(maps)), abs=1e-4)


@pytest.mark.parametrize("kind", ["bce", "l1", "ssim"])
def test_lowering_it_draws_a_prediction_to_its_target(kind: str) -> None:
    _, target = images()
    logits = torch.zeros_like(target, requires_grad=True)
    loss = GreyReconstructionLoss(kind)
    optimizer = torch.optim.Adam([logits], lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        loss(logits, target).backward()
        optimizer.step()
    assert (logits.sigmoid() - target).abs().mean() < 0.1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="kind must be one of bce, l1, ssim"):
        GreyReconstructionLoss("mse")
