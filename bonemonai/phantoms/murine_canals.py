"""Small canals in the shell of a mouse's bone, the finest things that its scans show."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.murine_outline import FemurOutline, VertebraOutline, inside_share
from bonemonai.phantoms.scan_grid import ScanGrid
from bonemonai.phantoms.specimen import Draw, random_numbers

# ours; together about 1 % of the shell
_PER_MM3 = 350.0
_RADIUS_UM = (5.0, 10.0)
_LENGTH_UM = (80.0, 320.0)
_DEPTH_UM = 15.0  # of a canal's middle below either surface, at least


class _Canal(NamedTuple):
    """A straight canal: one end (z, y, x), what leads from there to the other, and a radius, um."""

    start: NDArray[np.float64]
    step: NDArray[np.float64]
    radius: float


class MurineCanals:
    """Straight pieces at random places of the shell, along a femur mostly, any way in a vertebra.

    Those that leave the shell go nowhere: only what lies in it counts.

    Args:
        outline: of the bone.
    """

    def __init__(self, outline: FemurOutline | VertebraOutline) -> None:
        rng = random_numbers(outline.specimen.seed, Draw.CANALS)
        low, high = outline.box_um
        places = rng.uniform(low, high, (round(_PER_MM3 * float(np.prod(high - low)) * 1e-9), 3))
        along = rng.standard_normal(places.shape)
        along[:, 0] *= 2.5 if outline.specimen.site == "femur" else 1.0
        along /= np.linalg.norm(along, axis=1, keepdims=True)
        steps = along * rng.uniform(*_LENGTH_UM, (len(places), 1))
        radii = rng.uniform(*_RADIUS_UM, len(places))
        surfaces = outline.surfaces(*places.T)
        shell = (surfaces.outer < -_DEPTH_UM) & (surfaces.inner > _DEPTH_UM)
        self._canals = [
            _Canal(place - step / 2, step, float(radius))
            for place, step, radius in zip(places[shell], steps[shell], radii[shell], strict=True)
        ]

    def __len__(self) -> int:
        return len(self._canals)

    def share(self, grid: ScanGrid) -> NDArray[np.float32]:
        """Share of a voxel that is canal, were all of it shell.

        Args:
            grid: whose voxels.
        """
        share = np.zeros(grid.shape, dtype=np.float32)
        for canal in self._canals:
            ends = grid.indices(np.stack([canal.start, canal.start + canal.step]))
            reach = canal.radius / grid.voxel_size_um + 1
            box = grid.box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
            if box is not None:
                distance = _distance(canal, grid.points(box))
                np.maximum(share[box], inside_share(distance, grid.voxel_size_um), out=share[box])
        return share


def _distance(canal: _Canal, points: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """From a canal's wall, negative within, um."""
    step = [np.float32(length) for length in canal.step]
    offset = [p - np.float32(s) for p, s in zip(points, canal.start, strict=True)]
    along = sum(o * s for o, s in zip(offset, step, strict=True))
    part = np.clip(along / np.float32(canal.step @ canal.step), 0, 1)
    square = sum((o - part * s) ** 2 for o, s in zip(offset, step, strict=True))
    return np.asarray(np.sqrt(square) - np.float32(canal.radius), dtype=np.float32)
