"""Synthetic synchrotron microCT of bone compressed step by step until it cracks, and the truth beside it (paper 2)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

from bonemonai.errors import InputError

CompressedBone = Literal["cortical", "trabecular"]

# share of a state sequence at which cracks are first seen (Shen et al., figures 5c and 6c): 13 of 20 and 12 of 15
VISIBLE_FROM: dict[CompressedBone, float] = {"cortical": 13 / 20, "trabecular": 12 / 15}
POROSITY_RANGE = (0.028, 0.035)  # BV/TV 96.5 to 97.2 %
TRABECULAR_BV_TV_RANGE = (0.128, 0.309)
ROD_BELOW, PLATE_ABOVE = 0.17, 0.25  # BV/TV

HIDDEN_OPENING_VOXELS = 0.35  # no crack that is not yet seen is as wide
FIRST_OPENING_VOXELS = 1.9  # of a crack when it is first seen; 1.5 where the crack is narrowest
LAST_OPENING_VOXELS = 4.0
_WIDTH_VARIATION = 0.2  # of a cortical crack's opening along it

_BONE_GREY, _FLUID_GREY = 0.65, 0.25
_NOISE = 0.06
_BLUR_VOXELS = 0.55

_CANAL_RADIUS_UM = (14.0, 30.0)
_OSTEON_RADIUS_UM = (75.0, 115.0)
_REACH_UM = 120.0  # how far round a canal's axis anything is drawn
_PLANES = 32  # of a canal drawn at a time
_FIELD_WAVELENGTH_UM = 480.0  # of the trabecular structure; struts are about half as far apart
_SMOOTH_UM = 13.0  # standard deviation of the filter that rounds the trabecular structure
_GAP_RADIUS_UM = 80.0
_GAPS_PER_MM3 = 30.0

_ANATOMY, _CANALS, _FIELD, _MINERAL, _CRACK, _MOTION, _SCANNER, _NOISE_KEY, _ZINGERS, _RINGS = range(10)


class PhantomState(NamedTuple):
    """One scan of a compressed sample, each array of shape (planes, rows, columns).

    Attributes:
        image: float32 grey values, arbitrary units.
        crack: uint8, 1 where bone of the intact sample is open by at least half a voxel.
        ring: uint8, 1 where a ring artefact lies.
        bone: uint8, 1 in bone of the intact sample; canals and marrow are 0, cracks are not left out.
    """

    image: NDArray[np.float32]
    crack: NDArray[np.uint8]
    ring: NDArray[np.uint8]
    bone: NDArray[np.uint8]


class _Affine(NamedTuple):
    """From voxel indices of a scan to micrometres in the sample: ``matrix @ index + offset``."""

    matrix: NDArray[np.float64]
    offset: NDArray[np.float64]

    def points(self, box: tuple[slice, ...]) -> list[NDArray[np.float32]]:
        """z, y and x in um of every voxel of a box."""
        index = [axis.astype(np.float32) for axis in np.ogrid[box]]
        return [
            np.asarray(sum((np.float32(a) * i for a, i in zip(row, index, strict=True)), np.float32(shift)))
            for row, shift in zip(self.matrix, self.offset, strict=True)
        ]

    def indices(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.linalg.solve(self.matrix, (points_um - self.offset).T).T)


class _Waves(NamedTuple):
    """A sum of plane waves, a Gaussian random field if there are many: wave vectors in rad/um, phases, amplitudes."""

    vectors: NDArray[np.float64]
    phases: NDArray[np.float64]
    amplitudes: NDArray[np.float64]

    def at(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.cos(points_um @ self.vectors.T + self.phases) @ self.amplitudes)

    def distance_at(self, points_um: NDArray[np.float64]) -> NDArray[np.float32]:
        """(4, n): distance in um, to first order, from where the field is 0, and the unit vector of its gradient."""
        angle = points_um @ self.vectors.T + self.phases
        slopes = (self.vectors * self.amplitudes[:, None]).T @ np.sin(angle).T
        return _over_slope(np.vstack([self.amplitudes @ np.cos(angle).T, -slopes]).astype(np.float32))

    def planes(self, affine: _Affine, shape: tuple[int, int, int]) -> Iterator[NDArray[np.float32]]:
        """The field on the voxels of a scan, by one matrix product a plane."""
        for cosine, sine, right in self._factors(affine, shape):
            yield np.asarray(np.hstack([cosine, -sine]) @ right, dtype=np.float32)

    def distance_planes(self, affine: _Affine, shape: tuple[int, int, int]) -> Iterator[NDArray[np.float32]]:
        """As :meth:`distance_at`, on the voxels of a scan: (4, rows, columns) a plane."""
        for cosine, sine, right in self._factors(affine, shape):
            lefts = [np.hstack([cosine, -sine])]
            lefts += [np.hstack([-sine * k, -cosine * k]) for k in self.vectors.T.astype(np.float32)]
            yield _over_slope(np.stack([left @ right for left in lefts]))

    def _factors(self, affine: _Affine, shape: tuple[int, int, int]) -> Iterator[tuple[NDArray[np.float32], ...]]:
        """Of each plane: amplitude times cos and sin along rows, (rows, waves), and both along columns."""
        vectors = self.vectors @ affine.matrix
        phases = self.phases + self.vectors @ affine.offset
        along_columns = np.outer(vectors[:, 2], np.arange(shape[2]))
        right = np.vstack([np.cos(along_columns), np.sin(along_columns)]).astype(np.float32)
        along_rows = np.outer(np.arange(shape[1]), vectors[:, 1]) + phases
        amplitudes = self.amplitudes.astype(np.float32)
        for z in range(shape[0]):
            angle = along_rows + z * vectors[:, 0]
            angle = np.remainder(angle, 2 * math.pi).astype(np.float32)  # single precision is enough, and faster
            yield np.cos(angle) * amplitudes, np.sin(angle) * amplitudes, right


class _Canal(NamedTuple):
    """A Haversian canal along z, tilted and slightly wavy, and its osteon; lengths in um, pairs are (y, x)."""

    origin: NDArray[np.float64]
    slope: NDArray[np.float64]
    amplitude: NDArray[np.float64]
    phase: NDArray[np.float64]
    wavelength: float
    radius: float
    osteon_radius: float
    mineral: float  # grey value of the osteon less that of the bone round it

    def centre(self, z: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        wave = np.sin(np.float32(2 * math.pi / self.wavelength) * z + np.float32(self.phase[axis]))
        line = np.float32(self.slope[axis]) * z + np.float32(self.origin[axis])
        return np.asarray(line + np.float32(self.amplitude[axis]) * wave, dtype=np.float32)


class _Segment(NamedTuple):
    """A Volkmann canal: a straight piece from one point to another (z, y, x), um."""

    start: NDArray[np.float64]
    stop: NDArray[np.float64]
    radius: float


class _Gap(NamedTuple):
    """A failed strut: a disk, nearly across the load, that opens from its onset on; um."""

    centre: NDArray[np.float64]
    normal: NDArray[np.float64]
    radius: float
    onset: int
    roughness: _Waves


@dataclass(frozen=True)
class CompressionPhantom:
    """A seeded bone sample compressed along z (the plane axis), seen at loading states 1 to ``states``.

    State 1 is unloaded and has no crack, the last is failed. The anatomy is the same at every state.

    *Cortical* bone is solid, crossed by Haversian canals along z, each within its osteon of slightly different mineral,
    and a few transverse Volkmann canals; radii are scaled so that the porosity is what was asked for. One longitudinal
    crack pierces the volume: a smoothly wavy surface that holds the load axis to within 6 degrees and whose normal is
    random in the cross-section. *Trabecular* bone is where three random fields nearly vanish, two at once (rods,
    which meet where all three vanish) or one (plates), or something between; BV/TV chooses, as in the paper: rods below
    17 %, plates above 25 %. It fails at scattered places by gaps across the struts, perpendicular to the load to within
    25 degrees.

    Cracks open with the state. Until shortly before :attr:`visible_from` they are narrower than 0.35 voxels, hidden by
    noise; from then on they are at least 1.5 voxels wide, growing to 4 (a trabecular gap may open later than
    others). Openings count in voxels, because they are chosen by what a scan can show; all that is in um stays as
    large whatever the voxel size is, so a volume of 64 voxels of 6.5 um holds four canals or a few struts.

    With ``artefacts`` state 1 is scanned unlike the others, as the paper found of its own data: brighter, of higher
    contrast, and with 0.5 % of its voxels hit by impulses. Histogram matching takes away the one, a median filter of
    3 x 3 x 3 the other; a network trained without both tells the states apart by noise. Brightness and contrast drift a
    little between the others too. Weak rings round the axis of rotation, other ones at every state, stay.

    What it is not: nothing deforms or is displaced, cracked bone is replaced by fluid; canals are no measured network;
    there are no lacunae, no phase-contrast fringes, no branching or secondary cracks, and opening with load is no
    mechanical model. That a network finds these cracks says that it works, not how it does on bone.

    Args:
        bone: "cortical" or "trabecular".
        shape: (planes, rows, columns), each at least 16.
        seed: every random number derives from it; at least 0.
        states: number of loading states, at least 2; the paper has 20 (cortical) and 15 (trabecular).
        voxel_size_um: edge length of a voxel; the shortest axis must be at least 100 um long.
        artefacts: draw the scanner's differences between states, and rings; noise is there anyway.
        motion_voxels: how far the sample moves from its first place, at most, along each axis and, by a rotation
            round the volume's centre, at its faces; 0 to a quarter of the shortest axis. State 1 is where nothing
            has moved yet; see :meth:`to_first`.
        bv_tv: bone volume fraction; None draws it: 96.5 to 97.2 % of cortical, 12.8 to 30.9 % of trabecular bone.

    Raises:
        InputError: if an argument is out of its range.

    Source: S. C. Shen, M. Pena Fernandez, G. Tozzi, M. J. Buehler, "Deep learning approach to assess damage
        mechanics of bone tissue", sections 2.1 and 3.1 to 3.3.

    Example:
        >>> phantom = CompressionPhantom("cortical", shape=(16, 32, 32), seed=1)
        >>> first, last = phantom.state(1), phantom.state(4)
        >>> bool(first.crack.any()), bool(last.crack.any())
        (False, True)
    """

    bone: CompressedBone
    shape: tuple[int, int, int] = (64, 64, 64)
    seed: int = 0
    states: int = 4
    voxel_size_um: float = 6.5
    artefacts: bool = True
    motion_voxels: float = 0.0
    bv_tv: float | None = None

    def __post_init__(self) -> None:
        kinds = get_args(CompressedBone)
        rules = {
            "bone": (self.bone in kinds, f"must be one of {', '.join(kinds)}"),
            "shape": (len(self.shape) == 3 and min(self.shape) >= 16, "must be three sizes (z, y, x) >= 16"),
            "seed": (self.seed >= 0, "must be >= 0"),
            "states": (self.states >= 2, "must be >= 2, the first unloaded, the last failed"),
            "voxel_size_um": (
                self.voxel_size_um > 0 and 100 <= self.voxel_size_um * min(self.shape) < math.inf,
                "must be > 0 and make the shortest axis at least 100 um long, or there may be nothing to crack",
            ),
            "motion_voxels": (
                0 <= self.motion_voxels <= min(self.shape) / 4,
                "must be >= 0, at most a quarter of the shortest axis",
            ),
            "bv_tv": (self.bv_tv is None or 0 < self.bv_tv < 1, "must be within (0, 1), a fraction"),
        }
        for name, (holds, rule) in rules.items():
            if not holds:
                raise InputError(name, f"{rule}, got {getattr(self, name)!r}.")

    @cached_property
    def bone_volume_fraction(self) -> float:
        """BV/TV of the intact sample: what was given, or what was drawn."""
        if self.bv_tv is not None:
            return self.bv_tv
        rng = self._rng(_ANATOMY)
        if self.bone == "trabecular":
            return float(rng.uniform(*TRABECULAR_BV_TV_RANGE))
        return 1.0 - float(np.clip(rng.normal(0.033, 0.003), *POROSITY_RANGE))

    @property
    def visible_from(self) -> int:
        """First state at which a crack is clearly seen; never the first."""
        return min(self.states, max(2, round(VISIBLE_FROM[self.bone] * self.states)))

    def opening_voxels(self, number: int, onset: int | None = None) -> float:
        """How wide a crack is, in voxels.

        Args:
            number: of the state.
            onset: state at which the crack is first seen; :attr:`visible_from` by default.
        """
        self._refuse_state(number)
        onset = self.visible_from if onset is None else onset
        if number < onset:
            return HIDDEN_OPENING_VOXELS * ((number - 1) / (onset - 1)) ** 2
        growth = (LAST_OPENING_VOXELS - FIRST_OPENING_VOXELS) / (self.states - onset + 1)
        return LAST_OPENING_VOXELS - growth * (self.states - number)

    def to_first(self, number: int) -> NDArray[np.float64]:
        """Where the sample's points of a state lay in state 1.

        ``scipy.ndimage.affine_transform`` with it makes state 1's scan look like that of the state.

        Args:
            number: of the state.

        Returns:
            4 x 4: homogeneous (z, y, x) indices of the state's scan to those of state 1's.
        """
        self._refuse_state(number)
        matrix = np.eye(4)
        if number > 1 and self.motion_voxels > 0:
            rng = self._rng(_MOTION, number)
            shift = rng.uniform(-self.motion_voxels, self.motion_voxels, 3)
            axis = rng.standard_normal(3)
            angle = rng.uniform(0.5, 1.0) * math.atan2(self.motion_voxels, max(self.shape) / 2)
            turn = Rotation.from_rotvec(axis / np.linalg.norm(axis) * angle).as_matrix()
            centre = (np.array(self.shape) - 1) / 2
            matrix[:3, :3], matrix[:3, 3] = turn, centre + shift - turn @ centre
        return matrix

    def state(self, number: int) -> PhantomState:
        """Make the scan of one state; no other is needed for it.

        Args:
            number: 1 (unloaded) to ``states`` (failed).

        Raises:
            InputError: if there is no such state.
        """
        affine = self._affine(number)
        crack = self._crack(number, affine)
        if self.bone == "cortical":
            coverage, mineral = self._cortical(affine)
        else:
            coverage, mineral = self._trabecular(affine), np.zeros(self.shape, dtype=np.float32)
        bone = coverage >= 0.5
        cracked = bone & (crack >= 0.5)
        for plane, waves in zip(mineral, self._mineral_waves.planes(affine, self.shape), strict=True):
            plane += waves
        grey = mineral  # in place from here on: a scan of 300 x 300 x 300 is not small
        grey += np.float32(_BONE_GREY - _FLUID_GREY)
        grey *= coverage
        crack -= 1
        grey *= -crack
        del coverage, crack
        grey += np.float32(_FLUID_GREY)
        image = np.asarray(gaussian_filter(grey, _BLUR_VOXELS, truncate=4.0), dtype=np.float32)
        image += np.float32(_NOISE) * self._rng(_NOISE_KEY, number).standard_normal(self.shape, dtype=np.float32)
        ring = np.zeros(self.shape, dtype=np.uint8)
        if self.artefacts:
            ring = self._add_rings(image, number)
            self._add_scanner(image, number)
        return PhantomState(image, cracked.astype(np.uint8), ring, bone.astype(np.uint8))

    def _refuse_state(self, number: int) -> None:
        if not 1 <= number <= self.states:
            raise InputError("state", f"must be within 1 to {self.states}, got {number!r}.")

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.seed, *key]))

    def _affine(self, number: int) -> _Affine:
        matrix = self.to_first(number)
        return _Affine(matrix[:3, :3] * self.voxel_size_um, matrix[:3, 3] * self.voxel_size_um)

    @property
    def _extent_um(self) -> NDArray[np.float64]:
        return np.array(self.shape) * self.voxel_size_um

    def _box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, ...] | None:
        """Voxels between two corners (indices); None if there are none."""
        start = np.clip(np.floor(low), 0, self.shape).astype(int)
        stop = np.clip(np.ceil(high) + 1, 0, self.shape).astype(int)
        if (stop <= start).any():
            return None
        return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))

    # -- cortical bone -------------------------------------------------------------------------------------

    @cached_property
    def _canals(self) -> tuple[list[_Canal], list[_Segment]]:
        """Haversian canals, one a cell of a grid and one of them near the middle, and Volkmann canals between them."""
        low, high = _CANAL_RADIUS_UM
        mean_area = math.pi * (high**3 - low**3) / (3 * (high - low))
        spacing = math.sqrt(0.85 * mean_area / (1 - self.bone_volume_fraction))  # Volkmann canals take the rest
        extent = self._extent_um
        margin = _REACH_UM + 0.08 * extent[0] + 3 * self.motion_voxels * self.voxel_size_um
        count = np.ceil((extent[1:] / 2 + margin) / spacing).astype(int) + 1
        cells = product(range(-count[0], count[0] + 1), range(-count[1], count[1] + 1))
        canals = {cell: self._draw_canal(cell, spacing) for cell in cells}
        segments = [segment for cell in canals for segment in self._draw_segments(cell, canals)]
        # a later osteon overlies an earlier one
        return sorted(canals.values(), key=lambda canal: canal.radius), segments

    def _draw_canal(self, cell: tuple[int, int], spacing: float) -> _Canal:
        rng = self._cell_rng(cell)
        extent = self._extent_um
        jitter = np.minimum(0.36 * spacing, 0.2 * extent[1:] if cell == (0, 0) else np.inf)
        middle = extent[1:] / 2 + np.array(cell) * spacing + rng.uniform(-1, 1, 2) * jitter
        slope = rng.uniform(-0.08, 0.08, 2)
        return _Canal(
            origin=middle - slope * extent[0] / 2,
            slope=slope,
            amplitude=rng.uniform(3, 10, 2),
            phase=rng.uniform(0, 2 * math.pi, 2),
            wavelength=rng.uniform(400, 900),
            radius=rng.uniform(*_CANAL_RADIUS_UM),
            osteon_radius=rng.uniform(*_OSTEON_RADIUS_UM),
            mineral=rng.uniform(-0.05, 0.015),
        )

    def _draw_segments(self, cell: tuple[int, int], canals: dict[tuple[int, int], _Canal]) -> Iterator[_Segment]:
        """Volkmann canals from one cell's canal to the next along rows or columns."""
        rng = self._cell_rng(cell, 1)
        for z in rng.uniform(0, self._extent_um[0], rng.poisson(self._extent_um[0] / 700)):
            along_rows, rise, radius = int(rng.integers(2)), rng.uniform(-100, 100), rng.uniform(8, 14)
            other = canals.get((cell[0] + along_rows, cell[1] + 1 - along_rows))
            if other is not None:
                heights = np.array([z, z + rise], dtype=np.float32)
                ends = [
                    np.array([height, who.centre(height, 0), who.centre(height, 1)], dtype=np.float64)
                    for height, who in zip(heights, (canals[cell], other), strict=True)
                ]
                yield _Segment(ends[0], ends[1], radius)

    def _cell_rng(self, cell: tuple[int, int], *key: int) -> np.random.Generator:
        # a cell draws its own numbers, so that how many cells there are changes nothing
        return self._rng(_CANALS, *(place + 2**31 for place in cell), *key)

    def _near_canal(self, canal: _Canal, affine: _Affine) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
        """Boxes along a canal, and every voxel's distance from its axis in um."""
        reach = np.array([0, 1, 1]) * (_REACH_UM / self.voxel_size_um + 1)
        beyond = 3 * self.motion_voxels + 4
        z = (np.arange(-beyond, self.shape[0] + beyond) * self.voxel_size_um).astype(np.float32)
        line = affine.indices(np.column_stack([z, canal.centre(z, 0), canal.centre(z, 1)]).astype(np.float64))
        cosine = np.float32(1 / math.sqrt(1 + float(canal.slope @ canal.slope)))
        for first in range(0, self.shape[0], _PLANES):
            last = min(first + _PLANES, self.shape[0]) - 1
            piece = line[(line[:, 0] > first - 2) & (line[:, 0] < last + 2)]
            if not len(piece):
                continue
            low, high = piece.min(axis=0) - reach, piece.max(axis=0) + reach
            low[0], high[0] = first, last
            box = self._box(low, high)
            if box is not None:
                z, y, x = affine.points(box)
                distance = np.hypot(y - canal.centre(z, 0), x - canal.centre(z, 1))
                yield box, distance * cosine

    def _near_segment(
        self, segment: _Segment, affine: _Affine
    ) -> Iterator[tuple[tuple[slice, ...], NDArray[np.float32]]]:
        ends = affine.indices(np.stack([segment.start, segment.stop]))
        reach = 5 * segment.radius / self.voxel_size_um + 1
        box = self._box(ends.min(axis=0) - reach, ends.max(axis=0) + reach)
        if box is None:
            return
        direction = segment.stop - segment.start
        length = float(np.linalg.norm(direction))
        offset = [p - np.float32(s) for p, s in zip(affine.points(box), segment.start, strict=True)]
        along = sum(o * np.float32(d / length) for o, d in zip(offset, direction, strict=True))
        beyond = along - np.clip(along, 0, np.float32(length))
        square = sum(o * o for o in offset)
        yield box, np.sqrt(np.maximum(square - along * along + beyond * beyond, 0))

    @cached_property
    def _canal_scale(self) -> float:
        """By how much all radii are multiplied to give the porosity wanted."""
        affine = self._affine(1)
        relative = np.full(self.shape, np.inf, dtype=np.float32)
        haversian, volkmann = self._canals
        for canal in haversian:
            for box, distance in self._near_canal(canal, affine):
                np.minimum(relative[box], distance / np.float32(canal.radius), out=relative[box])
        for segment in volkmann:
            for box, distance in self._near_segment(segment, affine):
                np.minimum(relative[box], distance / np.float32(segment.radius), out=relative[box])
        rank = round((1 - self.bone_volume_fraction) * (relative.size - 1))
        return float(np.partition(relative, rank, axis=None)[rank])

    def _cortical(self, affine: _Affine) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Share of a voxel that is bone, and the osteons' mineral, as difference of grey value."""
        depth = np.full(self.shape, np.float32(_REACH_UM))  # outside canals, um
        mineral = np.zeros(self.shape, dtype=np.float32)
        haversian, volkmann = self._canals
        for canal in haversian:
            for box, distance in self._near_canal(canal, affine):
                view = mineral[box]
                view[distance < canal.osteon_radius] = canal.mineral
                view[np.abs(distance - canal.osteon_radius) < 3] += np.float32(0.02)  # cement line
                np.minimum(depth[box], distance - np.float32(self._canal_scale * canal.radius), out=depth[box])
        for segment in volkmann:
            for box, distance in self._near_segment(segment, affine):
                np.minimum(depth[box], distance - np.float32(self._canal_scale * segment.radius), out=depth[box])
        depth /= np.float32(self.voxel_size_um)
        depth += np.float32(0.5)
        return np.clip(depth, 0, 1, out=depth), mineral

    # -- trabecular bone -----------------------------------------------------------------------------------

    @cached_property
    def _fields(self) -> list[_Waves]:
        rng = self._rng(_FIELD)
        fields = []
        for _ in range(3):
            direction = rng.standard_normal((48, 3))
            direction /= np.linalg.norm(direction, axis=1, keepdims=True)
            direction[:, 0] *= 0.7  # longer along the load
            fields.append(
                _Waves(
                    direction * (2 * math.pi / _FIELD_WAVELENGTH_UM),
                    rng.uniform(0, 2 * math.pi, 48),
                    np.full(48, math.sqrt(2 / 48)),
                )
            )
        return fields

    @property
    def _plateness(self) -> float:
        """0 gives rods, 1 plates."""
        return float(np.clip((self.bone_volume_fraction - ROD_BELOW) / (PLATE_ABOVE - ROD_BELOW), 0, 1))

    def _structure(self, fields: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """Bone is where this is small: the distance from where two fields vanish, or one, um.

        Args:
            fields: three arrays of (4, ...), see :meth:`_Waves.distance_at`.
        """
        rod = np.full(fields[0].shape[1:], np.inf, dtype=np.float32)
        for one, other in combinations(fields, 2):
            cosine = (one[1:] * other[1:]).sum(axis=0)
            square = one[0] * one[0] + other[0] * other[0] - 2 * cosine * one[0] * other[0]
            square /= np.maximum(1 - cosine * cosine, np.float32(0.02))
            np.minimum(rod, square, out=rod)
        np.sqrt(np.maximum(rod, 0), out=rod)
        plate = np.min([np.abs(field[0]) for field in fields], axis=0)
        weight = np.float32(0.93 * self._plateness)
        return np.asarray(weight * plate + (1 - weight) * rod, dtype=np.float32)

    def _structure_volume(self, affine: _Affine) -> NDArray[np.float32]:
        volume = np.empty(self.shape, dtype=np.float32)
        planes = zip(*(field.distance_planes(affine, self.shape) for field in self._fields), strict=True)
        for z, values in enumerate(planes):
            volume[z] = self._structure(list(values))
        # without this, slits stay where two sheets or lines pass each other, and look like cracks
        return np.asarray(gaussian_filter(volume, _SMOOTH_UM / self.voxel_size_um, truncate=3.0, output=volume))

    def _structure_at(self, points_um: NDArray[np.float64]) -> NDArray[np.float32]:
        return self._structure([field.distance_at(points_um) for field in self._fields])

    @cached_property
    def _level(self) -> float:
        volume = self._structure_volume(self._affine(1))
        rank = round(self.bone_volume_fraction * (volume.size - 1))
        return float(np.partition(volume, rank, axis=None)[rank])

    def _trabecular(self, affine: _Affine) -> NDArray[np.float32]:
        """Share of a voxel that is bone: the level's distance to first order."""
        level = np.float32(self._level)
        volume = self._structure_volume(affine)
        slope = np.zeros(self.shape, dtype=np.float32)
        for axis in range(3):
            gradient = np.gradient(volume, axis=axis)
            gradient *= gradient
            slope += gradient
            del gradient
        np.sqrt(slope, out=slope)
        np.maximum(slope, np.float32(1e-6), out=slope)
        np.subtract(level, volume, out=volume)
        volume /= slope
        volume += np.float32(0.5)
        return np.clip(volume, 0, 1, out=volume)

    # -- cracks --------------------------------------------------------------------------------------------

    def _crack(self, number: int, affine: _Affine) -> NDArray[np.float32]:
        """Share of a voxel that is open, were all of it bone."""
        crack = np.zeros(self.shape, dtype=np.float32)
        if number > 1 and self.bone == "cortical":
            self._open_surface(crack, self.opening_voxels(number), affine)
        elif number > 1:
            for gap in self._gaps:
                self._open_gap(crack, gap, self.opening_voxels(number, gap.onset), affine)
        return crack

    def _open_surface(self, crack: NDArray[np.float32], opening: float, affine: _Affine) -> None:
        """Open the longitudinal crack."""
        rng = self._rng(_CRACK)
        around, tilt = rng.uniform(0, 2 * math.pi), math.radians(rng.uniform(-6, 6))
        normal = np.array([math.sin(tilt), math.cos(tilt) * math.sin(around), math.cos(tilt) * math.cos(around)])
        middle = (np.array(self.shape) - 1) / 2 * self.voxel_size_um
        middle[1:] += rng.uniform(-0.1, 0.1, 2) * self._extent_um[1:]
        shape = _surface_waves(rng, normal, wavelengths_um=(500.0, 1100.0), height_um=22.0)
        rough = _surface_waves(rng, normal, wavelengths_um=(110.0, 260.0), height_um=4.0)
        surface = _Waves(*(np.concatenate(pair) for pair in zip(shape, rough, strict=True)))
        width = _surface_waves(rng, normal, wavelengths_um=(200.0, 500.0), height_um=0.5 * _WIDTH_VARIATION)
        vector = (normal @ affine.matrix / self.voxel_size_um).astype(np.float32)
        through = float(surface.at(middle[None])[0])  # so that the crack passes the middle, however small the volume
        constant = np.float32((normal @ (affine.offset - middle) + through) / self.voxel_size_um)
        rows, columns = (np.arange(size, dtype=np.float32) for size in self.shape[1:])
        flat = vector[1] * rows[:, None] + vector[2] * columns + constant
        planes = zip(surface.planes(affine, self.shape), width.planes(affine, self.shape), strict=True)
        for z, (height, variation) in enumerate(planes):
            distance = flat + vector[0] * np.float32(z) - height / np.float32(self.voxel_size_um)
            wide = 1 + np.clip(variation, -_WIDTH_VARIATION, _WIDTH_VARIATION)
            crack[z] = _slab_share(distance, np.float32(opening) * wide)

    @cached_property
    def _gaps(self) -> list[_Gap]:
        """Failed struts: places in bone that goes on above and below, with marrow beside, no two near each other."""
        rng = self._rng(_CRACK)
        extent = self._extent_um
        count = max(6, round(_GAPS_PER_MM3 * float(np.prod(extent)) * 1e-9))
        places = rng.uniform(0.06, 0.94, (60 * count + 2000, 3)) * extent
        along, row, column = np.diag([50.0, 1.2 * _GAP_RADIUS_UM, 1.2 * _GAP_RADIUS_UM])
        strut = np.max([self._structure_at(places + shift) for shift in (-along, 0 * along, along)], axis=0)
        beside = np.mean([self._structure_at(places + shift) for shift in (-row, row, -column, column)], axis=0)
        deep = places[np.argsort(strut - 0.5 * beside)[: max(8 * count, 200)]]
        gaps: list[_Gap] = []
        for centre in rng.permutation(deep):
            if len(gaps) == count:
                break
            if any(np.linalg.norm(centre - gap.centre) < _GAP_RADIUS_UM for gap in gaps):
                continue
            tilt, around = math.radians(rng.uniform(3, 25)), rng.uniform(0, 2 * math.pi)
            normal = np.array([math.cos(tilt), math.sin(tilt) * math.sin(around), math.sin(tilt) * math.cos(around)])
            late = rng.integers(self.visible_from, self.states + 1)
            onset = self.visible_from if len(gaps) % 2 == 0 else int(late)
            rough = _surface_waves(rng, normal, wavelengths_um=(80.0, 240.0), height_um=6.0)
            gaps.append(_Gap(centre, normal, _GAP_RADIUS_UM * rng.uniform(0.8, 1.1), onset, rough))
        return gaps

    def _open_gap(self, crack: NDArray[np.float32], gap: _Gap, opening: float, affine: _Affine) -> None:
        centre = affine.indices(gap.centre[None])[0]
        reach = gap.radius / self.voxel_size_um + 3
        box = self._box(centre - reach, centre + reach)
        if box is None:
            return
        points = affine.points(box)
        offset = [p - np.float32(c) for p, c in zip(points, gap.centre, strict=True)]
        along = np.asarray(sum(o * np.float32(n) for o, n in zip(offset, gap.normal, strict=True)), dtype=np.float32)
        square = sum(o * o for o in offset) - along * along
        lateral = np.sqrt(np.maximum(square, 0))
        stacked = np.stack(points, axis=-1).reshape(-1, 3).astype(np.float64)
        along -= gap.roughness.at(stacked).reshape(along.shape).astype(np.float32)
        v = np.float32(self.voxel_size_um)
        share = _slab_share(along / v, np.float32(opening))
        share *= np.clip((np.float32(gap.radius) - lateral) / v + np.float32(0.5), 0, 1)
        np.maximum(crack[box], share, out=crack[box])

    # -- scanner -------------------------------------------------------------------------------------------

    @cached_property
    def _mineral_waves(self) -> _Waves:
        rng = self._rng(_MINERAL)
        direction = rng.standard_normal((24, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        vectors = direction * (2 * math.pi / rng.uniform(60, 260, 24))[:, None]
        return _Waves(vectors, rng.uniform(0, 2 * math.pi, 24), np.full(24, 0.015 * math.sqrt(2 / 24)))

    def _add_rings(self, image: NDArray[np.float32], number: int) -> NDArray[np.uint8]:
        """Add rings round the volume's axis, each over some of the planes; return where they are."""
        rng = self._rng(_RINGS, number)
        planes, rows, columns = self.shape
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
        ring = np.empty(self.shape, dtype=np.uint8)
        for z in range(planes):
            values = profile[z][radius]
            image[z] += values
            ring[z] = values != 0
        return ring

    def _add_scanner(self, image: NDArray[np.float32], number: int) -> None:
        """Drift of brightness and contrast, and impulses at state 1."""
        rng = self._rng(_SCANNER, number)
        gain, offset = rng.normal(1.0, 0.015), rng.normal(0.0, 0.006)
        if number == 1:
            rng = self._rng(_ZINGERS)
            hit = rng.choice(image.size, round(0.005 * image.size), replace=False)
            bright = rng.uniform(size=hit.size) < 0.7
            size = rng.uniform(0.5, 1.0, hit.size)
            image.reshape(-1)[hit] += np.where(bright, size, -size).astype(np.float32)
            gain, offset = gain * 1.15, offset + 0.06
        image *= np.float32(gain)
        image += np.float32(offset)


def _over_slope(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide a field and its gradient, (4, ...), by the gradient's length."""
    slope = np.sqrt((field[1:] * field[1:]).sum(axis=0))
    return np.asarray(field / np.maximum(slope, np.float32(1e-9)), dtype=np.float32)


def _slab_share(distance: NDArray[np.float32], width: NDArray[np.float32] | np.float32) -> NDArray[np.float32]:
    """Share of a voxel within a slab: overlap of one voxel's length round ``distance`` with the slab; all in voxels."""
    half = np.float32(0.5)
    share = np.minimum(np.abs(distance) + half, half * width) - np.maximum(np.abs(distance) - half, -half * width)
    return np.asarray(np.maximum(share, 0), dtype=np.float32)


def _surface_waves(
    rng: np.random.Generator, normal: NDArray[np.float64], *, wavelengths_um: tuple[float, float], height_um: float
) -> _Waves:
    """Random waves along a surface; ``height_um`` is their standard deviation."""
    first = np.cross(normal, np.eye(3)[np.argmin(np.abs(normal))])
    first /= np.linalg.norm(first)
    second = np.cross(normal, first)
    angle = rng.uniform(0, 2 * math.pi, 12)
    direction = np.outer(np.cos(angle), first) + np.outer(np.sin(angle), second)
    vectors = direction * (2 * math.pi / rng.uniform(*wavelengths_um, 12))[:, None]
    return _Waves(vectors, rng.uniform(0, 2 * math.pi, 12), np.full(12, height_um * math.sqrt(2 / 12)))
