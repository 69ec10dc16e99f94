from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage.measure import regionprops

from bonemonai.transforms import VertebraBoxesd, mask_boxes


def test_equals_scikit_image() -> None:
    rng = np.random.default_rng(3)
    masks = rng.random((6, 40, 30)) > 0.995
    boxes = mask_boxes(torch.from_numpy(masks))
    for mask, box in zip(masks, boxes, strict=True):
        top, left, bottom, right = regionprops(mask.astype(int))[0].bbox
        assert box.tolist() == [left, top, right, bottom]


def test_one_pixel_has_an_area_and_nothing_has_no_box() -> None:
    mask = torch.zeros(2, 5, 5)
    mask[0, 4, 0] = 0.5
    boxes = mask_boxes(mask)
    assert boxes[0].tolist() == [0, 4, 1, 5]
    assert boxes[1].isnan().all()


def test_of_an_item() -> None:
    mask = torch.zeros(2, 5, 5)
    mask[1, 1:3, 1:4] = 1
    item = VertebraBoxesd("mask")({"mask": mask, "other": 1})
    assert item["present"].tolist() == [False, True]
    assert item["boxes"][1].tolist() == [1, 1, 4, 3]
    assert item["mask"] is mask
    assert VertebraBoxesd("mask", allow_missing_keys=True)({"other": 1}) == {"other": 1}
    with pytest.raises(ValueError, match="keys must name one mask"):
        VertebraBoxesd(["a", "b"])
