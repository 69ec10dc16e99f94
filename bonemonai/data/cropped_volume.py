"""A box cut out of a scan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class CroppedVolume(DerivedVolume):
    """A box of a scan; planes outside it are not read.

    Args:
        base: the scan.
        start: first (plane, row, column) of the box.
        size: (planes, rows, columns) of the box, all inside the scan.

    Raises:
        InputError: if the box is not within the scan.
    """

    def __init__(self, base: Volume, start: Sequence[int], size: Sequence[int]) -> None:
        planes, rows, columns = (int(n) for n in size)
        self.start = tuple(int(n) for n in start)
        stops = [first + n for first, n in zip(self.start, (planes, rows, columns), strict=True)]
        if min(self.start) < 0 or any(stop > n for stop, n in zip(stops, base.shape, strict=True)):
            raise InputError(
                base.path, f"has shape {base.shape}: no box of {tuple(size)} begins at {self.start} in it."
            )
        affine = None
        if base.affine_lps is not None:
            affine = base.affine_lps.copy()
            affine[:3, 3] += affine[:3, :3] @ np.asarray(self.start, dtype=np.float64)
        super().__init__(base, shape=(planes, rows, columns), affine_lps=affine)
        self._inside = tuple(slice(first, stop) for first, stop in zip(self.start[1:], stops[1:], strict=True))

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        planes = self.base.read(start + self.start[0], stop + self.start[0])
        return planes[:, self._inside[0], self._inside[1]]


def centre_box(volume: Volume, size: int | Sequence[int] | None) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Start and size of a box in the middle of a scan.

    Args:
        volume: the scan.
        size: one number or (planes, rows, columns) in voxels; None takes the whole scan.

    Raises:
        InputError: if the scan is smaller.
    """
    try:
        wanted = volume.shape if size is None else tuple(int(n) for n in np.broadcast_to(np.asarray(size), (3,)))
    except (TypeError, ValueError) as error:
        raise InputError("crop_size", f"must be one number or three (voxels), got {size!r}.") from error
    if min(wanted) < 1 or any(n > whole for n, whole in zip(wanted, volume.shape, strict=True)):
        raise InputError(
            volume.path, f"is {volume.shape} voxels: no box of {wanted} can be cut from it; choose a smaller crop_size."
        )
    return tuple((whole - n) // 2 for whole, n in zip(volume.shape, wanted, strict=True)), wanted
