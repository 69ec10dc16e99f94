from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.box_utils import box_iou

from bonemonai.data import find_anchors, shape_iou
from bonemonai.errors import InputError


def boxes_of(sizes: np.ndarray, seed: int = 0) -> np.ndarray:
    corner = np.random.default_rng(seed).uniform(0, 300, sizes.shape)
    return np.concatenate([corner, corner + sizes], axis=1)


def cohort(seed: int = 0, number: int = 300) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return boxes_of(rng.normal([110, 85], [14, 11], (number, 2)).clip(40), seed)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_overlap_is_monais_of_boxes_at_one_place(seed: int) -> None:
    rng = np.random.default_rng(seed)
    one, other = rng.uniform(1, 50, (6, 2)), rng.uniform(1, 50, (4, 2))
    placed = [torch.from_numpy(np.concatenate([-sizes / 2, sizes / 2], 1)) for sizes in (one, other)]
    np.testing.assert_allclose(shape_iou(one, other), box_iou(*placed).numpy(), atol=1e-6)


def test_clear_clusters_are_found() -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[w, h] for w, h in itertools.product((20, 60, 180), (25, 70, 200))], float)
    sizes = np.repeat(centres, 20, axis=0) * rng.uniform(0.95, 1.05, (180, 2))
    found = find_anchors(boxes_of(sizes))
    assert found.shape == (9, 2)
    assert (np.diff(found.prod(axis=1)) > 0).all()
    assert shape_iou(centres, found).max(axis=1).min() > 0.97


def test_anchors_fit_better_than_random_ones_and_more_fit_better() -> None:
    boxes = cohort()
    sizes = boxes[:, 2:] - boxes[:, :2]
    fit = [shape_iou(sizes, find_anchors(boxes, number=n)).max(1).mean() for n in (1, 3, 9)]
    assert fit[0] < fit[1] < fit[2]
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert shape_iou(sizes, rng.choice(sizes, 9, replace=False)).max(1).mean() < fit[2]


def test_best_of_all_ways_of_parting_few_boxes() -> None:
    sizes = np.array([[10, 10], [12, 9], [30, 31], [33, 28], [90, 60]], float)
    found = find_anchors(boxes_of(sizes), number=2, starts=20)
    best = 0.0
    for owners in itertools.product((0, 1), repeat=5):
        if 0 < sum(owners) < 5:
            means = np.array([sizes[np.array(owners) == index].mean(0) for index in (0, 1)])
            best = max(best, shape_iou(sizes, means).max(1).mean())
    assert shape_iou(sizes, found).max(1).mean() > best - 0.02


def test_seeds_and_order() -> None:
    boxes = cohort()
    np.testing.assert_array_equal(find_anchors(boxes, seed=3), find_anchors(boxes, seed=3))
    one, other = (shape_iou(boxes[:, 2:] - boxes[:, :2], find_anchors(boxes, seed=s)).max(1).mean() for s in (3, 4))
    assert one == pytest.approx(other, abs=0.01)


def test_as_many_sizes_as_anchors_are_the_anchors() -> None:
    sizes = np.array([[i, 2 * i] for i in range(1, 10)], float)
    np.testing.assert_allclose(find_anchors(boxes_of(np.repeat(sizes, 3, axis=0)).round(9)), sizes, rtol=1e-6)


def test_refusals() -> None:
    with pytest.raises(InputError, match="boxes: have 2 different sizes, too few for 9"):
        find_anchors(np.array([[0, 0, 1, 1], [0, 0, 2, 2], [1, 1, 2, 2]]))
    with pytest.raises(InputError, match="a box is x1 < x2"):
        find_anchors(np.array([[5.0, 0, 1, 1]]), number=1)
    with pytest.raises(InputError, match="a box is x1 < x2"):
        find_anchors(np.array([[np.nan, 0, 1, 1]]), number=1)
    with pytest.raises(ValueError, match=r"boxes must be \(n, 4\)"):
        find_anchors(np.zeros((3, 2)))
