"""How well boxes are found: COCO's average precision, by MONAI (paper 4, 4.5.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from monai.apps.detection.metrics.coco import COCOMetric
from monai.apps.detection.metrics.matching import matching_batch
from monai.data.box_utils import box_iou
from numpy.typing import NDArray

from bonemonai.errors import InputError

_LOW, _HIGH, _STEP, _MOST = 0.5, 0.95, 0.05, 100


def average_precision(
    predictions: Sequence[Mapping[str, Any]], truths: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> pd.DataFrame:
    """Average precision of boxes, at an IoU of 0.5 and as the mean over 0.5, 0.55, ..., 0.95.

    The paper's AP of 95 % names no IoU: both are given. Precision is COCO's, interpolated at 101 recalls; of an image
    the 100 highest scores count. AP follows the order of scores over all images, not their size.

    Args:
        predictions: of each image, "boxes" (n, 4), x1, y1, x2, y2 in pixels, "scores" (n,) and "labels" (n,), index of
            the class.
        truths: of each image, "boxes" and "labels".
        classes: names.

    Returns:
        Rows of ``class`` (then "all", the mean over classes that have a box), ``iou`` ("0.50" and "0.50:0.95"),
        ``average_precision`` in [0, 1], NaN for a class without a true box, ``boxes`` (true ones) and ``found``
        (predicted ones).

    Raises:
        InputError: if the images differ in number, arrays in length, a score is not finite, a label is no class, or a
            box has no area.

    Source:
        Lin et al., Microsoft COCO, ECCV 2014; monai.apps.detection.metrics.coco.

    Example:
        >>> truth = {"boxes": np.array([[0, 0, 10, 10]]), "labels": np.array([0])}
        >>> found = {**truth, "scores": np.array([0.9])}
        >>> average_precision([found], [truth], ["L1"])["average_precision"].round(6).tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if len(predictions) != len(truths) or not truths:
        raise InputError("boxes", f"are of {len(predictions)} images and their truth of {len(truths)}; give all, once.")
    found = [_checked(each, index, len(classes), scored=True) for index, each in enumerate(predictions)]
    true = [_checked(each, index, len(classes), scored=False) for index, each in enumerate(truths)]
    counts = [
        np.bincount(np.concatenate([labels for _, labels, _ in given]), minlength=len(classes))
        for given in (true, found)
    ]
    metric = COCOMetric(list(classes), (_LOW,), (_LOW, _HIGH, _STEP), (_MOST,), per_class=True, verbose=False)
    overlap: Any = box_iou  # of arrays as of tensors
    matches = matching_batch(
        overlap,
        metric.iou_thresholds.tolist(),
        [boxes for boxes, _, _ in found],
        [labels for _, labels, _ in found],
        [scores for _, _, scores in found],
        [boxes for boxes, _, _ in true],
        [labels for _, labels, _ in true],
        max_detections=_MOST,
    )
    values = metric(matches)[0] if counts[0].any() else {}
    ends = {"0.50": f"AP_IoU_{_LOW:.2f}_MaxDet_{_MOST}"}
    ends["0.50:0.95"] = f"mAP_IoU_{_LOW:.2f}_{_HIGH:.2f}_{_STEP:.2f}_MaxDet_{_MOST}"
    rows = []
    for index, name in enumerate(classes):
        for iou, end in ends.items():
            value = float(values[f"{name}_{end}"]) if counts[0][index] else np.nan
            rows.append((name, iou, value, int(counts[0][index]), int(counts[1][index])))
    table = pd.DataFrame(rows, columns=["class", "iou", "average_precision", "boxes", "found"])
    every = table.groupby("iou", sort=True)["average_precision"].mean().reset_index()
    every = every.assign(boxes=int(counts[0].sum()), found=int(counts[1].sum()), **{"class": "all"})
    return pd.concat([table, every[table.columns]], ignore_index=True)


def _checked(
    given: Mapping[str, Any], index: int, classes: int, *, scored: bool
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Boxes, labels and scores of an image."""
    boxes = np.asarray(given["boxes"], dtype=np.float64).reshape(-1, 4)
    labels = np.asarray(given["labels"]).reshape(-1).astype(np.int64)
    scores = np.asarray(given["scores"], dtype=np.float64).reshape(-1) if scored else np.ones(len(labels))
    subject = f"image {index}"
    if not len(boxes) == len(labels) == len(scores):
        raise InputError(subject, f"has {len(boxes)} boxes, {len(labels)} labels and {len(scores)} scores.")
    if not np.isfinite(scores).all() or not ((labels >= 0) & (labels < classes)).all():
        raise InputError(subject, f"has a score that is not finite, or a label that is not 0 to {classes - 1}.")
    sizes = boxes[:, 2:] - boxes[:, :2]
    # a predicted box that was cut at the border may have no area: it is wrong, but no reason to stop
    if not np.isfinite(boxes).all() or (sizes < 0).any() or (not scored and (sizes == 0).any()):
        raise InputError(subject, f"has a {'found' if scored else 'true'} box without an area; it is x1 < x2, y1 < y2.")
    return boxes, labels, scores
