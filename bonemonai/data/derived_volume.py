"""A scan that is computed from another one as it is read."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.volume import Volume


class DerivedVolume(Volume):
    """A view of another volume: cropped, resampled, matched, filtered. Views stack; nothing is read before it is asked.

    Args:
        base: what is viewed.
        shape: (planes, rows, columns); the base's by default.
        dtype: of the values; the base's by default.
        affine_lps: see :class:`bonemonai.data.Volume`; the base's by default.
        warnings: besides the base's.
    """

    def __init__(
        self,
        base: Volume,
        *,
        shape: tuple[int, int, int] | None = None,
        dtype: DTypeLike | None = None,
        affine_lps: NDArray[np.float64] | None = None,
        warnings: Sequence[str] = (),
    ) -> None:
        super().__init__(
            base.path,
            shape=base.shape if shape is None else shape,
            dtype=base.dtype if dtype is None else dtype,
            affine_lps=base.affine_lps if affine_lps is None else affine_lps,
            warnings=[*base.warnings, *warnings],
        )
        self.base = base
        self.format, self.part, self.units = base.format, base.part, base.units
        self.costly_planes, self.oriented = base.costly_planes, base.oriented
