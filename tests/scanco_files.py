"""Scanco ISQ files for tests, by the format's published layout: no real one may be shipped."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def write_isq(
    path: Path,
    array: NDArray[np.int16],
    *,
    voxel_um: tuple[int, int, int] = (10, 12, 14),
    mu_scaling: int = 4096,
    slope: float | None = 1603.5,
    intercept: float = -391.25,
    units: bytes = b"mg HA/ccm",
    value_range: tuple[int, int] | None = None,
) -> Path:
    """Write an ISQ.

    Args:
        path: the file.
        array: (planes, rows, columns).
        voxel_um: along (plane, row, column).
        mu_scaling: stored values a 1/cm.
        slope: mg HA/cm3 a 1/cm; None leaves the calibration out.
        intercept: mg HA/cm3.
        units: of the calibration.
        value_range: that the header states; the array's own by default.
    """
    planes, rows, columns = array.shape
    low, high = value_range or (int(array.min()), int(array.max()))
    extents = [n * um for n, um in zip((columns, rows, planes), reversed(voxel_um), strict=True)]
    blocks = 1 if slope is None else 7
    header = bytearray(512 * blocks)
    struct.pack_into("<16s", header, 0, b"CTDATA-HEADER_V1")
    numbers = [3, array.nbytes, array.nbytes // 512, 7, 3401, 0, 0, columns, rows, planes, *extents, voxel_um[0],
               voxel_um[0], 0, low, high, mu_scaling]  # fmt: skip
    struct.pack_into(f"<{len(numbers)}i", header, 16, *numbers)
    struct.pack_into("<40s", header, 128, b"Jane Smith")
    struct.pack_into("<i", header, 508, blocks - 1)
    if slope is not None:
        # a block directory, and the calibration's block behind it
        struct.pack_into("<16s", header, 512, b"MultiHeader     ")
        start = 1024 + 16 * 8
        struct.pack_into("<16s", header, start + 8, b"Calibration     ")
        struct.pack_into("<i", header, start + 1148, 2)
        struct.pack_into("<16s", header, start + 1160, units)
        header[start + 1176 : start + 1184] = vax_double(slope)
        header[start + 1184 : start + 1192] = vax_double(intercept)
        header[start + 1200 : start + 1208] = vax_double(0.2409)
    path.write_bytes(bytes(header) + array.astype("<i2").tobytes())
    return path


def vax_double(value: float) -> bytes:
    """A G-floating number: an IEEE double times four, its 16-bit words in reverse order."""
    words = struct.unpack("<4H", struct.pack("<d", value * 4.0))
    return struct.pack("<4H", *reversed(words))
