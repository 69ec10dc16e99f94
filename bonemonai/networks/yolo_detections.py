"""From a detector's many overlapping boxes to the few that are found: thresholds and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from monai.data.box_utils import non_max_suppression


class Detections(NamedTuple):
    """What is found in one image, best first; nothing found is N = 0.

    Attributes:
        boxes: (N, 4), x of the left side, y of the upper, x of the right, y of the lower, in pixels.
        scores: (N,), objectness times class probability, 0 to 1.
        labels: (N,), int64, class.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor


class BestBoxes(NamedTuple):
    """The best box of each class in each image.

    Attributes:
        boxes: (B, C, 4), as in :class:`Detections`; NaN where nothing is found, so that nobody takes it for a place.
        scores: (B, C); 0 where nothing is found.
        found: (B, C), bool.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    found: torch.Tensor


def select_detections(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    score_threshold: float = 0.5,
    iou_threshold: float = 0.45,
    max_candidates: int = 1000,
) -> Detections:
    """Keep what scores enough and does not overlap with what scores more: MONAI's suppression, class by class.

    Boxes of different classes never suppress each other. MONAI's own per-class form shifts classes apart by the largest
    coordinate, which is not far enough where boxes reach beyond the image; here they are not mixed at all.

    Args:
        boxes: (N, 4), sides as in :class:`Detections`, pixels.
        scores: (N, C), 0 to 1.
        score_threshold: boxes are kept from here on, in [0, 1].
        iou_threshold: a box goes that overlaps more than this with a better one, intersection over union, in [0, 1].
        max_candidates: of each class as many of the best boxes are looked at, which bounds the time with low
            thresholds.

    Raises:
        ValueError: if an argument is out of its range, or boxes or scores are not finite.

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
        >>> select_detections(boxes, torch.tensor([[0.8], [0.9], [0.4]])).scores
        tensor([0.9000])
    """
    for name, value in (("score_threshold", score_threshold), ("iou_threshold", iou_threshold)):
        if not 0 <= value <= 1:
            raise ValueError(f"{name} must be in [0, 1], got {value}.")
    if max_candidates < 1:
        raise ValueError(f"max_candidates must be >= 1 (boxes), got {max_candidates}.")
    if not bool(boxes.isfinite().all() and scores.isfinite().all()):
        raise ValueError("boxes and scores must be finite, got NaN or infinity; the training has diverged, perhaps.")
    found = []
    for label, column in enumerate(scores.unbind(dim=1)):
        order = column.sort(descending=True, stable=True).indices[:max_candidates]
        order = order[column[order] >= score_threshold]
        kept = order[non_max_suppression(boxes[order], column[order], iou_threshold)]
        found.append((boxes[kept], column[kept], torch.full_like(kept, label)))
    joined = Detections(*(torch.cat(parts) for parts in zip(*found, strict=True)))
    order = joined.scores.sort(descending=True, stable=True).indices
    return Detections(joined.boxes[order], joined.scores[order], joined.labels[order])


def best_boxes(detections: Sequence[Detections], num_classes: int) -> BestBoxes:
    """Take the best box of each class of each image; a vertebra that is not found is absent, never guessed.

    Args:
        detections: of each image, at least one.
        num_classes: 2 in the paper: L1 and L2.

    Raises:
        ValueError: if there is no image.

    Source:
        Zhang et al., 3.3: one L1 and one L2 a subject.

    Example:
        >>> one = Detections(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0.9]), torch.tensor([1]))
        >>> best_boxes([one], 2).found
        tensor([[False,  True]])
    """
    if not detections:
        raise ValueError("detections must hold at least one image, got none.")
    boxes = detections[0].boxes.new_full((len(detections), num_classes, 4), torch.nan)
    scores = detections[0].scores.new_zeros((len(detections), num_classes))
    found = torch.zeros_like(scores, dtype=torch.bool)
    for image, detected in enumerate(detections):
        for label in range(num_classes):
            places = (detected.labels == label).nonzero()[:, 0]
            if len(places):
                best = places[detected.scores[places].argmax()]
                boxes[image, label], scores[image, label] = detected.boxes[best], detected.scores[best]
                found[image, label] = True
    return BestBoxes(boxes, scores, found)
