"""Anchors of a detector: the sizes that boxes of the training set have (paper 4, 3.3)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.errors import InputError

_ROUNDS = 300  # at most; assignments of few thousand boxes settle in some ten


def shape_iou(sizes: NDArray[np.floating[Any]], anchors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Intersection over union of boxes that share their centre.

    Args:
        sizes: (n, 2), width and height.
        anchors: (k, 2), in the same unit.

    Returns:
        (n, k), in (0, 1].

    Example:
        >>> shape_iou(np.array([[2.0, 2.0]]), np.array([[2.0, 2.0], [1.0, 4.0]])).round(3).tolist()
        [[1.0, 0.333]]
    """
    shared = np.minimum(sizes[:, None], anchors[None]).prod(axis=-1)
    return np.asarray(shared / (sizes.prod(axis=-1)[:, None] + anchors.prod(axis=-1)[None] - shared))


def find_anchors(
    boxes: NDArray[np.floating[Any]], *, number: int = 9, seed: int = 0, starts: int = 10
) -> NDArray[np.float64]:
    """Cluster the sizes of boxes by K-means at the distance 1 - IoU.

    scikit-learn's K-means knows the Euclidean distance only, in which large boxes count for more than small ones. A
    cluster's centre is the mean of its sizes, which need not raise the IoU: of all rounds of all starts the anchors
    with the highest mean IoU are kept.

    Vertebrae differ little in size. Where there are fewer different sizes than anchors, anchors would repeat, and a box
    would not know which is its own: that is refused.

    Args:
        boxes: (n, 4), of the training set only: x1, y1, x2, y2 in pixels.
        number: of anchors; nine are three a scale.
        seed: of the starting points.
        starts: how many times to start.

    Returns:
        (number, 2): width and height, pixels, by rising area, so that the first three belong to the finest grid.

    Raises:
        InputError: if a box is not finite, has no area, or there are fewer different sizes than anchors.
        ValueError: if ``boxes`` has another shape, or ``number`` or ``starts`` is below 1.

    Source:
        Redmon and Farhadi, YOLO9000, CVPR 2017, section 2, which YOLOv3 follows.

    Example:
        >>> find_anchors(np.array([[0, 0, 10, 10], [5, 5, 15, 15], [0, 0, 40, 30]]), number=2).tolist()
        [[10.0, 10.0], [40.0, 30.0]]
    """
    if boxes.ndim != 2 or boxes.shape[1] != 4 or number < 1 or starts < 1:
        found = f"{boxes.shape}, {number} and {starts}"
        raise ValueError(f"boxes must be (n, 4) and number and starts >= 1, got {found}.")
    sizes = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64)
    wrong = ~(np.isfinite(sizes) & (sizes > 0)).all(axis=1)
    if wrong.any():
        raise InputError("boxes", f"hold {boxes[wrong][0].tolist()}; a box is x1 < x2 and y1 < y2, pixels.")
    different = len(np.unique(sizes, axis=0))
    if different < number:
        raise InputError(
            "boxes", f"have {different} different sizes, too few for {number} anchors; give more slices, or anchors."
        )
    rng = np.random.default_rng(seed)
    tried = [_cluster(sizes, number, rng) for _ in range(starts)]
    anchors = max(tried, key=lambda found: float(shape_iou(sizes, found).max(axis=1).mean()))
    return anchors[np.lexsort((anchors[:, 0], anchors.prod(axis=1)))]


def _cluster(sizes: NDArray[np.float64], number: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Lloyd's rounds from K-means++'s start, the best on the way."""
    anchors = sizes[rng.integers(len(sizes), size=1)]
    while len(anchors) < number:
        # far from all anchors so far: two starts are never of one size
        far = (1 - shape_iou(sizes, anchors).max(axis=1)).clip(0) ** 2
        far[(sizes[:, None] == anchors[None]).all(axis=-1).any(axis=1)] = 0
        anchors = np.concatenate([anchors, sizes[rng.choice(len(sizes), size=1, p=far / far.sum())]])
    best, best_iou, owners = anchors, -1.0, np.full(len(sizes), -1)
    for _ in range(_ROUNDS):
        overlap = shape_iou(sizes, anchors)
        if overlap.max(axis=1).mean() > best_iou:
            best, best_iou = anchors, float(overlap.max(axis=1).mean())
        nearest = overlap.argmax(axis=1)
        if np.array_equal(nearest, owners):
            break
        owners = nearest
        members = [sizes[owners == index] for index in range(number)]
        anchors = np.array([own.mean(axis=0) if len(own) else old for own, old in zip(members, anchors, strict=True)])
    return best
