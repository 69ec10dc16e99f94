from __future__ import annotations

import pytest
import torch
from torch import nn

from bonemonai.networks import PairClassifier
from tests.networks.torchvision_models import seeded

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
PRESENT = torch.tensor([[True, True], [False, True], [True, False], [False, False]])


def backbone(normalised: bool = False) -> nn.Module:
    with seeded(1):
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4) if normalised else nn.Identity(), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(4, 3),
        )  # fmt: skip


def images(batch: int = 4) -> torch.Tensor:
    return torch.rand(batch, 2, 1, 8, 8, generator=torch.Generator().manual_seed(2))


def test_is_the_mean_over_the_vertebrae_that_are_there() -> None:
    network, given = PairClassifier(backbone()).eval(), images()
    for present in (PRESENT, None):
        logits = network(given, present)
        there = torch.ones(4, 2, dtype=torch.bool) if present is None else present
        for row in range(4):
            each = []
            for vertebra in range(2):
                if there[row, vertebra]:
                    grey = given[row, vertebra].expand(3, -1, -1)
                    normalised = (grey - MEAN[:, None, None]) / STD[:, None, None]
                    each.append(network.backbone(normalised[None])[0])
            if each:
                torch.testing.assert_close(logits[row], torch.stack(each).mean(dim=0))
            else:
                assert logits[row].isnan().all()


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_missing_vertebrae_change_nothing_of_others_in_training(value: float) -> None:
    """Neither logits, nor gradients, nor the statistics of the batch normalisation."""
    outcomes = []
    for rest in (0.0, value):
        network = PairClassifier(backbone(normalised=True)).train()
        given = images()
        given[~PRESENT] = rest
        given.requires_grad_()
        logits = network(given, PRESENT)
        logits[PRESENT.any(dim=1)].square().sum().backward()
        assert given.grad is not None
        assert (given.grad[~PRESENT] == 0).all()
        assert (given.grad[PRESENT] != 0).any()
        outcomes.append([logits, given.grad, *network.backbone.state_dict().values(),
                         *(parameter.grad for parameter in network.parameters())])  # fmt: skip
    for first, second in zip(*outcomes, strict=True):
        assert torch.equal(first.nan_to_num(), second.nan_to_num())
        assert first.isfinite().all() or first is outcomes[0][0]


def test_backbone_is_not_called_where_no_vertebra_is_there() -> None:
    class Never(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            raise AssertionError

    logits = PairClassifier(Never(), 5)(images(2), torch.zeros(2, 2, dtype=torch.bool))
    assert logits.shape == (2, 5)
    assert logits.isnan().all()


def test_state_is_the_backbones() -> None:
    assert set(PairClassifier(backbone()).state_dict()) == {f"backbone.{name}" for name in backbone().state_dict()}


def test_arguments_are_checked() -> None:
    network = PairClassifier(backbone())
    with pytest.raises(ValueError, match=r"images must be \(B, 2, 1, H, W\), got \(4, 2, 8, 8\)"):
        network(images()[:, :, 0])
    with pytest.raises(ValueError, match=r"images must be .* got \(4, 1, 1, 8, 8\)"):
        network(images()[:, :1])
    for present in (PRESENT.float(), PRESENT[:2]):
        with pytest.raises(ValueError, match="present must be bool"):
            network(images(), present)
    with pytest.raises(ValueError, match=r"must return \(N, 4\), got \(8, 3\)"):
        PairClassifier(backbone(), 4)(images())
    with pytest.raises(ValueError, match="num_classes must be >= 1"):
        PairClassifier(backbone(), 0)
