from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from monai.data.box_utils import box_iou

from bonemonai.data import shape_iou
from bonemonai.errors import InputError
from bonemonai.losses import YoloLoss

ANCHORS = [[8, 8], [12, 10], [14, 16], [24, 24], [30, 22], [28, 36], [48, 40], [52, 60], [60, 64]]
STRIDES = (8, 16, 32)


def empty_outputs(batch: int = 1, size: int = 64, classes: int = 2, confidence: float = -30.0) -> list[torch.Tensor]:
    outputs = [torch.zeros(batch, 3, size // s, size // s, 5 + classes) for s in STRIDES]
    for output in outputs:
        output[..., 4] = confidence
    return outputs


def perfect_outputs(boxes: torch.Tensor, labels: torch.Tensor, size: int = 64) -> list[torch.Tensor]:
    """What the equations give when they are solved for the outputs, box by box."""
    outputs = empty_outputs(len(boxes), size)
    for image in range(len(boxes)):
        for (x1, y1, x2, y2), label in zip(boxes[image].tolist(), labels[image].tolist(), strict=True):
            if label < 0:
                continue
            w, h = x2 - x1, y2 - y1
            a = int(shape_iou(np.array([[w, h]]), np.array(ANCHORS, float)).argmax())
            stride = STRIDES[a // 3]
            x, y = (x1 + x2) / 2 / stride, (y1 + y2) / 2 / stride
            cell = outputs[a // 3][image, a % 3, int(y), int(x)]
            cell[0], cell[1] = (math.log(f / (1 - f)) for f in (x % 1, y % 1))
            cell[2], cell[3] = math.log(w / ANCHORS[a][0]), math.log(h / ANCHORS[a][1])
            cell[4], cell[5:] = 30, -30
            cell[5 + label] = 30
    return outputs


BOXES = torch.tensor([[[10.0, 12, 35, 33], [3, 40, 12, 50]], [[20, 22, 71, 63], [0, 0, 0, 0]]])
LABELS = torch.tensor([[1, 0], [1, -1]])


def test_perfect_outputs_cost_nothing() -> None:
    terms = YoloLoss(ANCHORS)(perfect_outputs(BOXES, LABELS), BOXES, LABELS)
    assert terms.box < 1e-10
    assert terms.category < 1e-10
    assert terms.confidence < 1e-8


def test_one_box_by_hand() -> None:
    """24 x 24 around (20, 30): anchor 3, the first of stride 16; column 1, row 1; offsets 0.25 and 0.875."""
    boxes, labels = torch.tensor([[[8.0, 18, 32, 42]]]), torch.tensor([[1]])
    outputs = empty_outputs(confidence=0.0)
    outputs[1][0, 0, 1, 1] = torch.tensor([0.0, 0.0, 0.1, -0.2, 1.5, 0.3, -0.7])
    terms = YoloLoss(ANCHORS, ignore=1.0, background=2.0)(outputs, boxes, labels)
    assert float(terms.box) == pytest.approx((0.5 - 0.25) ** 2 + (0.5 - 0.875) ** 2 + 0.1**2 + 0.2**2)
    assert float(terms.category) == pytest.approx(math.log1p(math.exp(0.3)) + math.log1p(math.exp(0.7)))
    assert float(terms.confidence) == pytest.approx(math.log1p(math.exp(-1.5)) + 2 * math.log(2), rel=1e-5)


def test_means_are_over_boxes_and_places() -> None:
    """Two boxes of one image and one of another: each counts a third."""
    outputs = perfect_outputs(BOXES, LABELS)
    loss = YoloLoss(ANCHORS)
    for scale, output in enumerate(outputs):
        for place in torch.nonzero(output[..., 4] > 0).tolist():
            changed = [each.clone() for each in outputs]
            changed[scale][tuple(place)][2] += 0.6
            assert float(loss(changed, BOXES, LABELS).box) == pytest.approx(0.36 / 3, rel=1e-4)


def test_each_box_belongs_to_the_best_anchor_of_nine() -> None:
    """A change at its place raises the box loss, and nowhere else."""
    for index, (w, h) in enumerate(ANCHORS):
        boxes, labels = torch.tensor([[[33 - w / 2, 33 - h / 2, 33 + w / 2, 33 + h / 2]]]), torch.tensor([[0]])
        outputs = [output.requires_grad_() for output in empty_outputs()]
        YoloLoss(ANCHORS)(outputs, boxes, labels).box.backward()
        stride = STRIDES[index // 3]
        felt = [torch.nonzero(output.grad.abs().sum(-1)).tolist() for output in outputs]
        assert felt[index // 3] == [[0, index % 3, 33 // stride, 33 // stride]]
        assert sum(len(places) for places in felt) == 1


def test_near_misses_are_ignored_where_monai_says_that_they_overlap() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = [torch.randn(o.shape, generator=generator) * 0.5 for o in empty_outputs(2)]
    for output in outputs:
        output.requires_grad_()
    for threshold in (0.3, 0.5):
        for output in outputs:
            output.grad = None
        YoloLoss(ANCHORS, ignore=threshold)(outputs, BOXES, LABELS).confidence.backward()
        ignored = 0
        for scale, output in enumerate(outputs):
            for b, a, row, column in np.ndindex(*output.shape[:4]):
                tx, ty, tw, th = output[b, a, row, column, :4].tolist()
                x, y = ((1 / (1 + math.exp(-t)) + c) * STRIDES[scale] for t, c in ((tx, column), (ty, row)))
                w, h = (side * math.exp(t) for side, t in zip(ANCHORS[3 * scale + a], (tw, th), strict=True))
                own = BOXES[b][LABELS[b] >= 0]
                best = box_iou(torch.tensor([[x - w / 2, y - h / 2, x + w / 2, y + h / 2]]), own).max()
                slope = float(output.grad[b, a, row, column, 4])
                if slope == 0:
                    assert best > threshold - 1e-5
                    ignored += 1
                elif slope > 0:  # background
                    assert best <= threshold + 1e-5
        assert ignored > 0


def test_gradient_is_the_finite_difference() -> None:
    """Of what is not ignored, which is a step function of the outputs."""
    generator = torch.Generator().manual_seed(1)
    outputs = [torch.randn(o.shape, generator=generator, dtype=torch.float64) for o in empty_outputs(2, 32)]
    boxes, labels = BOXES.double() / 2, LABELS
    loss = YoloLoss(ANCHORS, ignore=1.0).double()

    def total(*given: torch.Tensor) -> torch.Tensor:
        return torch.stack(list(loss(given, boxes, labels))).sum()

    assert torch.autograd.gradcheck(total, tuple(o.requires_grad_() for o in outputs), fast_mode=True)


def test_descent_finds_the_box() -> None:
    boxes, labels = BOXES[:1], LABELS[:1]
    outputs = [o.requires_grad_() for o in empty_outputs(confidence=0.0)]
    loss, optimiser = YoloLoss(ANCHORS), torch.optim.Adam(outputs, lr=0.2)
    for _ in range(150):
        optimiser.zero_grad()
        terms = loss(outputs, boxes, labels)
        torch.stack(list(terms)).sum().backward()
        optimiser.step()
    assert terms.box < 1e-3
    assert terms.category < 0.05
    confident = torch.cat([o.detach()[..., 4].flatten() for o in outputs])
    assert (confident > 1).sum() == 2


def test_images_without_boxes() -> None:
    outputs = [o.requires_grad_() for o in empty_outputs(2, confidence=0.0)]
    for labels in (torch.full((2, 2), -1), torch.zeros((2, 0), dtype=torch.int64)):
        boxes = torch.full((*labels.shape, 4), torch.nan)  # what pads is not looked at
        terms = YoloLoss(ANCHORS, background=1.0)(outputs, boxes, labels)
        assert (terms.box.item(), terms.category.item()) == (0, 0)
        assert terms.confidence.item() == pytest.approx(math.log(2))
        torch.stack(list(terms)).sum().backward()
        assert all(bool(o.grad.isfinite().all()) for o in outputs)


def test_huge_outputs_stay_finite() -> None:
    outputs = [torch.full_like(o, 200.0) for o in empty_outputs(2)]
    assert all(math.isfinite(float(term)) for term in YoloLoss(ANCHORS)(outputs, BOXES, LABELS))


def test_refusals() -> None:
    loss, outputs = YoloLoss(ANCHORS), empty_outputs(2)
    with pytest.raises(InputError, match=r"boxes: hold \[60.0, 10.0, 80.0, 20.0\].*in the 64 x 64 pixels"):
        loss(outputs, torch.tensor([[[60.0, 10, 80, 20]]] * 2), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(InputError, match="boxes: hold"):
        loss(outputs, torch.full((2, 1, 4), torch.nan), torch.zeros(2, 1, dtype=torch.int64))
    with pytest.raises(InputError, match="labels: hold -1 to 2; they are 0 to 1"):
        loss(outputs, BOXES, torch.tensor([[2, 0], [1, -1]]))
    with pytest.raises(ValueError, match=r"boxes must be \(B, n, 4\)"):
        loss(outputs, BOXES, LABELS[:, :1])
    for wrong in (outputs[:2], outputs[::-1], [o[:, :2] for o in outputs], [o[..., :5] for o in outputs]):
        with pytest.raises(ValueError, match="outputs must be 3 of"):
            loss(wrong, BOXES, LABELS)
    with pytest.raises(ValueError, match=r"anchors must be \(9, 2\)"):
        YoloLoss(ANCHORS[:6])
    with pytest.raises(ValueError, match="ignore must be in"):
        YoloLoss(ANCHORS, ignore=2)
