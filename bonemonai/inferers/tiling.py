"""Where tiles and windows lie: cores with a halo for exact tiling, MONAI's windows for blending."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from bonemonai.inferers.receptive_field import ReceptiveField

Box = tuple[slice, ...]


def voxels(box: Box) -> int:
    """Number of voxels of a box."""
    return math.prod(part.stop - part.start for part in box)


class Tile(NamedTuple):
    """A part of the output, and the part of the input that it depends on.

    Attributes:
        core: of the whole array; the cores of all tiles partition the region they were made for.
        read: of the whole array; the core and its halo, within the array.
        cut: the core, as a part of ``read``.
    """

    core: Box
    read: Box
    cut: Box


def exact_tiles(
    region: Sequence[slice], shape: Sequence[int], core: Sequence[int], field: ReceptiveField
) -> list[Tile]:
    """Cut a region into tiles whose outputs are those of the whole.

    Args:
        region: what the cores are to cover.
        shape: of the whole array; halos end at its borders, where the network's own padding takes over.
        core: largest size of a core, one number an axis.
        field: halo and stride of the network.
    """
    axes = [
        [(slice(low, stop), haloed(low, stop, size, halo, stride)) for low, stop in _steps(part.start, part.stop, step)]
        for part, size, step, halo, stride in zip(region, shape, core, field.halo, field.stride, strict=True)
    ]
    tiles = []
    for parts in itertools.product(*axes):
        cores, reads = zip(*parts, strict=True)
        cut = tuple(slice(c.start - r.start, c.stop - r.start) for c, r in parts)
        tiles.append(Tile(cores, reads, cut))
    return tiles


def haloed(low: int, stop: int, size: int, halo: int, stride: int) -> slice:
    """Part of an axis that outputs ``low`` to ``stop - 1`` depend on, starting at a multiple of the stride."""
    first = max(0, low // stride * stride - halo)
    return slice(first, min(size, -(-stop // stride) * stride + halo))


def haloed_total(size: int, core: int, halo: int, stride: int) -> int:
    """Voxels along an axis that all its tiles read together, padding to the stride included."""
    reads = (haloed(low, stop, size, halo, stride) for low, stop in _steps(0, size, core))
    return sum(-(-(read.stop - read.start) // stride) * stride for read in reads)


def _steps(start: int, stop: int, step: int) -> Iterator[tuple[int, int]]:
    return ((low, min(low + step, stop)) for low in range(start, stop, step))


class WindowGrid:
    """The windows of MONAI's ``sliding_window_inference``, enumerated axis by axis.

    Args:
        shape: of the image.
        roi_size: of a window; None or a number below 1 takes the whole axis.
        overlap: share of a window that the next one repeats, one number an axis.

    Attributes:
        roi_size: with whole axes filled in.
        pad: voxels that MONAI puts before and after each axis of an image smaller than the window.
        starts: of the windows along each axis, in the padded image.
    """

    def __init__(self, shape: Sequence[int], roi_size: Sequence[int | None], overlap: Sequence[float]) -> None:
        self.shape = tuple(shape)
        self.roi_size = tuple(roi if roi and roi > 0 else size for roi, size in zip(roi_size, shape, strict=True))
        short = [max(roi - size, 0) for roi, size in zip(self.roi_size, shape, strict=True)]
        self.pad = tuple((less // 2, less - less // 2) for less in short)
        padded = [size + less for size, less in zip(shape, short, strict=True)]
        interval = _get_scan_interval(padded, self.roi_size, len(padded), tuple(overlap))
        self.starts = tuple(
            tuple(int(part.start) for (part,) in dense_patch_slices((size,), (roi,), (step,)))
            for size, roi, step in zip(padded, self.roi_size, interval, strict=True)
        )

    def __len__(self) -> int:
        return math.prod(len(starts) for starts in self.starts)
