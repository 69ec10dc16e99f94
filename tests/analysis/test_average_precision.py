from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.analysis import average_precision
from bonemonai.errors import InputError


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    low, high = np.maximum(one[:2], other[:2]), np.minimum(one[2:], other[2:])
    shared = np.prod((high - low).clip(0))
    return float(shared / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - shared))


def by_hand(found: list[dict[str, Any]], true: list[dict[str, Any]], label: int, iou: float) -> float:
    """COCO's definition: by falling score each box takes the free true box that it overlaps most."""
    ranked = [
        (score, image, box)
        for image, each in enumerate(found)
        for box, score, own in zip(each["boxes"], each["scores"], each["labels"], strict=True)
        if own == label
    ]
    ranked.sort(key=lambda entry: -entry[0])
    free = {i: [b for b, own in zip(t["boxes"], t["labels"], strict=True) if own == label] for i, t in enumerate(true)}
    total = sum(len(boxes) for boxes in free.values())
    hits = []
    for _, image, box in ranked:
        ious = [overlap(box, other) for other in free[image]]
        hit = bool(ious) and max(ious) >= iou
        hits.append(hit)
        if hit:
            free[image].pop(int(np.argmax(ious)))
    right = np.cumsum(hits)
    # recall as MONAI has it, in float32: which of two levels of recall is reached may hang on the last digit
    recall, precision = right.astype(np.float32) / total, right / np.arange(1, len(hits) + 1)
    return float(np.mean([max(precision[recall >= level], default=0.0) for level in np.linspace(0, 1, 101)]))


def sample(seed: int, images: int = 6, classes: int = 2) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)
    found, true = [], []
    for _ in range(images):
        number = rng.integers(0, 4)
        corner = rng.uniform(0, 80, (number, 2))
        boxes, labels = (
            np.concatenate([corner, corner + rng.uniform(20, 40, (number, 2))], 1),
            rng.integers(0, classes, number),
        )
        moved = boxes + rng.normal(0, 3, boxes.shape).clip(-9, 9)
        extra = rng.uniform(0, 60, (rng.integers(0, 3), 2))
        moved = np.concatenate([moved, np.concatenate([extra, extra + 20], 1)])
        guess = np.concatenate([labels, rng.integers(0, classes, len(extra))])
        true.append({"boxes": boxes, "labels": labels})
        found.append({"boxes": moved, "labels": guess, "scores": rng.permutation(1000)[: len(moved)] / 1000})
    return found, true


@given(st.integers(0, 100_000))
@settings(max_examples=20)
def test_agrees_with_the_definition(seed: int) -> None:
    found, true = sample(seed)
    table = average_precision(found, true, ["L1", "L2"]).set_index(["class", "iou"])
    for label, name in enumerate(["L1", "L2"]):
        boxes = sum(int((t["labels"] == label).sum()) for t in true)
        assert table.loc[(name, "0.50"), "boxes"] == boxes
        if not boxes:
            assert table.loc[name, "average_precision"].isna().all()
            continue
        wanted = [by_hand(found, true, label, iou) for iou in np.linspace(0.5, 0.95, 10)]
        assert table.loc[(name, "0.50"), "average_precision"] == pytest.approx(wanted[0], abs=1e-9)
        assert table.loc[(name, "0.50:0.95"), "average_precision"] == pytest.approx(np.mean(wanted), abs=1e-9)


def test_by_hand() -> None:
    """Two true boxes; a hit, a miss, a hit by score: precision 1 to recall 1/2, then 2/3: (51 + 50 * 2/3) / 101."""
    boxes = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60], [100, 100, 120, 120]])
    found = {"boxes": boxes, "scores": np.array([0.9, 0.8, 0.7]), "labels": np.zeros(3, int)}
    true = {"boxes": boxes[[0, 2]], "labels": np.zeros(2, int)}
    table = average_precision([found], [true], ["vertebra"])
    assert table["average_precision"].tolist() == pytest.approx([(51 + 50 * 2 / 3) / 101] * 4)
    assert table["class"].tolist() == ["vertebra", "vertebra", "all", "all"]
    assert table["found"].tolist() == [3] * 4


def test_a_looser_box_counts_at_the_lower_iou_only() -> None:
    true = {"boxes": [[0, 0, 100, 100]], "labels": [0]}
    found = {"boxes": [[0, 0, 100, 72]], "labels": [0], "scores": [0.5]}
    table = average_precision([found], [true], ["a"]).set_index(["class", "iou"])["average_precision"]
    assert table[("a", "0.50")] == pytest.approx(1)
    assert table[("a", "0.50:0.95")] == pytest.approx(0.5)  # 0.5 to 0.7, of ten


def test_nothing_found_and_nothing_there() -> None:
    empty = {"boxes": np.zeros((0, 4)), "labels": np.zeros(0, int), "scores": np.zeros(0)}
    true = {"boxes": [[0, 0, 1, 1]], "labels": [1]}
    table = average_precision([empty, empty], [true, empty], ["a", "b"])
    assert table[table["class"] == "a"]["average_precision"].isna().all()
    assert table[table["class"] == "b"]["average_precision"].tolist() == [0, 0]
    assert table[table["class"] == "all"]["average_precision"].tolist() == [0, 0]
    assert average_precision([empty], [empty], ["a"])["average_precision"].isna().all()


def test_refusals() -> None:
    true = {"boxes": [[0, 0, 1, 1]], "labels": [0]}
    good = {**true, "scores": [1.0]}
    with pytest.raises(InputError, match="boxes: are of 2 images and their truth of 1"):
        average_precision([good, good], [true], ["a"])
    with pytest.raises(InputError, match="image 0: has 1 boxes, 1 labels and 2 scores"):
        average_precision([{**good, "scores": [1.0, 2.0]}], [true], ["a"])
    with pytest.raises(InputError, match="image 0: has a score that is not finite"):
        average_precision([{**good, "scores": [np.nan]}], [true], ["a"])
    with pytest.raises(InputError, match="label that is not 0 to 0"):
        average_precision([good], [{**true, "labels": [1]}], ["a"])
    with pytest.raises(InputError, match="image 0: has a true box without an area"):
        average_precision([good], [{**true, "boxes": [[1, 0, 1, 1]]}], ["a"])
    with pytest.raises(InputError, match="image 0: has a found box without an area"):
        average_precision([{**good, "boxes": [[2, 0, 1, 1]]}], [true], ["a"])
    cut = average_precision([{**good, "boxes": [[1, 0, 1, 1]]}], [true], ["a"])
    assert cut["average_precision"].tolist() == [0, 0, 0, 0]
