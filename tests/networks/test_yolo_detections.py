from __future__ import annotations

from typing import Any

import pytest
import torch

from bonemonai.networks import BestBoxes, Detections, best_boxes, select_detections


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return shared / (sum(areas) - shared)


def brute_force(
    boxes: torch.Tensor, scores: torch.Tensor, score_threshold: float, iou_threshold: float
) -> list[tuple[float, int, list[float]]]:
    kept: list[tuple[float, int, list[float]]] = []
    for label in range(scores.shape[1]):
        mine = [(float(s), b.tolist()) for s, b in zip(scores[:, label], boxes, strict=True) if s >= score_threshold]
        chosen: list[tuple[float, list[float]]] = []
        for score, box in sorted(mine, key=lambda pair: -pair[0]):
            if all(overlap(box, better) <= iou_threshold for _, better in chosen):
                chosen.append((score, box))
        kept += [(score, label, box) for score, box in chosen]
    return sorted(kept, key=lambda one: -one[0])


@pytest.mark.parametrize(("score_threshold", "iou_threshold"), [(0.3, 0.45), (0.0, 0.1), (0.6, 0.8), (0.99, 0.0)])
def test_equals_brute_force(score_threshold: float, iou_threshold: float) -> None:
    generator = torch.Generator().manual_seed(1)
    corners = torch.rand(80, 2, generator=generator) * 60 - 30  # beyond the image, too
    boxes = torch.cat([corners, corners + 5 + torch.rand(80, 2, generator=generator) * 30], dim=1)
    scores = torch.rand(80, 2, generator=generator)
    found = select_detections(boxes, scores, score_threshold=score_threshold, iou_threshold=iou_threshold)
    expected = brute_force(boxes, scores, score_threshold, iou_threshold)
    assert [(s, label) for s, label, _ in expected] == list(
        zip(found.scores.tolist(), found.labels.tolist(), strict=True)
    )
    assert [box for *_, box in expected] == found.boxes.tolist()
    assert 0 < len(expected) < 160


def test_classes_do_not_suppress_each_other() -> None:
    # boxes left of and above the image: MONAI's batched_nms would shift class 1 by less than they measure
    boxes = torch.tensor([[-100.0, -100.0, -1.0, -1.0], [-100.0, -100.0, -1.0, -1.0]])
    found = select_detections(boxes, torch.tensor([[0.9, 0.0], [0.0, 0.8]]))
    assert found.labels.tolist() == [0, 1]


def test_only_the_best_candidates_are_looked_at() -> None:
    corners = torch.arange(10.0)[:, None] * 20
    boxes = torch.cat([corners, corners, corners + 5, corners + 5], dim=1)
    scores = torch.linspace(0.5, 0.95, 10)[:, None]
    found = select_detections(boxes, scores, max_candidates=3)
    assert torch.equal(found.scores, scores[:, 0].flip(0)[:3])


def test_nothing_is_found() -> None:
    found = select_detections(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[0.4, 0.1]]))
    assert [tuple(part.shape) for part in found] == [(0, 4), (0,), (0,)]
    assert found.labels.dtype == torch.int64
    assert select_detections(torch.zeros(0, 4), torch.zeros(0, 2)).scores.shape == (0,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_threshold": 1.5}, r"score_threshold must be in \[0, 1\], got 1.5"),
        ({"iou_threshold": -0.1}, "iou_threshold must be in"),
        ({"max_candidates": 0}, "max_candidates must be >= 1"),
        ({"scores": torch.tensor([[torch.nan]])}, "must be finite"),
        ({"boxes": torch.tensor([[0.0, 0.0, torch.inf, 1.0]])}, "must be finite"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], message: str) -> None:
    given = {"boxes": torch.tensor([[0.0, 0.0, 1.0, 1.0]]), "scores": torch.tensor([[0.9]]), **options}
    with pytest.raises(ValueError, match=message):
        select_detections(**given)


def test_best_box_of_each_class_and_none_is_guessed() -> None:
    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [1.0, 1.0, 5.0, 5.0], [2.0, 2.0, 6.0, 6.0]])
    both = Detections(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 0, 0]))
    second = Detections(boxes[:1], torch.tensor([0.6]), torch.tensor([1]))
    none = Detections(boxes[:0], torch.zeros(0), torch.zeros(0, dtype=torch.int64))
    best = best_boxes([both, second, none], 2)
    assert isinstance(best, BestBoxes)
    assert best.found.tolist() == [[True, True], [False, True], [False, False]]
    assert best.boxes[0].tolist() == boxes[[1, 0]].tolist()
    torch.testing.assert_close(best.scores, torch.tensor([[0.8, 0.9], [0, 0.6], [0, 0]]))
    assert torch.equal(best.boxes.isnan().all(dim=2), ~best.found)
    assert torch.equal(best.boxes.isnan().any(dim=2), ~best.found)
    with pytest.raises(ValueError, match="at least one image"):
        best_boxes([], 2)
