"""The space between bone, as a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume


class BetweenBone(DerivedVolume):
    """A mask, uint8 with 1 where another one is 0.

    Args:
        bone: mask, non-zero in bone, or in the mid-axes of it.
        tissue: mask of the same voxels, outside of which there is no space either: the air round a bone is no marrow.
            None takes all that is not bone.

    Raises:
        InputError: if the tissue mask lies on other voxels.
    """

    def __init__(self, bone: Volume, tissue: Volume | None = None) -> None:
        super().__init__(bone, dtype=np.uint8)
        self.planes_at_once = bone.planes_at_once
        self._tissue = tissue
        if tissue is not None:
            refuse_other_grid(tissue, bone)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        space = np.asarray(self.base.read(start, stop) == 0)
        if self._tissue is not None:
            space &= self._tissue.read(start, stop) != 0
        return space.astype(np.uint8)
