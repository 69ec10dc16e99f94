from __future__ import annotations

import itertools
import re
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from bonemonai.networks import (
    BoneClassifier,
    BoundaryUNet,
    MultitaskNetwork,
    MultitaskPrediction,
    VertebraFusion,
    YOLOv3,
    crop_at,
    crop_corners,
)
from tests.networks.torchvision_models import seeded

ANCHORS = [(8 * n, 8 * n) for n in range(1, 10)]


def tiny(
    *, lf: bool = True, gc: bool = True, ff: bool = True, boundary: bool = True, classes: int = 2, **options: Any
) -> MultitaskNetwork:
    with seeded():
        segmenter = BoundaryUNet(width=2, boundary=boundary)
        classifier = BoneClassifier(segmenter.feature_channels, local_fusion=lf, gates=gc, layers=(1, 1, 1, 1), width=2)
        network = MultitaskNetwork(
            YOLOv3(classes, ANCHORS, width=2), segmenter, classifier, VertebraFusion(64, feature_fusion=ff, hidden=16),
            **{"crop_size": 64, **options},
        )  # fmt: skip
        for name, value in network.named_parameters():
            if name.endswith(".gamma"):
                nn.init.constant_(value, 0.1)  # at 0, where it starts, alpha has no gradient
    return network


def cases(count: int = 2, side: int = 96) -> tuple[torch.Tensor, torch.Tensor]:
    with seeded(2):
        return torch.rand(count, 2, 1, side, side), 20 + torch.rand(count, 2, 2) * (side - 40)


def loss_of(found: MultitaskPrediction) -> torch.Tensor:
    loss = F.cross_entropy(found.logits.float(), torch.arange(len(found.logits)) % 3)
    loss = loss + sum(output.float().square().mean() for output in found.outputs) + found.mask.float().square().mean()
    return loss if found.boundary is None else loss + found.boundary.float().square().mean()


@pytest.mark.parametrize(("lf", "gc", "ff"), list(itertools.product([False, True], repeat=3)))
def test_every_combination_trains(lf: bool, gc: bool, ff: bool) -> None:
    network, (images, centres) = tiny(lf=lf, gc=gc, ff=ff).train(), cases()
    found = network(images, centres)
    loss_of(found).backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []
    assert [tuple(output.shape) for output in found.outputs] == [(4, 3, 96 // n, 96 // n, 7) for n in (8, 16, 32)]
    assert found.mask.shape == found.boundary.shape == found.crops.shape == (4, 1, 64, 64)
    assert found.logits.shape == (2, 3)
    assert found.found.all()
    names = set(network.state_dict())
    assert any("fusions" in name for name in names) == lf
    assert any("gates" in name for name in names) == gc
    assert any("perceptron" in name for name in names) == ff
    torch.testing.assert_close(found.weights.sum(dim=1), torch.full((2,), 1.0 if ff else 2.0))


def test_classes_teach_the_segmentation_only_through_local_fusion_and_never_the_locator() -> None:
    images, centres = cases()
    for lf in (False, True):
        network = tiny(lf=lf).train()
        network(images, centres.requires_grad_()).logits.square().sum().backward()
        reached = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
        assert reached == {"classifier", "fusion", *(["segmenter"] if lf else [])}
        assert centres.grad is None


def test_equals_its_parts_by_hand() -> None:
    network, (images, centres) = tiny().eval(), cases()
    centres[0, 0] = torch.tensor([10.0, 90.0])  # the crop reaches beyond two sides
    with torch.no_grad():
        found = network(images, centres)
        for case in range(2):
            vectors = []
            for level in range(2):
                row, column = (int((centres[case, level, axis] - 32 + 0.5).floor()) for axis in (0, 1))
                padded = F.pad(images[case, level], (64, 64, 64, 64))
                crop = padded[None, :, row + 64 : row + 128, column + 64 : column + 128]
                mask, heat, features = network.segmenter(crop)
                number = 2 * case + level
                assert torch.equal(found.crops[number : number + 1], crop)
                assert found.corners[number].tolist() == [row, column]
                torch.testing.assert_close(found.mask[number : number + 1], mask)
                torch.testing.assert_close(found.boundary[number : number + 1], heat)
                vectors.append(network.classifier(crop, features))
                outputs = network.locator(images[case, level][None])
                for one, other in zip(found.outputs, outputs, strict=True):
                    torch.testing.assert_close(one[number : number + 1], other)
            logits, weights = network.fusion(torch.stack(vectors, dim=1))
            torch.testing.assert_close(found.logits[case : case + 1], logits)
            torch.testing.assert_close(found.weights[case : case + 1], weights)


@pytest.mark.parametrize("classes", [1, 2])
def test_crops_are_where_the_locator_is_surest_of_a_vertebra(classes: int) -> None:
    network = tiny(classes=classes)
    outputs = [torch.zeros(4, 3, 96 // stride, 96 // stride, 5 + classes) for stride in (8, 16, 32)]
    for output in outputs:
        output[..., 4:] = -20
    for number, (row, column, label) in enumerate([(1, 2, 0), (3, 1, 1), (4, 4, 1)]):
        outputs[1][number, 0, row, column, 4] = 20
        outputs[1][number, 0, row, column, 5 + min(label, classes - 1)] = 20
    points = network.locate(outputs)
    # the third slice is an L1 that the locator takes for an L2: whose it is, is known; in the last there is nothing
    expected = torch.tensor([[24.0, 40.0], [56.0, 24.0], [72.0, 72.0], [torch.nan, torch.nan]])
    assert torch.equal(points.nan_to_num(-1), expected.nan_to_num(-1))


def test_without_centres_the_locator_says_where() -> None:
    network, (images, _) = tiny(score_threshold=0.0).eval(), cases()
    found = network(images)
    points = network.locate(found.outputs)
    assert found.found.all()
    assert torch.equal(found.corners, crop_corners(points, 64))
    assert torch.equal(found.crops, crop_at(images.flatten(0, 1), found.corners, 64))
    nothing = tiny(score_threshold=1.0).eval()(images)
    assert not nothing.found.any()
    assert nothing.logits.isnan().all()
    assert not nothing.weights.any()
    assert not nothing.crops.any()


def test_the_locators_place_is_preferred_where_it_is_near_the_true_one() -> None:
    network, (images, _) = tiny(score_threshold=0.0).eval(), cases()
    with torch.no_grad():
        located = network.locate(network(images).outputs).unflatten(0, (-1, 2))
        true = located.clone()
        # towards the middle, by 7 and by 9 pixels; 8 are an eighth of a crop
        true[0, 0, 0] += 7 * (48 - true[0, 0, 0]).sign()
        true[0, 1, 0] += 9 * (48 - true[0, 1, 0]).sign()
        true[1, 1] = torch.nan
        found = network(images, true, prefer_located=True)
    expected = true.clone()
    expected[0, 0], expected[1, 0] = located[0, 0], located[1, 0]
    assert torch.equal(found.corners, crop_corners(expected.flatten(0, 1), 64))
    assert found.found.tolist() == [[True, True], [True, False]]


def test_parts_are_run_alone() -> None:
    network, (images, centres) = tiny().eval(), cases()
    with torch.no_grad():
        whole = network(images, centres)
        outlined = network(images, centres, parts=("segmenter",))
        located = network(images, centres, parts=("locator",))
        decided = network(images, centres, parts=("segmenter", "classifier"))
    assert outlined.outputs is None
    assert torch.equal(outlined.mask, whole.mask)
    assert outlined.logits.isnan().all()
    assert not outlined.weights.any()
    assert all(torch.equal(*pair) for pair in zip(located.outputs, whole.outputs, strict=True))
    assert not located.found.any()
    assert decided.outputs is None
    assert torch.equal(decided.logits, whole.logits)
    for parts in (("classifier",), (), ("nothing",)):
        with pytest.raises(ValueError, match="parts must be of"):
            network(images, centres, parts=parts)


@pytest.mark.parametrize("training", [False, True])
def test_a_missing_vertebra_is_absent(training: bool) -> None:
    images, centres = cases(3)
    centres[1, 0], centres[2] = torch.nan, torch.nan
    network = tiny().train(training)
    found = network(images, centres)
    assert found.found.tolist() == [[True, True], [False, True], [False, False]]
    assert found.weights[1:].tolist() == [[0, 1], [0, 0]]
    assert found.logits.isnan().all(dim=1).tolist() == [False, False, True]
    missing = ~found.found.flatten()
    for values, empty in ((found.crops, 0), (found.mask.sigmoid(), 0), (found.boundary, 0)):
        assert (values[missing] == empty).all()
        assert (values[~missing] != empty).any(dim=(1, 2, 3)).all()
    kept = found.found.any(dim=1)
    loss_of(found._replace(logits=found.logits[kept])).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    # what is beside a missing one does not feel it, nor do the batch statistics
    other = images.clone()
    other[1, 0], other[2] = 7, 7
    again = tiny().train(training)
    changed = again(other, centres)
    torch.testing.assert_close(changed.logits[:2], found.logits[:2])
    for part in ("segmenter", "classifier"):
        for one, two in zip(
            getattr(network, part).state_dict().values(), getattr(again, part).state_dict().values(), strict=True
        ):
            assert torch.equal(one, two)


def test_exported_it_takes_other_sizes_and_misses_the_same_vertebrae() -> None:
    network = tiny().eval()
    images, wide = cases(1)[0], cases(1, 128)[0][..., :96, :]
    with torch.no_grad():
        surest = [network.locator.best(network.locator(pair.flatten(0, 1))).objectness for pair in (images, wide)]
        # of one pair at least one vertebra is missed then
        network.score_threshold = float(torch.cat(surest).median())
        sides = {axis: 32 * torch.export.Dim(name, min=2, max=8) for axis, name in ((3, "rows"), (4, "columns"))}
        exported = torch.export.export(network, (images,), dynamic_shapes={"images": sides}).module()
        missed = 0
        for pair in (images, wide):
            expected, found = network(pair), exported(pair)
            missed += int((~expected.found).sum())
            for one, other in zip(tree_leaves(found), tree_leaves(expected), strict=True):
                torch.testing.assert_close(one, other, rtol=0, atol=1e-5, equal_nan=True)
    assert 0 < missed < 4


def test_training_with_nothing_found_keeps_the_network_finite() -> None:
    network, (images, centres) = tiny().train(), cases()
    found = network(images, torch.full_like(centres, torch.nan))
    found.mask.square().mean().backward()
    assert all(value.isfinite().all() for value in network.state_dict().values())


def test_checkpointing_changes_nothing_but_memory() -> None:
    images, centres = cases()
    results = []
    for checkpointing in (False, True):
        network = tiny(checkpointing=checkpointing).train()
        found = network(images, centres)
        loss_of(found).backward()
        gradients = [value.grad for value in network.parameters()]
        results.append([found.logits, found.mask, *found.outputs, *gradients, *network.state_dict().values()])
        parts = (network.locator.backbone, network.segmenter, network.classifier)
        assert [part.checkpointing for part in parts] == [checkpointing] * 3
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_mixed_precision() -> None:
    network, (images, centres) = tiny().train(), cases()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(images, centres)
    assert found.mask.dtype == torch.bfloat16
    loss_of(found).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in network.parameters())
    exact = tiny().train()(images, centres)
    torch.testing.assert_close(found.boundary.float(), exact.boundary, rtol=0, atol=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert tiny(score_threshold=0.0).eval()(images).found.all()


def test_without_the_boundary_branch() -> None:
    network, (images, centres) = tiny(boundary=False).train(), cases()
    found = network(images, centres)
    assert found.boundary is None
    loss_of(found).backward()
    assert all(value.grad is not None for value in network.parameters())


def test_sizes_of_the_papers_network() -> None:
    with torch.device("meta"):
        locator, segmenter, classifier, fusion = YOLOv3(2, ANCHORS), BoundaryUNet(), BoneClassifier(), VertebraFusion()
        network = MultitaskNetwork(locator, segmenter, classifier, fusion)
    counts = [sum(value.numel() for value in part.parameters()) for part in network.children()]
    # YOLOv3 of 80 classes, less 78 times three anchors' outputs of 256, 512 and 1024 channels and a bias
    assert counts == [61_949_149 - 78 * 3 * (256 + 512 + 1024 + 3), 52_840_386, 50_832_640, 274_691]
    assert network.crop_size == 224


def test_parts_that_do_not_fit_are_refused() -> None:
    segmenter, anchors = BoundaryUNet(width=1), ANCHORS
    channels = segmenter.feature_channels

    def make(**options: Any) -> MultitaskNetwork:
        classifier = BoneClassifier(channels, layers=(1, 1, 1, 1), width=1)
        parts = {"locator": YOLOv3(2, anchors, width=1), "segmenter": segmenter, "classifier": classifier}
        return MultitaskNetwork(**{**parts, "fusion": VertebraFusion(32), "crop_size": 64, **options})

    other = BoneClassifier((1, 2, 3, 4), layers=(1, 1, 1, 1), width=1)
    for options, message in (
        ({"locator": YOLOv3(3, anchors, width=1)}, "2 classes .* or 1 .*got 3"),
        ({"classifier": other}, r"feature_channels \(8, 16, 16, 8\), got \(1, 2, 3, 4\)"),
        ({"fusion": VertebraFusion(64)}, "classifier's 32, got 64"),
        ({"crop_size": 100}, "multiple of 32"),
        ({"crop_size": 0}, "multiple of 32"),
        ({"score_threshold": 2}, r"score_threshold must be in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make(**options)
    network, (images, centres) = make(), cases()
    for shape in ((2, 1, 1, 96, 96), (2, 1, 96, 96)):
        with pytest.raises(ValueError, match=re.escape(f"got {shape}")):
            network(torch.zeros(shape))
    with pytest.raises(ValueError, match=re.escape("centres must be (2, 2, 2)")):
        network(images, centres[:1])
    for outside in (-1.0, 97.0):
        centres[1, 0, 1] = outside
        with pytest.raises(ValueError, match=r"lie in the slice, 96 x 96 pixels.*NaN"):
            network(images, centres)
