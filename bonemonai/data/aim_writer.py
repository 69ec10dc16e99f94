"""A Scanco AIM file, written plane by plane, its density calibration in the processing log."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.scanco_volume import DensityCalibration
from bonemonai.data.stack_writer import StackWriter
from bonemonai.errors import InputError

MURINE_70_KVP = DensityCalibration(slope=369.154 / 4096, intercept=-191.56)

_MAGIC = b"AIMDATA_V030   \0"
_SHORT = 0x00020002  # AIM type of plain 16-bit values
_RULE = "!" + "-" * 79


class AimWriter(StackWriter):
    """Write densities of any size as an AIM of version 030, which Scanco's IPL, ITK and aimio-py read.

    Values are rounded to the 16-bit integers that the calibration makes of them, so that they come back to within half
    its slope: 0.05 mg HA/cm3 by default. Nothing in the file says when, where or by whom it was written.

    Args:
        path: the file to make, ending in .aim.
        shape: (planes, rows, columns).
        voxel_size_um: along (plane, row, column); kept in whole nanometres.
        calibration: of stored values. The default (ours) is of the size that headers of scans at 70 kVp state; air,
            which absorbs nothing, is -191.56 mg HA/cm3 by it.
        mu_scaling: stored values a 1/cm, which the header's own slope is per.
        position: of the first voxel in the scanner's field, whole voxels along (plane, row, column).
        log: further lines of the processing log, such as ``{"Energy [V]": 70000}``; no identifier belongs there.
        overwrite: replace what is there.

    Raises:
        InputError: on writing, if a density is no number or beyond what 16 bits hold.
        ValueError: if a name in ``log`` is too long; else see :class:`StackWriter`.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "scan.aim"
        >>> with AimWriter(path, shape=(2, 3, 4), voxel_size_um=(10, 10, 10)) as writer:
        ...     writer.write(np.full((2, 3, 4), 1000.0, np.float32))
        >>> path.read_bytes()[:12]
        b'AIMDATA_V030'
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int, int],
        voxel_size_um: Sequence[float],
        calibration: DensityCalibration = MURINE_70_KVP,
        mu_scaling: int = 4096,
        position: Sequence[int] = (0, 0, 0),
        log: Mapping[str, int | str] | None = None,
        overwrite: bool = False,
    ) -> None:
        super().__init__(path, shape=shape, dtype=np.float32, voxel_size_um=voxel_size_um, overwrite=overwrite)
        self._entries, self._position = dict(log or {}), tuple(position)
        if long := [name for name in self._entries if len(name) > 28]:
            raise ValueError(f"log must have names of 28 letters at most, got {', '.join(long)}.")
        self._mu_scaling = mu_scaling
        self._slope = f"{calibration.slope * mu_scaling:.8e}"
        self._intercept = f"{calibration.intercept:.8e}"
        # as a reader will find it
        self.calibration = DensityCalibration(float(self._slope) / mu_scaling, float(self._intercept))
        self._range = (32767, -32768)

    def stored(self, density: NDArray[np.float32]) -> NDArray[np.int16]:
        """The integers that densities are written as.

        Args:
            density: mg HA/cm3.

        Raises:
            InputError: if one is no number, or beyond 16 bits.
        """
        slope, intercept = self.calibration
        values = np.rint((density.astype(np.float64) - intercept) / slope)
        if not (np.abs(values) <= 32767).all():
            low, high = (slope * edge + intercept for edge in (-32767, 32767))
            raise InputError(
                self.path, f"holds {low:.0f} to {high:.0f} mg HA/cm3 at its calibration, got {density.min():g} to "
                f"{density.max():g}."
            )  # fmt: skip
        return values.astype(np.int16)

    def _begin(self) -> None:
        self._range = (32767, -32768)
        self._partial.write_bytes(self._header())

    def _append(self, plane: NDArray[Any], index: int) -> None:
        values = self.stored(plane)
        self._range = min(self._range[0], int(values.min())), max(self._range[1], int(values.max()))
        with open(self._partial, "ab") as stream:
            stream.write(np.ascontiguousarray(values, dtype="<i2").tobytes())

    def _complete(self) -> None:
        """Say the range of values, which was not known before; the header's length stays what it was."""
        with open(self._partial, "r+b") as stream:
            stream.write(self._header())

    def _header(self) -> bytes:
        log = self._processing_log().encode("ascii") + b"\0"
        planes, rows, columns = self.shape
        edges = [round(edge * 1000) for edge in reversed(self.voxel_size_um)]
        block = struct.pack("<4i", 24, 0, 0, _SHORT)
        for numbers in (self._position[::-1], (columns, rows, planes), *[(0, 0, 0)] * 5, edges):
            block += struct.pack("<3q", *numbers)
        block += struct.pack("<4i", 0, 0, 0, 1)
        sizes = struct.pack("<5q", 40, len(block), len(log), planes * rows * columns * 2, 0)
        return _MAGIC + sizes + block + log

    def _processing_log(self) -> str:
        low, high = self._range
        calibrated: dict[str, int | str] = {
            "Mu_Scaling": self._mu_scaling,
            "Density: unit": "mg HA/ccm",
            "Density: slope": self._slope,
            "Density: intercept": self._intercept,
            # where the calibration gives 0, which in scanners' headers is water to 2 %
            "HU: mu water": f"{max(0.0, -float(self._intercept) / float(self._slope)):.5f}",
        }
        values: dict[str, int | str] = {
            "Parameter name": "Linear Attenuation",
            "Parameter units": "[1/cm]",
            "Minimum value": f"{low / self._mu_scaling:.5f}",
            "Maximum value": f"{high / self._mu_scaling:.5f}",
            "Scaled by factor": self._mu_scaling,
            "Minimum data value": f"{low:.5f}",
            "Maximum data value": f"{high:.5f}",
        }
        lines = ["!", "! Processing Log", "!", _RULE]
        for part in (self._entries, calibrated, values):
            lines += [f"{name:<30}{value:>23}" for name, value in part.items()]
            lines.append(_RULE)
        return "\n".join(lines) + "\n"
