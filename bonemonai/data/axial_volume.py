"""A scan seen in axial slices, however it was stored."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform
from numpy.typing import NDArray

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_AXES = ("S", "P", "L")
_OBLIQUE_DEGREES = 15.0
_MOST_BYTES = 4 * 2**30
_BLOCK_BYTES = 32e6


class AxialVolume(DerivedVolume):
    """A scan whose planes are axial slices: planes run to the superior, rows to the posterior, columns to the left.

    Array axes are (S, P, L): plane 0 is the most caudal one, and a plane shown with its first row on top lies as
    radiologists see it, the patient's right on the left of the picture. Axes of the stored array are permuted and
    flipped to the nearest of the body's; nothing is interpolated, and the affine follows exactly, an oblique or a
    sheared one (tilted gantry) too. A view of a scan that lies so already is that scan.

    Where stored planes are axial, planes are read as they are asked for. Where they are sagittal or coronal, a plane
    here crosses all planes there: the first read takes the whole scan and holds it in memory.

    Args:
        base: a scan that says where left, posterior and superior are.
        most_bytes: memory that a scan to be turned may take, in bytes.

    Attributes:
        obliquity_degrees: largest angle between an axis of the array and that of the body it is taken for. Above 15
            a warning names it: "axial" is then meant loosely, and at 45 it is a matter of chance.

    Shape:
        read() returns (S, P, L), of the base's type.

    Raises:
        InputError: if the scan does not say how the patient lies in it, or turning it takes more memory than allowed.

    Source:
        Nearest axes: the polar decomposition of the affine, as in nibabel.orientations.io_orientation.
    """

    def __init__(self, base: Volume, *, most_bytes: float = _MOST_BYTES) -> None:
        if base.affine_lps is None or base.affine_ras is None or not base.oriented:
            raise InputError(
                base.path, "does not say where left, posterior and superior are, so its axial slices are not known; "
                "give the scan as DICOM, or as NIfTI with an sform or qform code."
            )  # fmt: skip
        stored = io_orientation(base.affine_ras)
        self._turn: NDArray[Any] = ornt_transform(stored, axcodes2ornt(_AXES))
        self._turn_back: NDArray[Any] = ornt_transform(axcodes2ornt(_AXES), stored)
        self._in_memory = int(self._turn[0, 0]) != 0
        self._turned: NDArray[Any] | None = None
        planes, rows, columns = (base.shape[int(axis)] for axis in self._turn_back[:, 0])
        needed = math.prod(base.shape) * base.dtype.itemsize
        if self._in_memory and needed > most_bytes:
            raise InputError(
                base.path, f"is {base.shape} voxels, not in axial planes: turning it takes {needed / 1e9:.1f} GB of "
                f"memory, and {most_bytes / 1e9:.1f} GB are allowed; store it in axial planes, or cut a part out first."
            )  # fmt: skip
        affine = base.affine_lps @ inv_ornt_aff(self._turn, base.shape)
        self.obliquity_degrees = _obliquity_degrees(affine)
        warnings = []
        if self.obliquity_degrees > _OBLIQUE_DEGREES:
            warnings.append(
                f"the scan is oblique: its axes lie up to {self.obliquity_degrees:.0f} degrees off the body's; "
                "axial slices are the nearest stored ones, nothing is interpolated."
            )
        super().__init__(base, shape=(planes, rows, columns), affine_lps=affine, warnings=warnings)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if self._in_memory:
            if self._turned is None:
                self._turned = self._turn_whole()
            return self._turned[start:stop]
        if self._turn[0, 1] < 0:
            start, stop = self.shape[0] - stop, self.shape[0] - start
        return np.asarray(apply_orientation(self.base.read(start, stop), self._turn))

    def _turn_whole(self) -> NDArray[Any]:
        """Turn block by block: whole, the scan is in memory once."""
        turned = np.empty(self.shape, self.dtype)
        seen_as_stored = apply_orientation(turned, self._turn_back)
        for start, block in self.base.blocks(self.base.planes_within(_BLOCK_BYTES)):
            seen_as_stored[start : start + len(block)] = block
        return turned

    @property
    def crosses_stored_planes(self) -> bool:
        """Whether stored planes are sagittal or coronal, so that an axial slice takes a line of each."""
        return self._in_memory

    @property
    def slice_interval_mm(self) -> float | None:
        """Distance of axial slices, at right angles to them; None for one slice."""
        if self.affine_lps is None or self.shape[0] == 1:
            return None
        steps = self.affine_lps[:3, :3]
        # to the nanometre: what is beyond is rounding of the arithmetic
        return round(float(abs(np.linalg.det(steps)) / np.linalg.norm(np.cross(steps[:, 1], steps[:, 2]))), 6)

    @property
    def pixel_spacing_mm(self) -> tuple[float, float]:
        """Between rows, and between columns."""
        steps = np.linalg.norm(self.affine_lps[:3, 1:3], axis=0)  # type: ignore[index]  # refused without one
        return float(steps[0]), float(steps[1])

    def to_source(self, mask: NDArray[Any]) -> NDArray[Any]:
        """Carry an array from this view's axes to those of the stored scan: the exact inverse of reading.

        Args:
            mask: (S, P, L), of this view's shape.

        Returns:
            (plane, row, column) of the base, the same type, a copy.

        Raises:
            InputError: if the array is of another shape.
        """
        if mask.shape != self.shape:
            raise InputError(self.path, f"is {self.shape} voxels in axial slices; the mask is {mask.shape}.")
        return np.array(apply_orientation(mask, self._turn_back), order="C")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_turned": None}


def _obliquity_degrees(affine_lps: NDArray[np.float64]) -> float:
    steps = affine_lps[:3, :3]
    # of axes (S, P, L): the step along each, and what of it lies along z, y and x
    along = np.abs(np.diag(np.flipud(steps))) / np.linalg.norm(steps, axis=0)
    return float(np.degrees(np.arccos(np.clip(along, 0, 1))).max())
