from __future__ import annotations

import numpy as np
import pytest
import torch

from bonemonai.transforms import MarkedCrop, MarkedCropd, find_mark


def plane(*boxes: tuple[int, int, int, int], size: int = 64) -> np.ndarray:
    mark = np.zeros((size, size), dtype=np.float32)
    for top, bottom, left, right in boxes:
        mark[top:bottom, left:right] = 1
    return mark


def test_rectangle_of_one_mark() -> None:
    found = find_mark(plane((10, 30, 20, 50)))
    assert found is not None
    assert (found.rows, found.columns, found.components, found.at_border) == ((10, 30), (20, 50), 1, False)
    assert found.pixels.sum() == 600


@pytest.mark.parametrize("mark", [plane(), plane((0, 7, 0, 7)), 0.5 * plane((10, 30, 10, 30))])
def test_nothing_is_made_up_where_nothing_is_marked(mark: np.ndarray) -> None:
    """Empty; fewer than 50 pixels; not above the threshold."""
    assert find_mark(mark) is None
    with pytest.raises(ValueError, match="nothing is marked"):
        MarkedCrop(8)(torch.zeros(1, 64, 64), mark)


def test_the_largest_of_several_marks() -> None:
    mark = plane((2, 12, 2, 12), (20, 40, 20, 50), (60, 62, 60, 62))
    largest, all_of_them = find_mark(mark), find_mark(mark, component="all")
    assert largest is not None
    assert all_of_them is not None
    assert (largest.rows, largest.columns, largest.components) == ((20, 40), (20, 50), 3)
    # the speck has fewer than 50 pixels and does not widen the rectangle
    assert (all_of_them.rows, all_of_them.columns) == ((2, 40), (2, 50))
    # marks that touch by a corner are one
    touching = find_mark(plane((10, 20, 10, 20), (20, 30, 20, 30)))
    assert touching is not None
    assert touching.components == 1


@pytest.mark.parametrize("box", [(0, 20, 10, 30), (44, 64, 10, 30), (10, 30, 0, 20), (10, 30, 44, 64)])
def test_a_mark_at_the_border_is_cropped_and_said(box: tuple[int, int, int, int]) -> None:
    found = find_mark(plane(box))
    assert found is not None
    assert found.at_border
    assert MarkedCrop(16, margin=5)(torch.ones(1, 64, 64), plane(box)).shape == (1, 16, 16)


def test_what_lies_beside_the_mark_is_background_unless_asked_for() -> None:
    rows, columns = np.mgrid[:64, :64]
    disc = (np.hypot(rows - 32, columns - 32) < 12).astype(np.float32)
    image = torch.full((1, 64, 64), 0.75)
    masked, whole = (MarkedCrop(23, masked=masked)(image, disc) for masked in (True, False))
    assert masked[0, 0, 0] == 0
    assert masked[0, 11, 11] == 0.75
    assert whole.unique().tolist() == [0.75]


def test_crop_of_the_output_size_is_the_rectangle_itself() -> None:
    image = torch.from_numpy(np.random.default_rng(1).random((1, 64, 64), dtype=np.float32))
    mark = plane((8, 40, 16, 48))
    torch.testing.assert_close(MarkedCrop(32)(image, mark), image[:, 8:40, 16:48])
    item = MarkedCropd("image", MarkedCrop(32))({"image": image, "mask": torch.from_numpy(mark)[None], "label": 1})
    torch.testing.assert_close(item["image"], image[:, 8:40, 16:48])
    assert item["label"] == 1


def test_aspect_is_kept_where_asked_for() -> None:
    mark = plane((10, 20, 10, 50))
    stretched, kept = (MarkedCrop(40, keep_aspect=keep)(torch.ones(1, 64, 64), mark) for keep in (False, True))
    assert stretched.min() == 1
    # 10 x 40 pixels in the middle of 40 x 40
    assert kept[0, :, 20].sum() == pytest.approx(10, abs=0.5)
    assert kept[0, 20].min() == 1


def test_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="component"):
        find_mark(plane(), component="first")
    with pytest.raises(ValueError, match="one slice"):
        find_mark(np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="spatial_size"):
        MarkedCrop(0)
