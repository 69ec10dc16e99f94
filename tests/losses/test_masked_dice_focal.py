from __future__ import annotations

import pytest
import torch

from bonemonai.losses import MaskedDiceFocalLoss


def batch(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 2, 9, 8, generator=generator)
    truth = (torch.rand(3, 1, 9, 8, generator=generator) < 0.2).float()
    mask = (torch.rand(3, 1, 9, 8, generator=generator) < 0.7).float()
    return logits, truth, mask


def by_hand(logits: torch.Tensor, truth: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Both terms from their definitions, over the marked pixels only."""
    p = torch.softmax(logits, 1)[:, 1:][mask > 0]
    t = truth[mask > 0]
    dice = 1 - (2 * (p * t).sum() + 1e-5) / (p.sum() + t.sum() + 1e-5)
    pt = torch.where(t > 0, p, 1 - p)
    return dice + ((1 - pt) ** 2 * -pt.log()).mean()


def test_equals_the_definition_inside_the_mask() -> None:
    logits, truth, mask = batch()
    found = MaskedDiceFocalLoss()(logits, torch.cat([truth, mask], 1))
    assert found.item() == pytest.approx(by_hand(logits, truth, mask).item(), abs=1e-5)


def test_one_channel_counts_every_pixel() -> None:
    logits, truth, _ = batch()
    found = MaskedDiceFocalLoss()(logits, truth)
    assert found.item() == pytest.approx(by_hand(logits, truth, torch.ones_like(truth)).item(), abs=1e-5)


def test_what_lies_outside_takes_no_part() -> None:
    logits, truth, mask = batch()
    logits.requires_grad_()
    loss = MaskedDiceFocalLoss()
    value = loss(logits, torch.cat([truth, mask], 1))
    value.backward()
    assert (logits.grad * (1 - mask)).abs().max() == 0
    assert (logits.grad * mask).abs().sum() > 0
    other = torch.where(mask > 0, logits.detach(), torch.full_like(logits, 7.0))
    changed = torch.where(mask > 0, truth, 1 - truth)
    assert loss(other, torch.cat([changed, mask], 1)).item() == pytest.approx(value.item(), abs=1e-6)


def test_types_of_masks_on_disk_are_taken() -> None:
    logits, truth, mask = batch()
    target = torch.cat([truth, mask * 255], 1)
    loss = MaskedDiceFocalLoss()
    assert torch.isclose(loss(logits, target.to(torch.uint8)), loss(logits, torch.cat([truth, mask], 1)))


def test_right_is_near_zero_and_empty_is_finite() -> None:
    _, truth, mask = batch()
    right = torch.cat([1 - truth, truth], 1) * 40
    assert MaskedDiceFocalLoss()(right, torch.cat([truth, mask], 1)) < 1e-4
    assert torch.isfinite(MaskedDiceFocalLoss()(right, torch.zeros_like(right)))


def test_weights_of_the_two_terms() -> None:
    logits, truth, mask = batch()
    target = torch.cat([truth, mask], 1)
    dice = MaskedDiceFocalLoss(lambda_focal=0)(logits, target)
    focal = MaskedDiceFocalLoss(lambda_dice=0)(logits, target)
    both = MaskedDiceFocalLoss(lambda_dice=2, lambda_focal=3)(logits, target)
    assert torch.isclose(both, 2 * dice + 3 * focal)


@pytest.mark.parametrize(
    ("logits", "target"), [((1, 1, 4, 4), (1, 1, 4, 4)), ((1, 2, 4, 4), (1, 3, 4, 4)), ((1, 2, 4, 4), (1, 2, 4, 5))]
)
def test_shapes_that_do_not_fit_are_refused(logits: tuple[int, ...], target: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \(B, 2, ...\)"):
        MaskedDiceFocalLoss()(torch.zeros(logits), torch.zeros(target))
