"""The filled outline of bone, slice by slice: the tissue that bone area is divided by."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

CLOSING_UM = 100.0


class BoneEnvelope(DerivedVolume):
    """A mask, uint8 with 1 within the outline of bone, made plane by plane.

    Gaps in the outline, as vessels leave them, are closed with a disk, then everything that bone surrounds within the
    plane is filled. A crop of open trabeculae has no outline: where bone does not surround marrow, the envelope is
    little more than bone, and BV/TV of it is near 1; take the whole volume, or a mask, there. In a vertebra the
    spinal canal is filled, too, where the arch is in the plane: a spine needs a mask of its body.

    Args:
        bone: mask, non-zero in bone, voxel size known.
        closing_um: radius of the disk, micrometres; gaps up to twice as wide are closed. 0 leaves this out.

    Raises:
        InputError: if the voxel size is unknown or the radius is out of range.
    """

    def __init__(self, bone: Volume, *, closing_um: float = CLOSING_UM) -> None:
        super().__init__(bone, dtype=np.uint8)
        self.planes_at_once = bone.planes_at_once
        if bone.voxel_size_um is None:
            raise InputError(bone.path, "does not state its voxel size; say --voxel-size-um.")
        if not 0 <= closing_um < math.inf:
            raise InputError("closing_um", f"must be finite and 0 or more, got {closing_um}.")
        self._spacing = bone.voxel_size_um[1:]
        self._closing = closing_um

    @property
    def rule(self) -> str:
        """What the envelope is, in words."""
        return f"bone envelope, filled in each plane after closing by {self._closing:g} um"

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        return np.stack([self._filled(plane != 0) for plane in self.base.read(start, stop)]).astype(np.uint8)

    def _filled(self, bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
        rows, columns = np.flatnonzero(bone.any(axis=1)), np.flatnonzero(bone.any(axis=0))
        filled = np.zeros_like(bone)
        if rows.size:
            box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
            filled[box] = ndimage.binary_fill_holes(self._closed(bone[box]))
        return filled

    def _closed(self, bone: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Closing by a disk that is a circle in micrometres, however large, by two distance transforms."""
        if self._closing < min(self._spacing):
            return bone
        # space all round: the disk grows beyond the box before it shrinks
        pads = [(int(self._closing / edge) + 2,) * 2 for edge in self._spacing]
        padded = np.pad(bone, pads)
        grown = ndimage.distance_transform_edt(~padded, sampling=self._spacing) <= self._closing
        closed = ndimage.distance_transform_edt(grown, sampling=self._spacing) > self._closing
        return np.asarray(closed[pads[0][0] : -pads[0][0], pads[1][0] : -pads[1][0]])
