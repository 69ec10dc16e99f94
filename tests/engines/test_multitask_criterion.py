from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from bonemonai.engines import MultitaskCriterion
from bonemonai.losses import MultitaskLoss
from bonemonai.losses.multitask_loss import TASKS
from bonemonai.networks import MultitaskPrediction, crop_at, crop_corners
from bonemonai.transforms import Mixed
from tests.networks.test_multitask_network import ANCHORS, tiny
from tests.networks.torchvision_models import seeded

SIDE = 96


def truth(count: int = 2) -> dict[str, Any]:
    """Boxes somewhere, masks that fill them."""
    with seeded(5):
        low = 10 + 40 * torch.rand(count, 2, 2)
        boxes = torch.cat([low, low + 20], dim=2).round()
    mask = torch.zeros(count, 2, SIDE, SIDE)
    for case in range(count):
        for level in range(2):
            x1, y1, x2, y2 = (int(value) for value in boxes[case, level])
            mask[case, level, y1:y2, x1:x2] = 1
    return {
        "boxes": boxes, "present": torch.ones(count, 2, dtype=torch.bool), "mask": mask, "boundary": mask / 2,
        "class": torch.arange(count) % 3,
    }  # fmt: skip


def centres(targets: dict[str, Any]) -> torch.Tensor:
    boxes = targets["boxes"]
    return (boxes[..., [1, 0]] + boxes[..., [3, 2]]) / 2


def images(count: int = 2) -> torch.Tensor:
    with seeded(6):
        return torch.rand(count, 2, 1, SIDE, SIDE)


def criterion() -> MultitaskCriterion:
    return MultitaskCriterion(MultitaskLoss(ANCHORS))


def test_six_losses_of_whole_slices_equal_those_by_hand() -> None:
    network, targets, measure = tiny().eval(), truth(), criterion()
    found = network(images(), centres(targets))
    total = measure(found, targets)
    terms = measure.terms()
    assert [name for name in terms if name.startswith("loss_")] == [f"loss_{task}" for task in TASKS]
    assert len([name for name in terms if name.startswith("weight_")]) == 6
    corners = crop_corners(centres(targets).flatten(0, 1), 64)
    mask = crop_at(targets["mask"].flatten(0, 1)[:, None], corners, 64)
    assert terms["loss_dice"] == pytest.approx(measure.loss.dice(found.mask, mask).item(), abs=1e-6)
    assert terms["loss_heatmap"] == pytest.approx(F.mse_loss(found.boundary, mask / 2).item(), abs=1e-6)
    assert terms["loss_classification"] == pytest.approx(
        F.cross_entropy(found.logits, targets["class"]).item(), abs=1e-6
    )
    yolo = measure.loss.yolo(found.outputs, targets["boxes"].flatten(0, 1)[:, None], torch.tensor([[0], [1]] * 2))
    assert terms["loss_category"] == pytest.approx(yolo.category.item(), abs=1e-6)
    weighed = sum(
        terms[f"weight_{task}"] * terms[f"loss_{task}"] + F.softplus(torch.tensor(0.0)).item() / 2 for task in TASKS
    )
    assert total.item() == pytest.approx(weighed, rel=1e-5)


def test_what_was_not_found_has_no_loss() -> None:
    network, targets, measure = tiny().eval(), truth(3), criterion()
    targets["present"][1, 0] = targets["present"][2] = False
    targets["boxes"][1, 0] = targets["boxes"][2] = torch.nan
    with torch.no_grad():
        found = network(images(3), centres(targets))
    value = measure(found, targets)
    assert value.isfinite()
    terms = measure.terms()
    assert terms["loss_classification"] == pytest.approx(
        F.cross_entropy(found.logits[:2], targets["class"][:2]).item(), abs=1e-6
    )
    # what a missing vertebra's mask is, changes nothing
    targets["mask"][2] = 1
    assert torch.equal(measure(found, targets), value)


def test_logits_that_became_nan_are_no_missing_subject() -> None:
    network, targets = tiny().eval(), truth()
    found: MultitaskPrediction = network(images(), centres(targets))
    logits = found.logits.clone()
    logits[0] = torch.nan
    assert criterion()(found._replace(logits=logits), targets).isnan()


def test_a_classifier_that_became_nan_is_no_missing_subject() -> None:
    """With the fusion's weights NaN, too, no task may drop out of the loss in silence."""
    network, targets = tiny().eval(), truth()
    for value in network.classifier.parameters():
        value.data[:] = torch.nan
    measure = criterion()
    assert measure(network(images(), centres(targets)), targets).isnan()
    assert "loss_classification" in measure.terms()


def test_unknown_conditions_train_the_other_tasks() -> None:
    network, targets, measure = tiny().eval(), truth(), criterion()
    targets["class"] = torch.tensor([-1, -1])
    measure(network(images(), centres(targets)), targets)
    assert "loss_classification" not in measure.terms()
    assert "loss_dice" in measure.terms()


@pytest.mark.parametrize(
    ("parts", "tasks"),
    [
        (("locator",), {"box", "category", "confidence"}),
        (("segmenter",), {"dice", "heatmap"}),
        (("segmenter", "classifier"), {"dice", "heatmap", "classification"}),
    ],
)
def test_parts_that_were_not_run_have_no_loss_and_no_gradient(parts: tuple[str, ...], tasks: set[str]) -> None:
    network, targets, measure = tiny().train(), truth(), criterion()
    measure(network(images(), centres(targets), parts=parts), targets).backward()
    assert {name.removeprefix("loss_") for name in measure.terms() if name.startswith("loss_")} == tasks
    reached = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
    assert reached == {*parts, *(["fusion"] if "classifier" in parts else [])}
    found = network(images(), centres(targets), parts=parts)
    assert found.logits.requires_grad == ("classifier" in parts)
    # nor do their losses' weights move
    moved = {name for name, value in measure.loss.weigh.log_variances.items() if value.grad is not None}
    assert moved == tasks


def test_a_batch_without_anything_to_learn_is_no_error() -> None:
    network, targets, measure = tiny().train(), truth(), criterion()
    targets["boxes"][:] = torch.nan
    targets["present"][:] = False
    value = measure(network(images(), centres(targets), parts=("segmenter",)), targets)
    value.backward()
    assert value.item() == 0
    assert measure.terms() == {}


def test_a_mixed_batch_costs_the_weighed_sum_of_both_truths() -> None:
    network, one, other = tiny().eval(), truth(), truth()
    other["class"] = torch.tensor([2, 2])
    other["mask"] = one["mask"].flip(3)
    mixed = {name: Mixed(one[name], other[name], 0.25) for name in one}
    measure = criterion()
    with torch.no_grad():
        found = network(images(), centres(one))
        terms = []
        for targets in (one, other, mixed):
            measure(found, targets)
            terms.append(measure.terms())
    for task in TASKS:
        name = f"loss_{task}"
        assert terms[2][name] == pytest.approx(0.75 * terms[0][name] + 0.25 * terms[1][name], rel=1e-5)


def test_a_locator_of_one_class() -> None:
    network, targets, measure = tiny(classes=1).eval(), truth(), criterion()
    measure(network(images(), centres(targets)), targets)
    assert measure.terms()["loss_category"] > 0
