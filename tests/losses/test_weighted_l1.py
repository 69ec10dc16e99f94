from __future__ import annotations

import pytest
import torch

from bonemonai.losses import WeightedL1Loss


def test_weight_one_is_the_mean_absolute_error() -> None:
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 1, 8, 8, generator=generator)
    target = (torch.rand(2, 1, 8, 8, generator=generator) > 0.9).float()
    ours = WeightedL1Loss()(prediction, target)
    torch.testing.assert_close(ours, torch.nn.functional.l1_loss(prediction, target))


def test_what_is_missed_weighs_more_than_what_is_too_much() -> None:
    target = torch.tensor([1.0, 0, 0, 0])
    loss = WeightedL1Loss(10)
    assert float(loss(torch.tensor([0.0, 0, 0, 0]), target)) == pytest.approx(10 / 4)
    assert float(loss(torch.tensor([1.0, 1, 0, 0]), target)) == pytest.approx(1 / 4)


def test_the_gradient_of_a_missed_pixel_is_as_much_larger() -> None:
    prediction = torch.full((4,), 0.5, requires_grad=True)
    WeightedL1Loss(7)(prediction, torch.tensor([1.0, 0, 0, 0])).backward()
    assert prediction.grad is not None
    assert prediction.grad.tolist() == [-7 / 4, 1 / 4, 1 / 4, 1 / 4]


@pytest.mark.parametrize("weight", [0.5, float("nan")])
def test_weights_below_one_are_refused(weight: float) -> None:
    with pytest.raises(ValueError, match="foreground_weight must be >= 1"):
        WeightedL1Loss(weight)


def test_shapes_must_be_the_same() -> None:
    with pytest.raises(ValueError, match="one shape"):
        WeightedL1Loss()(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4))
