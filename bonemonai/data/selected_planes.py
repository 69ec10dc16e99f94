"""Some planes of a scan as a volume of their own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class SelectedPlanes(Volume):
    """A view of chosen planes, for inference on the slices that a manifest names.

    Grey values are counted over the whole scan, so that a plane is scaled as it is among all the others.

    Args:
        whole: the scan.
        planes: numbers of planes, increasing.

    Raises:
        InputError: if there is no such plane, or numbers do not increase.
    """

    def __init__(self, whole: Volume, planes: Sequence[int]) -> None:
        numbers = tuple(int(plane) for plane in planes)
        if not numbers or any(later <= earlier for earlier, later in pairwise(numbers)):
            raise InputError(whole.path, f"planes must be numbers that increase, got {list(numbers)[:10]}.")
        if numbers[0] < 0 or numbers[-1] >= whole.shape[0]:
            raise InputError(whole.path, f"has no plane {numbers[-1]}; its planes are 0 to {whole.shape[0] - 1}.")
        self._whole, self._numbers = whole, numbers
        steps = {later - earlier for earlier, later in pairwise(numbers)} or {1}
        uneven = "planes are not evenly spaced; their distance is given as that of the scan's."
        super().__init__(
            whole.path,
            shape=(len(numbers), *whole.shape[1:]),
            dtype=whole.dtype,
            affine_lps=_affine(whole.affine_lps, numbers[0], steps.pop() if len(steps) == 1 else 1),
            warnings=[*whole.warnings, *([uneven] if steps else [])],
        )
        self.format, self.part, self.units = whole.format, whole.part, whole.units
        self.costly_planes, self.oriented = whole.costly_planes, whole.oriented

    @property
    def whole(self) -> Volume:
        """The scan."""
        return self._whole

    @property
    def plane_numbers(self) -> Sequence[int]:
        """Numbers of the planes in the scan."""
        return self._numbers

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        parts = []
        # planes that follow each other are read together
        for _, run in groupby(enumerate(self._numbers[start:stop]), lambda pair: pair[1] - pair[0]):
            numbers = [number for _, number in run]
            parts.append(self._whole.read(numbers[0], numbers[-1] + 1))
        return np.concatenate(parts)


def _affine(whole: NDArray[np.float64] | None, first: int, step: int) -> NDArray[np.float64] | None:
    if whole is None:
        return None
    affine = whole.copy()
    affine[:3, 3] += first * whole[:3, 0]
    affine[:3, 0] *= step
    return affine
