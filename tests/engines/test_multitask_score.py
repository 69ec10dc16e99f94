from __future__ import annotations

from typing import Any

import pytest
import torch

from bonemonai.engines import MultitaskScore, further_multitask_scores
from bonemonai.networks import MultitaskPrediction, crop_corners
from tests.engines.test_multitask_criterion import centres, truth


def perfect(targets: dict[str, Any], size: int = 64) -> MultitaskPrediction:
    """Outlines and classes as they are, crops around the true centres."""
    from bonemonai.networks import crop_at

    corners = crop_corners(centres(targets).flatten(0, 1), size)
    masks = crop_at(targets["mask"].flatten(0, 1)[:, None], corners, size)
    count = len(targets["class"])
    logits = torch.full((count, 3), -20.0)
    logits[torch.arange(count), targets["class"].clamp(min=0)] = 20
    return MultitaskPrediction(
        None, corners, torch.zeros(2 * count, 1, size, size), 40 * masks - 20, None, logits,
        torch.full((count, 2), 0.5), torch.ones(count, 2, dtype=torch.bool),
    )  # fmt: skip


def values(*outputs: tuple[MultitaskPrediction, dict[str, Any]]) -> dict[str, float]:
    metrics = {"score": MultitaskScore(), **further_multitask_scores()}
    for metric in metrics.values():
        metric.reset()
        for output in outputs:
            metric.update(output)
    return {name: float(metric.compute()) for name, metric in metrics.items()}


def test_all_right_is_one() -> None:
    targets = truth(3)
    assert values((perfect(targets), targets)) == pytest.approx(
        {"score": 1, "found": 1, "dice": 1, "accuracy": 1, "probability": 1}
    )


def test_what_was_not_found_counts_as_missed_and_wrong() -> None:
    targets = truth(2)
    found = perfect(targets)
    gone = found._replace(
        corners=torch.where(torch.tensor([True, True, False, False])[:, None], -64, found.corners),
        mask=torch.cat([torch.full_like(found.mask[:2], -100), found.mask[2:]]),
        logits=torch.cat([torch.full_like(found.logits[:1], torch.nan), found.logits[1:]]),
        found=torch.tensor([[False, False], [True, True]]),
    )
    assert values((gone, targets)) == pytest.approx(
        {"score": 0.5, "found": 0.5, "dice": 0.5, "accuracy": 0.5, "probability": 0.5}
    )


def test_a_crop_beside_the_vertebra_has_not_found_it() -> None:
    targets = truth(1)
    found = perfect(targets)
    aside = found._replace(corners=found.corners + torch.tensor([[40, 0], [0, 0]]))
    assert values((aside, targets))["found"] == 0.5
    assert values((aside, targets))["dice"] < 1


def test_vertebrae_and_conditions_that_are_not_there_do_not_count() -> None:
    targets = truth(2)
    found = perfect(targets)
    targets["present"][0, 0] = False
    targets["boxes"][0, 0] = torch.nan
    targets["mask"][0, 0] = 0
    targets["class"] = torch.tensor([-1, 1])
    assert values((found, targets)) == pytest.approx(
        {"score": 1, "found": 1, "dice": 1, "accuracy": 1, "probability": 1}
    )
    targets["class"] = torch.tensor([-1, -1])
    unknown = values((found, targets))
    assert unknown["score"] == pytest.approx(1)
    assert unknown["accuracy"] != unknown["accuracy"]  # NaN


def test_logits_that_became_nan_are_not_hidden() -> None:
    targets = truth(2)
    found = perfect(targets)
    broken = found._replace(logits=torch.full_like(found.logits, torch.nan))
    assert values((broken, targets))["score"] != values((broken, targets))["score"]  # NaN


def test_batches_are_pooled() -> None:
    one, other = truth(1), truth(3)
    wrong = perfect(other)
    wrong = wrong._replace(logits=wrong.logits.roll(1, dims=1))
    assert values((perfect(one), one), (wrong, other))["accuracy"] == 0.25


def test_refusals() -> None:
    with pytest.raises(ValueError, match="quantity must be one of"):
        MultitaskScore("loss")
