from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.transforms import SpatialCrop, SpatialPad

from bonemonai.errors import InputError
from bonemonai.networks import crop_at, crop_corners
from bonemonai.transforms import OutlinedRegion, OutlinedRegiond, mask_boxes

SIZE = 40


def slices(*boxes: tuple[int, int, int, int] | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Grey values above 0, and a mask a slice: rows from, to, columns from, to."""
    image = torch.from_numpy(np.random.default_rng(1).uniform(0.1, 1, (len(boxes), SIZE, SIZE)).astype(np.float32))
    mask = torch.zeros(len(boxes), SIZE, SIZE)
    for number, box in enumerate(boxes):
        if box is not None:
            mask[number, box[0] : box[1], box[2] : box[3]] = 1
    return image, mask


def test_each_slice_keeps_what_its_own_mask_outlines() -> None:
    image, mask = slices((4, 12, 6, 20), (20, 33, 7, 9))
    region = OutlinedRegion()(image, mask)
    assert region.shape == image.shape
    assert torch.equal(region, image * mask)
    assert torch.equal(OutlinedRegion(fill=-1.0)(image, mask)[mask == 0].unique(), torch.tensor([-1.0]))
    assert torch.equal(OutlinedRegion(outlined=False)(image, mask), image)
    # a mask of another type, and of another value
    assert torch.equal(OutlinedRegion()(image.numpy(), (22 * mask).to(torch.uint8)), region)


@pytest.mark.parametrize("size", [1, 7, 16, 64, 81])
@pytest.mark.parametrize("outlined", [True, False])
def test_crops_are_those_of_the_networks_and_of_monai(size: int, outlined: bool) -> None:
    """Odd and even boxes, at the edges, and squares larger than the slice."""
    image, mask = slices((4, 12, 6, 20), (0, 3, 0, 5), (37, 40, 33, 40), (10, 11, 39, 40))
    cut = OutlinedRegion(size, outlined=outlined)(image, mask)
    boxes = mask_boxes(mask)
    given = image * mask if outlined else image
    corners = crop_corners((boxes[:, [1, 0]] + boxes[:, [3, 2]]) / 2, size)
    assert torch.equal(cut, crop_at(given[:, None], corners, size)[:, 0])
    for number, corner in enumerate(corners.tolist()):
        around = SpatialPad([SIZE + 2 * size] * 2)(given[number : number + 1])
        start = [place + size for place in corner]
        expected = SpatialCrop(roi_start=start, roi_end=[place + size for place in start])(around)
        assert torch.equal(cut[number], expected.as_tensor()[0])


def test_a_missing_vertebra_leaves_an_empty_slice() -> None:
    image, mask = slices((4, 12, 6, 20), None)
    assert (OutlinedRegion()(image, mask)[1] == 0).all()
    for outlined in (True, False):
        cut = OutlinedRegion(8, outlined=outlined, fill=0.5)(image, mask)
        assert (cut[1] == 0.5).all()
        assert (cut[0] != 0.5).any()


def test_nothing_is_made_up_where_nothing_is_outlined() -> None:
    with pytest.raises(InputError, match="mask: shows nothing in the slices"):
        OutlinedRegion()(*slices(None, None))


def test_dictionary_version_leaves_the_rest_alone() -> None:
    image, mask = slices((4, 12, 6, 20), (20, 33, 7, 9))
    item = OutlinedRegiond("image", crop_size=16, outlined=False, fill=0.0)({"image": image, "mask": mask, "label": 2})
    assert torch.equal(item["image"], OutlinedRegion(16, outlined=False)(image, mask))
    assert torch.equal(item["mask"], mask)
    assert item["label"] == 2
    other = OutlinedRegiond("ct", mask_key="bodies")({"ct": image, "bodies": mask})
    assert torch.equal(other["ct"], image * mask)


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="crop_size must be >= 1"):
        OutlinedRegion(0)
    image, mask = slices((4, 12, 6, 20))
    for wrong in (mask[:, :8], mask[0]):
        with pytest.raises(ValueError, match="both alike"):
            OutlinedRegion()(image, wrong)
