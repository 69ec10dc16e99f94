"""Square crops around points of a batch of images, by whole pixels."""

from __future__ import annotations

import torch


def crop_corners(centres: torch.Tensor, size: int) -> torch.Tensor:
    """Find the first row and column of the squares that have these centres, to the nearest whole pixel.

    Args:
        centres: (N, 2), row and column, pixels, pixel k reaching from k to k + 1: a box from row 3 to row 5 has its
            centre at 4.0. NaN is a point that was not found.
        size: rows and columns of the squares, pixels.

    Returns:
        (N, 2), int64; halves are rounded up. A point that was not found has a square outside the image, at -size, so
        that its crop is empty. No gradient passes.

    Example:
        >>> crop_corners(torch.tensor([[100.0, 120.5], [torch.nan, torch.nan]]), 64)
        tensor([[ 68,  89],
                [-64, -64]])
    """
    corners = (centres.detach().float() - size / 2 + 0.5).floor()
    missing = ~corners.isfinite().all(dim=1, keepdim=True)
    return corners.masked_fill(missing, -size).long()


def crop_at(images: torch.Tensor, corners: torch.Tensor, size: int) -> torch.Tensor:
    """Cut a square out of each image; what lies outside the image is zero.

    Images, masks and heat maps that are cut at the same corners match pixel for pixel.

    Args:
        images: (N, C, H, W).
        corners: (N, 2), first row and column, integers; may lie outside the image.
        size: rows and columns of the squares, pixels.

    Returns:
        (N, C, size, size), of the images' type.

    Raises:
        ValueError: if the shapes do not match or the size is not positive.

    Example:
        >>> crop_at(torch.arange(9).reshape(1, 1, 3, 3), torch.tensor([[1, -1]]), 2)
        tensor([[[[0, 3],
                  [0, 6]]]])
    """
    if images.ndim != 4 or corners.shape != (len(images), 2):
        raise ValueError(
            f"images must be (N, C, H, W) and corners (N, 2), got {tuple(images.shape)} and {tuple(corners.shape)}."
        )
    if size < 1:
        raise ValueError(f"size must be >= 1 (pixels), got {size}.")
    if min(images.shape[2:]) < 1:
        raise ValueError(f"images must have pixels, got {tuple(images.shape)}.")
    steps = torch.arange(size, device=images.device)
    rows, columns = (corners[:, axis, None].to(images.device) + steps for axis in (0, 1))
    inside = ((rows >= 0) & (rows < images.shape[2]))[:, None, :, None]
    inside = inside & ((columns >= 0) & (columns < images.shape[3]))[:, None, None, :]
    rows, columns = rows.clamp(0, images.shape[2] - 1), columns.clamp(0, images.shape[3] - 1)
    numbers = torch.arange(len(images), device=images.device)[:, None, None, None]
    channels = torch.arange(images.shape[1], device=images.device)[None, :, None, None]
    cut = images[numbers, channels, rows[:, None, :, None], columns[:, None, None, :]]
    return cut.masked_fill(~inside, 0)
