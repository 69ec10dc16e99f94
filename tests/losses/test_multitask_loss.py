from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from monai.losses import DiceLoss
from scipy.optimize import minimize_scalar
from torch.nn import functional as F

from bonemonai.losses import MultitaskLoss, UncertaintyWeights, YoloLoss
from bonemonai.transforms import BalancedMixUp, Mixed

ANCHORS = [[8, 8], [12, 10], [14, 16], [24, 24], [30, 22], [28, 36], [48, 40], [52, 60], [60, 64]]
TASKS = ("box", "category", "confidence", "dice", "heatmap", "classification")


def predicted(seed: int = 0, batch: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "boxes": [
            torch.randn(batch, 3, 64 // s, 64 // s, 6, generator=generator).requires_grad_() for s in (8, 16, 32)
        ],
        "mask": torch.randn(batch, 1, 16, 16, generator=generator).requires_grad_(),
        "boundary": torch.rand(batch, 1, 16, 16, generator=generator).requires_grad_(),
        "logits": torch.randn(batch, 3, generator=generator).requires_grad_(),
    }


def truth(seed: int = 0, batch: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(100 + seed)
    centre, size = torch.rand(batch, 1, 2, generator=generator) * 20 + 20, torch.rand(batch, 1, 2, generator=generator)
    return {
        "boxes": torch.cat([centre - 5 - 10 * size, centre + 5 + 10 * size], -1),
        "labels": torch.zeros(batch, 1, dtype=torch.int64),
        "mask": (torch.rand(batch, 1, 16, 16, generator=generator) < 0.4).float(),
        "boundary": torch.rand(batch, 1, 16, 16, generator=generator),
        "class": torch.randint(3, (batch,), generator=generator),
    }


def test_six_losses_are_the_papers() -> None:
    prediction, target = predicted(), truth()
    value = MultitaskLoss(ANCHORS)(prediction, target)
    assert tuple(value.losses) == TASKS
    wanted = [
        *YoloLoss(ANCHORS)(prediction["boxes"], target["boxes"], target["labels"]),
        DiceLoss(sigmoid=True)(prediction["mask"], target["mask"]),
        F.mse_loss(prediction["boundary"], target["boundary"]),
        F.cross_entropy(prediction["logits"], target["class"]),
    ]
    for name, loss in zip(TASKS, wanted, strict=True):
        assert torch.isclose(value.losses[name], loss), name
    assert torch.isclose(value.total, sum(0.5 * loss + 0.5 * math.log(2) for loss in wanted))
    assert all(float(weight) == 0.5 for weight in value.weights.values())
    assert not any(part.requires_grad for part in (*value.losses.values(), *value.weights.values()))


@pytest.mark.parametrize("loss", [1e-3, 0.05, 0.7, 3.0, 200.0])
def test_best_weight_is_analytic_and_is_found(loss: float) -> None:
    wanted = minimize_scalar(lambda s: (math.exp(-s) * loss + math.log1p(math.exp(s))) / 2, bounds=(-15, 15)).x
    assert UncertaintyWeights.best(loss) == pytest.approx(wanted, abs=1e-3)
    weigh = UncertaintyWeights(["a"])
    optimiser = torch.optim.Adam(weigh.parameters(), lr=0.3)
    for _ in range(500):
        optimiser.zero_grad()
        weigh({"a": torch.tensor(loss)}).backward()
        optimiser.step()
    assert float(weigh.log_variances["a"].detach()) == pytest.approx(UncertaintyWeights.best(loss), abs=1e-2)


def test_neither_a_vanishing_nor_a_huge_loss_runs_away() -> None:
    """Plain descent of 2000 steps at 0.1: Kendall's own term would take s to -100 and the sum with it."""
    for loss in (0.0, 1e4):
        weigh = UncertaintyWeights(["a"], initial=0.0)
        optimiser = torch.optim.SGD(weigh.parameters(), lr=0.1 if loss == 0 else 1e-5)
        for _ in range(2000):
            optimiser.zero_grad()
            total = weigh({"a": torch.tensor(loss)})
            total.backward()
            optimiser.step()
        assert float(total.detach()) > 0
        assert -7 < float(weigh.log_variances["a"].detach()) < UncertaintyWeights.best(1e4) + 0.1
    assert UncertaintyWeights.best(0.0) == -math.inf


def test_weights_are_parameters_and_the_derivative_is_right() -> None:
    loss = MultitaskLoss(ANCHORS)
    assert len([p for p in loss.parameters() if p.requires_grad]) == 6
    value = loss(predicted(), truth())
    value.total.backward()
    for name in TASKS:
        slope = loss.weigh.log_variances[name].grad
        assert float(slope) == pytest.approx((0.5 - float(value.losses[name])) / 2, rel=1e-5)
    assert set(loss.state_dict()) == {f"weigh.log_variances.{name}" for name in TASKS}


def test_a_missing_task_is_left_out_with_its_weight() -> None:
    prediction, target = predicted(), truth()
    loss = MultitaskLoss(ANCHORS)
    whole = loss.losses(prediction, target)
    for without in ({"mask": None}, {"mask": None, "boundary": None}, {"boxes": None}):
        value = loss(prediction, {**target, **without})
        left = [
            name
            for name in TASKS
            if not (name == "dice" and "mask" in without)
            and not (name == "heatmap" and "boundary" in without)
            and not (name in TASKS[:3] and "boxes" in without)
        ]
        assert list(value.losses) == left
        assert torch.isclose(value.total, sum(0.5 * whole[name] + 0.5 * math.log(2) for name in left))
        loss.zero_grad()
        value.total.backward(retain_graph=True)
        gone = [name for name in TASKS if name not in left]
        assert all(loss.weigh.log_variances[name].grad is None for name in gone)
    only = loss({"logits": prediction["logits"]}, {"class": target["class"], "mask": target["mask"]})
    assert list(only.losses) == ["classification"]


def test_mixed_targets_cost_the_sum_to_both() -> None:
    prediction, one, other = predicted(), truth(1), truth(2)
    loss = MultitaskLoss(ANCHORS)
    pairs = {key: Mixed(one[key], other[key], 0.2) for key in one}
    value = loss(prediction, pairs)
    first, second = loss.losses(prediction, one), loss.losses(prediction, other)
    for name in TASKS:
        assert torch.isclose(value.losses[name], 0.8 * first[name] + 0.2 * second[name])
    mix = BalancedMixUp(["image"], list(one), seed=1)
    batch = mix({"image": torch.zeros(2, 1), **one}, {"image": torch.ones(2, 1), **other})
    lam = float(batch.pop("image")[0])
    value = loss(prediction, batch)  # type: ignore[arg-type]
    assert torch.isclose(value.losses["box"], (1 - lam) * first["box"] + lam * second["box"])


def test_training_fits_all_tasks() -> None:
    prediction, target = predicted(), truth()
    loss = MultitaskLoss(ANCHORS)
    leaves = [*prediction["boxes"], prediction["mask"], prediction["boundary"], prediction["logits"]]
    optimiser = torch.optim.Adam([*leaves, *loss.parameters()], lr=0.1)
    start = loss(prediction, target)
    for _ in range(60):
        optimiser.zero_grad()
        loss(prediction, target).total.backward()
        optimiser.step()
    end = loss(prediction, target)
    for name in TASKS:
        assert end.losses[name] < 0.6 * start.losses[name], name
    assert end.weights["heatmap"] > start.weights["heatmap"]


def test_refusals() -> None:
    loss = MultitaskLoss(ANCHORS)
    with pytest.raises(ValueError, match="must share a task"):
        loss({"mask": torch.zeros(1, 1, 2, 2)}, {"class": torch.zeros(1, dtype=torch.int64)})
    pair = truth()
    with pytest.raises(ValueError, match=r"one lam, got \[0.1, 0.2\]"):
        loss(predicted(), {"mask": Mixed(pair["mask"], pair["mask"], 0.1), "class": Mixed(0, 0, 0.2)})
    with pytest.raises(ValueError, match="losses must be of a, got b"):
        UncertaintyWeights(["a"])({"b": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="got none"):
        UncertaintyWeights(["a"])({})
    with pytest.raises(ValueError, match="each once"):
        UncertaintyWeights(["a", "a"])
