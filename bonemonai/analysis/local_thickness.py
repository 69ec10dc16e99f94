"""Local thickness: the diameter of the largest ball that holds a point and fits into bone, or between bone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.analysis.maximal_balls import largest_balls, rank_radii, squared_distances, undominated
from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs
from bonemonai.analysis.volume_boxes import Box, Edges, beyond_box, beyond_core, marked_box, read_box, whole_box
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_BYTES_A_VOXEL = 80
_FIRST_HALO = 16  # voxels; grows where balls are larger
_CUBIC = 1e-3  # edges that differ by less are taken as one: headers round


class ThicknessSummary(NamedTuple):
    """Local thickness over the voxels of a phase.

    Attributes:
        mean_mm: millimetres; nan where nothing is measured.
        sd_mm: standard deviation over voxels, millimetres.
        max_mm: diameter of the largest ball, millimetres.
        voxels: that were measured.
    """

    mean_mm: float
    sd_mm: float
    max_mm: float
    voxels: int


def thickness_map(phase: NDArray[np.bool_], voxel_size_um: Sequence[float]) -> NDArray[np.float64]:
    """Local thickness of each voxel of a phase, in memory.

    A voxel's is twice the largest radius of a ball that holds its centre, where a ball's radius is the distance of its
    centre to that of the nearest voxel outside the phase, and a ball holds what is nearer than its radius. Flat plates
    of n voxels get n (even) or n + 1 (odd); rods and oblique plates come out within half a voxel, on average.

    The phase goes on beyond the array: its faces stop no ball, so that balls at the faces are as large as what is seen
    allows, and means of small arrays too large. Measure in a tissue mask that keeps off the faces where this matters.

    Args:
        phase: (planes, rows, columns).
        voxel_size_um: along (plane, row, column), micrometres.

    Returns:
        Micrometres, 0 outside the phase.

    Raises:
        InputError: if the phase has no outside.

    Source:
        Hildebrand & Ruegsegger, J Microsc 185:67 (1997), equation 1, on voxels.

    Example:
        >>> plate = np.zeros((9, 8, 8), dtype=bool)
        >>> plate[2:6] = True
        >>> float(thickness_map(plate, (10, 10, 10)).max())
        40.0
    """
    spacing, unit = _spacing(voxel_size_um)
    squares = squared_distances(phase, spacing)
    _refuse_endless(squares, "phase")
    radii = rank_radii(squares)
    ranks = largest_balls(radii, undominated(radii, spacing), spacing, phase)
    return np.asarray(2 * unit * np.sqrt(radii.squares[ranks]))


def measure_local_thickness(
    phase: Volume,
    tissue: Volume | None = None,
    *,
    memory: float = 1e9,
    planes: int | None = None,
    record: SlabRecord | None = None,
    stage: str = "thickness",
) -> ThicknessSummary:
    """Local thickness over a volume of any size: that of :func:`thickness_map`, box by box.

    Each box is read with so much round it that no ball over it is cut, which is checked, not assumed: the halo grows
    with the balls that are found. Where a halo does not fit into memory the box is halved.

    Args:
        phase: mask, non-zero in what is measured.
        tissue: mask of the same voxels; only its voxels are counted, but balls reach beyond. None counts all.
        memory: bytes to work in, about.
        planes: of a slab; as many as fit by default.
        record: of finished slabs.
        stage: name in the record.

    Raises:
        InputError: if the voxel size is unknown, the phase has no outside, or memory is too small for its balls.

    Source:
        See :func:`thickness_map`. Mean and standard deviation are over voxels, as is usual.
    """
    if phase.voxel_size_um is None:
        raise InputError(phase.path, "does not state its voxel size; say --voxel-size-um.")
    if tissue is not None:
        refuse_other_grid(tissue, phase)
    work = _Boxes(phase, tissue, int(memory / _BYTES_A_VOXEL))
    together = planes or work.planes_of_a_slab()
    slabs = [slice(start, min(start + together, phase.shape[0])) for start in range(0, phase.shape[0], together)]
    return _summary(sum_over_slabs(stage, slabs, work.count_slab, record), work.unit)


class _Boxes:
    """Counts squared radii, a box at a time."""

    def __init__(self, phase: Volume, tissue: Volume | None, most_voxels: int) -> None:
        self.phase, self.tissue, self.most_voxels = phase, tissue, most_voxels
        self.spacing, self.unit = _spacing(phase.voxel_size_um or ())
        self.halo = _FIRST_HALO

    def planes_of_a_slab(self) -> int:
        fitting = self.most_voxels // (self.phase.shape[1] * self.phase.shape[2])
        return self.phase.shape[0] if fitting >= self.phase.shape[0] else max(fitting - 2 * self.halo, self.halo)

    def count_slab(self, start: int, stop: int) -> Counter[str]:
        core = (slice(start, stop), *whole_box(self.phase)[1:])
        # balls far from the tissue are not looked for
        core = core if self.tissue is None else marked_box(self.tissue, core)
        return self.count(core, self.halo) if core[0].stop else Counter()

    def count(self, core: Box, halo: int) -> Counter[str]:
        """Squared radii over the core, as text, and their voxels."""
        box = tuple(
            slice(max(0, c.start - halo), min(n, c.stop + halo)) for c, n in zip(core, self.phase.shape, strict=True)
        )
        if math.prod(b.stop - b.start for b in box) > self.most_voxels:
            longest = max(range(3), key=lambda axis: core[axis].stop - core[axis].start)
            start, stop = core[longest].start, core[longest].stop
            if stop - start < max(8, halo // 2):  # would be read many times over
                raise InputError(
                    self.phase.path, f"has balls that need {halo} voxels round each box, more than memory holds; give "
                    "more (--memory-budget), or a tissue mask without so much empty space."
                )  # fmt: skip
            halves = (slice(start, (start + stop) // 2), slice((start + stop) // 2, stop))
            return sum((self.count((*core[:longest], h, *core[longest + 1 :]), halo) for h in halves), Counter())
        wanted = self._wanted(core)
        if not wanted.any():
            return Counter()
        squares = squared_distances(read_box(self.phase, box), self.spacing)
        larger = self._larger_halo(squares, box, core, halo)
        if larger:
            self.halo = larger
            return self.count(core, larger)
        return self._count_exact(squares, box, core, wanted)

    def _wanted(self, core: Box) -> NDArray[np.bool_]:
        wanted = read_box(self.phase, core)
        return wanted if self.tissue is None else wanted & read_box(self.tissue, core)

    def _larger_halo(self, squares: NDArray[np.float64], box: Box, core: Box, halo: int) -> int:
        """0 if all balls that reach the core are known; otherwise how many voxels to read round it."""
        edges = Edges(self.phase.shape, self.spacing)
        if edges.sees_all(box):
            return 0
        radius = np.sqrt(squares)
        # with a voxel's diagonal to spare, so that neighbours, which may dominate a centre, are known as well; then a
        # ball from outside the box would show in it, because radii of neighbours differ by no more than their distance
        reaching = radius + math.hypot(*self.spacing) > beyond_core(box, core, self.spacing)
        doubtful = reaching & (radius > beyond_box(box, edges))
        if not doubtful.any():
            # centres that are not known to be exact must not count
            squares[~reaching] = 0
            return 0
        largest = float(radius[doubtful].max()) / min(self.spacing)
        return max(halo + 8, min(2 * halo, int(min(2 * largest, 1e9)) + 4))

    def _count_exact(
        self, squares: NDArray[np.float64], box: Box, core: Box, wanted: NDArray[np.bool_]
    ) -> Counter[str]:
        _refuse_endless(squares, self.phase.path)
        radii = rank_radii(squares)
        inner = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(core, box, strict=True))
        everywhere = np.zeros(squares.shape, bool)
        everywhere[inner] = wanted
        ranks = largest_balls(radii, undominated(radii, self.spacing), self.spacing, everywhere)
        counts = np.bincount(ranks[everywhere], minlength=len(radii.squares))
        return Counter({repr(float(radii.squares[rank])): int(counts[rank]) for rank in np.flatnonzero(counts)})


def _spacing(voxel_size_um: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Edges of a voxel, and the micrometres of their unit; (1, 1, 1) of a cube, whose squared radii are whole."""
    edges = [float(edge) for edge in voxel_size_um]
    mean = math.fsum(edges) / 3
    if max(edges) - min(edges) <= _CUBIC * mean:
        return (1.0, 1.0, 1.0), mean
    return tuple(edges), 1.0


def _refuse_endless(squares: NDArray[np.float64], name: object) -> None:
    if not np.isfinite(squares).all():
        raise InputError(str(name), "fills the volume: nothing ends it, so that it has no thickness.")


def _summary(counts: Counter[str], unit_um: float) -> ThicknessSummary:
    pairs = sorted((2 * math.sqrt(float(square)) * unit_um / 1000, number) for square, number in counts.items())
    voxels = sum(number for _, number in pairs)
    if not voxels:
        return ThicknessSummary(math.nan, math.nan, math.nan, 0)
    mean = math.fsum(diameter * number for diameter, number in pairs) / voxels
    spread = math.fsum((diameter - mean) ** 2 * number for diameter, number in pairs) / voxels
    return ThicknessSummary(mean, math.sqrt(spread), pairs[-1][0], voxels)
