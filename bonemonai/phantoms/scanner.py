"""What a scanner makes of a sample: blur and noise, rings, and a first scan that is unlike the others."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from bonemonai.phantoms.specimen import Draw, Specimen

_NOISE = 0.06  # standard deviation, grey values
_BLUR_VOXELS = 0.55
_IMPULSES = 0.005  # of state 1's voxels


def scan_sample(
    grey: NDArray[np.float32], specimen: Specimen, number: int, *, artefacts: bool
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scan a sample at one loading state.

    Args:
        grey: what there is to see, (planes, rows, columns), grey values of about 0 to 1.
        specimen: whose scan it is.
        number: of the state, from 1; the first is scanned unlike the others.
        artefacts: draw rings, drift of brightness and contrast, and the first state's difference; noise is there
            anyway.

    Returns:
        The scan, and where rings lie in it: 1, or 0.
    """
    image = np.asarray(gaussian_filter(grey, _BLUR_VOXELS, truncate=4.0), dtype=np.float32)
    image += np.float32(_NOISE) * specimen.rng(Draw.NOISE, number).standard_normal(grey.shape, dtype=np.float32)
    if not artefacts:
        return image, np.zeros(grey.shape, dtype=np.uint8)
    ring = _add_rings(image, specimen.rng(Draw.RINGS, number))
    _drift(image, specimen, number)
    return image, ring


def _add_rings(image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add rings round the volume's axis, each over some of the planes; return where they are."""
    planes, rows, columns = image.shape
    y = (np.arange(rows) - (rows - 1) / 2)[:, None]
    x = np.arange(columns) - (columns - 1) / 2
    radius = np.hypot(y, x).astype(np.intp)
    profile = np.zeros((planes, radius.max() + 1), dtype=np.float32)
    for _ in range(max(3, profile.shape[1] // 8)):
        inner, thickness = rng.integers(2, profile.shape[1] - 1), rng.integers(1, 4)
        length = rng.integers(max(1, planes // 4), planes + 1)
        first = rng.integers(0, planes - length + 1)
        strength = rng.choice([-1.0, 1.0]) * rng.uniform(0.5, 1.0) * _NOISE
        profile[first : first + length, inner : inner + thickness] = strength
    ring = np.empty(image.shape, dtype=np.uint8)
    for z in range(planes):
        values = profile[z][radius]
        image[z] += values
        ring[z] = values != 0
    return ring


def _drift(image: NDArray[np.float32], specimen: Specimen, number: int) -> None:
    """Change brightness and contrast a little; at state 1 more, after impulses."""
    rng = specimen.rng(Draw.SCANNER, number)
    gain, offset = rng.normal(1.0, 0.015), rng.normal(0.0, 0.006)
    if number == 1:
        rng = specimen.rng(Draw.IMPULSES)
        hit = rng.choice(image.size, round(_IMPULSES * image.size), replace=False)
        bright = rng.uniform(size=hit.size) < 0.7
        size = rng.uniform(0.5, 1.0, hit.size)
        image.reshape(-1)[hit] += np.where(bright, size, -size).astype(np.float32)
        gain, offset = gain * 1.15, offset + 0.06
    image *= np.float32(gain)
    image += np.float32(offset)
