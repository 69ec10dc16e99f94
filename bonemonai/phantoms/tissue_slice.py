"""One slice of a phantom being drawn: water, fat, iodine and mineral of every pixel, shapes painted over each other."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.lumbar_organs import AIR, Ellipse, Tissue
from bonemonai.phantoms.lumbar_spine import Rod
from bonemonai.phantoms.slice_waves import SliceWaves

Array = NDArray[np.float32]
Box = tuple[slice, slice]

CORTICAL_MG_CM3 = 900.0


class TissuePlane(NamedTuple):
    """One slice, each array (rows, columns); averages over a pixel and the slice's thickness.

    Attributes:
        water: attenuation of what is neither fat nor mineral, water being 1.
        fat: share of the volume.
        iodine: mg/ml in the portal venous phase.
        mineral: mg/cm3 of hydroxyapatite.
        body: uint8, 20 to 24 in the bodies of L1 to L5, cortex and endplates included.
        vertebrae: uint8, 20 to 24 in the whole vertebrae.
        trabecular: uint8, 20 to 24 well within the trabecular bone at the bodies' mid-height.
    """

    water: Array
    fat: Array
    iodine: Array
    mineral: Array
    body: NDArray[np.uint8]
    vertebrae: NDArray[np.uint8]
    trabecular: NDArray[np.uint8]


class TissueSlice:
    """Draws into one slice; edges are ramps as wide as a pixel, so that what a pixel holds in part it shows in part.

    Args:
        z: height of the slice's middle, mm.
        thickness: of the slice, mm; bones are averaged over as many heights as that has mm.
        rows: y of each row, mm, evenly spaced.
        columns: x of each column, mm, spaced as the rows.
        lumps: moves outlines of ellipses, as a share of their radii.
    """

    def __init__(
        self,
        z: float,
        thickness: float,
        rows: NDArray[np.float64],
        columns: NDArray[np.float64],
        lumps: SliceWaves,
    ) -> None:
        self.z, self.rows, self.columns = z, rows, columns
        self.pixel = float(abs(rows[1] - rows[0]))
        count = max(1, round(thickness))
        self.step = thickness / count
        self.heights = (z + ((np.arange(count) + 0.5) / count - 0.5) * thickness).astype(np.float32)[:, None, None]
        shape = rows.size, columns.size
        self._maps = np.zeros((4, *shape), dtype=np.float32)  # water, fat, iodine, mineral
        self._bounds: dict[str, Array] = {}
        self._lumps = lumps.field(columns, rows, z)
        self.labels = {name: np.zeros(shape, dtype=np.uint8) for name in ("body", "vertebrae", "trabecular")}
        self.most = np.zeros(shape, dtype=np.float32)  # of a pixel that one vertebra fills

    def result(self) -> TissuePlane:
        """What was drawn."""
        water, fat, iodine, mineral = self._maps
        return TissuePlane(water, fat, iodine, mineral, **self.labels)

    def box(self, x: float, y: float, rx: float, ry: float) -> Box | None:
        """The pixels round a point; None where there are none."""
        bounds = []
        for grid, centre, radius in ((self.rows, y, ry), (self.columns, x, rx)):
            low = math.floor((centre - radius - grid[0]) / self.pixel) - 1
            high = math.ceil((centre + radius - grid[0]) / self.pixel) + 2
            low, high = max(low, 0), min(high, grid.size)
            if low >= high:
                return None
            bounds.append(slice(low, high))
        return bounds[0], bounds[1]

    def grid(self, box: Box) -> tuple[Array, Array]:
        """Return x as a row and y as a column."""
        return self.columns[box[1]].astype(np.float32)[None, :], self.rows[box[0]].astype(np.float32)[:, None]

    def coverage(self, depth_mm: Array, pixel: float | None = None) -> Array:
        """Share of a pixel that a shape covers whose surface lies so deep above, negative outside."""
        scaled = depth_mm * np.float32(1 / (self.pixel if pixel is None else pixel))
        return np.asarray(np.clip(scaled + np.float32(0.5), 0, 1))

    def fill(self, box: Box, share: Array, tissue: Tissue) -> None:
        """Replace a share of what is there by a soft tissue; bones come later."""
        for values, value in zip(self._maps[(slice(3), *box)], tissue, strict=True):
            values += (np.float32(value) - values) * share

    def outline(self, y: float, rx: float, ry: float, tissue: Tissue, *, bound: str = "") -> None:
        """Fill a trunk's section: an ellipse, squarer, flatter behind.

        Args:
            y: of its middle, mm.
            rx: half its width, mm.
            ry: half its depth, mm.
            tissue: that fills it.
            bound: "trunk" or "cavity": what ellipses have to stay in.
        """
        box = self.box(0, y, 1.1 * rx, 1.1 * ry)
        share = np.zeros((1, 1), dtype=np.float32)
        if box is not None:
            columns, rows = self.grid(box)
            a2, down = np.square(columns / np.float32(rx)), (rows - np.float32(y)) / np.float32(ry)
            b2 = np.square(down)
            share = np.sqrt(np.maximum(a2 + b2 - np.float32(0.28) * a2 * b2 * (1 + (down > 0)), 0))
            share = self.coverage((1 - share) * np.float32(min(rx, ry)))
            self.fill(box, share, tissue)
        if bound:
            self._bounds[bound] = np.zeros(self._lumps.shape, dtype=np.float32)
            if box is not None:
                self._bounds[bound][box] = share

    def ellipse(self, e: Ellipse) -> None:
        """Fill an organ's section within the trunk or the cavity."""
        box = self.box(e.x, e.y, e.rx, e.ry)
        if box is None or min(e.rx, e.ry) < 0.3:
            return
        columns, rows = self.grid(box)
        down = (rows - np.float32(e.y)) / np.float32(e.ry)
        share = np.sqrt(np.square((columns - np.float32(e.x)) / np.float32(e.rx)) + np.square(down))
        share += self._lumps[box]
        share = self.coverage((1 - share) * np.float32(min(e.rx, e.ry)))
        share *= self._bounds["cavity" if e.inside else "trunk"][box]
        self.fill(box, share, e.tissue)
        if e.gas > 0:
            level = self.coverage((np.float32(2 * e.gas - 1) - down) * np.float32(e.ry))
            within = np.clip((share - 1) * 50 + 1, 0, 1)
            self.fill(box, within * level, AIR)

    def streak(self, waves: SliceWaves) -> None:
        """Make tissue within the trunk's wall uneven."""
        self._maps[0] += waves.field(self.columns, self.rows, self.z) * self._bounds["trunk"]

    def table(self, top: float) -> None:
        """Two thin curved sheets with foam between, whose upper one touches a back at ``top``, mm."""
        x, y = self.grid((slice(None), slice(None)))
        upper = np.float32(top + 2) - np.square(x / 205) * np.float32(42)
        lower = np.float32(top + 44) - np.square(x / 150) ** 2 * np.float32(26) - np.square(x / 205) * np.float32(30)
        half = np.float32(1.1)
        width = np.clip((np.float32(205) - np.abs(x)) / self.pixel, 0, 1)
        foam = np.clip(np.minimum(y - upper, lower - y) / self.pixel, 0, 1) * np.float32(0.05)
        sheets = np.maximum(half - np.abs(y - upper), half - np.abs(y - lower)) / self.pixel + np.float32(0.5)
        sheets = np.float32(1.2) * np.clip(sheets, 0, min(1.0, float(2 * half) / self.pixel))
        self._maps[0] = np.maximum(foam, sheets) * width

    def rods(self, rods: Iterable[Rod], mineral: float, marrow: Tissue) -> None:
        """Draw bones that are given in patient coordinates.

        Args:
            rods: one after the other.
            mineral: of their trabecular bone, mg/cm3.
            marrow: between it.
        """
        for rod in rods:
            (x1, y1, z1), (x2, y2, z2) = rod.start, rod.stop
            if not min(z1, z2) - rod.upright - 3 < self.z < max(z1, z2) + rod.upright + 3:
                continue
            rx, ry = abs(x1 - x2) / 2 + rod.radius, abs(y1 - y2) / 2 + rod.radius
            box = self.box((x1 + x2) / 2, (y1 + y2) / 2, rx, ry)
            if box is None:
                continue
            columns, rows = self.grid(box)
            depth = rod.depth(columns[None], rows[None], self.heights)
            outer, inner = (self.coverage(d).mean(axis=0) for d in (depth, depth - np.float32(rod.cortex)))
            self.bone(box, outer, inner, np.float32(mineral), marrow)

    def bone(self, box: Box, outer: Array, inner: Array, mineral: Array | np.float32, marrow: Tissue) -> None:
        """Replace what is there by bone.

        Args:
            box: the pixels.
            outer: share that bone covers.
            inner: share within its shell.
            mineral: of the trabecular bone there, mg/cm3.
            marrow: between it.
        """
        cortex, keep = outer - inner, 1 - outer
        water, fat, iodine, ash = self._maps[(slice(None), *box)]
        for values, shell, filled in (
            (water, 1.0, marrow.water),
            (fat, 0.0, marrow.fat),
            (iodine, 0.0, marrow.iodine),
            (ash, CORTICAL_MG_CM3, mineral),
        ):
            values *= keep
            values += np.float32(shell) * cortex + np.asarray(filled, dtype=np.float32) * inner
