from __future__ import annotations

import pytest
import torch

from bonemonai.networks import crop_at, crop_corners


def by_loops(image: torch.Tensor, corner: tuple[int, int], size: int) -> torch.Tensor:
    cut = torch.zeros(image.shape[0], size, size, dtype=image.dtype)
    for row in range(size):
        for column in range(size):
            y, x = corner[0] + row, corner[1] + column
            if 0 <= y < image.shape[1] and 0 <= x < image.shape[2]:
                cut[:, row, column] = image[:, y, x]
    return cut


def test_equals_loops_inside_and_at_every_border() -> None:
    images = torch.rand(9, 2, 11, 13, generator=torch.Generator().manual_seed(0))
    corners = [(0, 0), (3, 4), (-2, 5), (7, 5), (2, -3), (2, 9), (-3, -3), (9, 11), (-20, 40)]
    found = crop_at(images, torch.tensor(corners), 6)
    for cut, image, corner in zip(found, images, corners, strict=True):
        assert torch.equal(cut, by_loops(image, corner, 6))
    assert not found[-1].any()


def test_what_is_in_the_middle_stays_in_the_middle() -> None:
    image = torch.zeros(1, 1, 32, 40)
    image[:, :, 10:14, 21:25] = 1  # a box from 10 to 14 and 21 to 25: the centre is at 12, 23
    corners = crop_corners(torch.tensor([[12.0, 23.0]]), 8)
    assert corners.tolist() == [[8, 19]]
    cut = crop_at(image, corners, 8)[0, 0]
    assert torch.equal(cut, torch.nn.functional.pad(torch.ones(4, 4), (2, 2, 2, 2)))


def test_centres_go_to_the_nearest_pixel_and_halves_up() -> None:
    centres = torch.tensor([[4.0, 4.49], [4.5, 5.5], [-1.0, 0.0], [3.51, 4.0]])
    assert crop_corners(centres, 4).tolist() == [[2, 2], [3, 4], [-3, -2], [2, 2]]
    assert crop_corners(centres, 3).tolist() == [[3, 3], [3, 4], [-2, -1], [2, 3]]


def test_a_point_that_is_not_found_has_an_empty_crop() -> None:
    corners = crop_corners(torch.tensor([[torch.nan, torch.nan], [5.0, torch.nan], [torch.inf, 3.0]]), 4)
    assert corners.tolist() == [[-4, -4]] * 3
    assert not crop_at(torch.full((3, 1, 8, 8), torch.nan), corners, 4).any()


def test_gradient_goes_to_the_pixels_and_not_to_the_place() -> None:
    image = torch.rand(1, 1, 6, 6, requires_grad=True)
    centre = torch.tensor([[1.0, 5.0]], requires_grad=True)
    corners = crop_corners(centre, 4)
    assert not corners.requires_grad
    crop_at(image, corners, 4).sum().backward()
    assert image.grad is not None
    expected = torch.zeros(6, 6)
    expected[:3, 3:] = 1
    assert torch.equal(image.grad[0, 0], expected)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.float16])
def test_keeps_the_type(dtype: torch.dtype) -> None:
    found = crop_at(torch.ones(1, 1, 4, 4).to(dtype), torch.tensor([[-1, 2]]), 3)
    assert found.dtype == dtype
    assert found.to(torch.int64)[0, 0].tolist() == [[0, 0, 0], [1, 1, 0], [1, 1, 0]]


def test_what_does_not_fit_is_refused() -> None:
    for images, corners in ((torch.zeros(2, 1, 4, 4), torch.zeros(1, 2)), (torch.zeros(1, 4, 4), torch.zeros(1, 2))):
        with pytest.raises(ValueError, match=r"must be \(N, C, H, W\) and corners \(N, 2\)"):
            crop_at(images, corners.long(), 2)
    with pytest.raises(ValueError, match="size must be >= 1"):
        crop_at(torch.zeros(1, 1, 4, 4), torch.zeros(1, 2).long(), 0)
    with pytest.raises(ValueError, match="must have pixels"):
        crop_at(torch.zeros(1, 1, 0, 4), torch.zeros(1, 2).long(), 2)
