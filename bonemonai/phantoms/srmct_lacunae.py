"""Synthetic synchrotron microCT of bone with osteocyte lacunae, and the truth beside it (paper 1)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

Diagnosis = Literal["healthy", "osteoporotic"]

# Ranges between which every lacuna is drawn: those of 122 human lacunae measured by confocal microscopy
# (cells_FM40-1-R1/R2 of Shahak-Kuba/Osteocyte_distribution_analysis, MIT).
VOLUME_RANGE_UM3 = (54.0, 1930.0)
STRETCH_RANGE = (0.43, 0.86)
OBLATENESS_RANGE = (-0.86, 0.90)

_CELL_UM = 48.0  # lacunae are drawn cell by cell, so that any block can be made without the others
_WAVELENGTH_UM = 400.0  # of the trabecular structure
_SPACING_UM = 16.0  # least distance of two centres
_DEPTH_UM = 8.0  # typical least depth of a centre below the bone surface (at the field's mean slope)
_HALO = 8  # planes; 3 sigma of the widest filter and more


class LacunaPopulation(NamedTuple):
    """What a diagnosis changes.

    Attributes:
        number_density_per_mm3: lacunae per bone volume (Lc.N/BV), away from surfaces.
        volume_um3: median lacuna volume.
        stretch: mean of 1 - c/a, a and c being the longest and shortest semi-axis; 0 is a sphere.
    """

    number_density_per_mm3: float
    volume_um3: float
    stretch: float


POPULATIONS: dict[Diagnosis, LacunaPopulation] = {
    # near the table's medians: volume 249 and 334 um3, stretch .72 and .69
    "healthy": LacunaPopulation(26_000.0, 280.0, 0.70),
    # fewer, larger and rounder, the direction reported for osteopenic bone (van Hove et al., Bone 2009)
    "osteoporotic": LacunaPopulation(20_000.0, 370.0, 0.58),
}


def population_of(diagnosis: Diagnosis, effect: float = 1.0) -> LacunaPopulation:
    """Lacunae of a diagnosis, the difference between the two diagnoses exaggerated.

    Args:
        diagnosis: "healthy" or "osteoporotic".
        effect: 1 gives :data:`POPULATIONS`; at e, osteoporotic differs from healthy by the e-th power of the ratio of
            each number; at 0 both are alike.

    Example:
        >>> population_of("osteoporotic", 2).number_density_per_mm3  # 26000 * (20000 / 26000)^2
        15384.615384615385
    """
    healthy, chosen = POPULATIONS["healthy"], POPULATIONS[diagnosis]
    if effect == 1:
        return chosen  # to the last digit
    return LacunaPopulation(*(one * (other / one) ** effect for one, other in zip(healthy, chosen, strict=True)))


class PhantomBlock(NamedTuple):
    """Consecutive planes of a phantom, each array of shape (planes, rows, columns).

    Attributes:
        image: float32 grey values.
        lacunae: uint8, 1 inside a lacuna.
        bone: uint8, 1 inside bone, lacunae included; marrow and vessels are 0.
    """

    image: NDArray[np.float32]
    lacunae: NDArray[np.uint8]
    bone: NDArray[np.uint8]


@dataclass(frozen=True)
class SRMicroCTPhantom:
    """A seeded bone sample as a synchrotron microCT would show it.

    Bone is a thresholded random field (trabecular) or solid (cortical), crossed by vessels. Ellipsoidal
    lacunae lie in it, no two centres nearer than 16 um, roughly aligned. The image adds mineral variation,
    partial volume, faint pores and specks that are no lacunae, phase-contrast fringes at every interface,
    correlated noise, cupping and ring artefacts. Every plane depends on the seed and its own index alone, so
    blocks of any size, made in any order, fit together, and memory does not grow with depth.

    Args:
        shape: (planes, rows, columns).
        seed: every random number derives from it.
        diagnosis: chooses the :data:`POPULATIONS` entry.
        bone: "trabecular" or "cortical".
        bone_fraction: share of a trabecular sample that is not marrow, 0 to 1. The default is a dense region, chosen
            for many training patches; the mean of a femoral head is about 0.3.
        grey_range: "positive", values in [0, 1], or "negative", in [-1, 0] (the paper's acquisition error).
        voxel_size_um: edge length of a voxel.
        noise: standard deviation of the noise, in units of the grey range.
        effect: of the diagnosis, see :func:`population_of`; 1 is what the literature gives.

    Example:
        >>> phantom = SRMicroCTPhantom(shape=(4, 40, 40), seed=1)
        >>> phantom.block(1, 3).image.shape
        (2, 40, 40)
    """

    shape: tuple[int, int, int]
    seed: int
    diagnosis: Diagnosis = "healthy"
    bone: Literal["trabecular", "cortical"] = "trabecular"
    bone_fraction: float = 0.8
    grey_range: Literal["positive", "negative"] = "positive"
    voxel_size_um: float = 1.6
    noise: float = 0.055
    effect: float = 1.0
    _bone_grey: float = field(default=0.62, repr=False)
    _fluid_grey: float = field(default=0.34, repr=False)

    def __post_init__(self) -> None:
        if min(self.shape) < 1:
            raise ValueError(f"shape must be >= 1 along every axis, got {self.shape}.")
        if not 0 < self.bone_fraction < 1:
            raise ValueError(f"bone_fraction must be within (0, 1), got {self.bone_fraction}.")
        if not self.voxel_size_um > 0:
            raise ValueError(f"voxel_size_um must be > 0 (micrometres), got {self.voxel_size_um}.")

    def blocks(self, planes: int | None = None) -> Iterator[tuple[int, PhantomBlock]]:
        """Yield (first plane, block) over the whole phantom.

        Args:
            planes: planes a block; None chooses it so that a block holds about 8 million voxels.
        """
        if planes is None:
            planes = max(1, 8_000_000 // (self.shape[1] * self.shape[2]))
        for start in range(0, self.shape[0], planes):
            yield start, self.block(start, min(start + planes, self.shape[0]))

    def block(self, start: int, stop: int) -> PhantomBlock:
        """Make planes start to stop - 1.

        Args:
            start: first plane.
            stop: one past the last plane.
        """
        if not 0 <= start < stop <= self.shape[0]:
            raise IndexError(f"planes [{start}, {stop}) are not within {self.shape[0]}.")
        low, high = start - _HALO, stop + _HALO
        bone, depth_field = self._bone(low, high)
        lacunae, coverage = self._lacunae(low, high)
        lacunae &= bone
        grey = np.where(bone, self._mineral(low, high, depth_field), np.float32(self._fluid_grey))
        grey += coverage * bone * (self._fluid_grey - grey)
        grey = self._optics(grey)
        grey += self._noise(low, high)
        core = slice(_HALO, _HALO + stop - start)
        image = grey[core] + self._shading(start, stop)
        np.clip(image, 0.0, 1.0, out=image)
        if self.grey_range == "negative":
            image -= 1.0
        return PhantomBlock(image.astype(np.float32), lacunae[core].astype(np.uint8), bone[core].astype(np.uint8))

    # -- anatomy -------------------------------------------------------------------------------------------

    def _rng(self, *key: int) -> np.random.Generator:
        # offset: a seed sequence takes no negative numbers, and halo planes and cells have them
        return np.random.default_rng(np.random.SeedSequence([self.seed, *(number + 2**31 for number in key)]))

    @cached_property
    def _waves(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Wave vectors (rad / um) and phases of the Gaussian random field (Cahn's random waves)."""
        rng = self._rng(0)
        direction = rng.standard_normal((48, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        return direction * (2 * math.pi / _WAVELENGTH_UM), rng.uniform(0, 2 * math.pi, 48)

    def _field(self, points_um: NDArray[np.float64]) -> NDArray[np.float64]:
        vectors, phases = self._waves
        value: NDArray[np.float64] = np.cos(points_um @ vectors.T + phases).sum(axis=1) * math.sqrt(2 / 48)
        return value

    def _field_planes(self, low: int, high: int) -> NDArray[np.float32]:
        """The field on whole planes, by one matrix product a plane."""
        vectors, phases = self._waves
        _, rows, columns = self.shape
        along_rows = np.outer(np.arange(rows) * self.voxel_size_um, vectors[:, 1])
        along_columns = np.outer(vectors[:, 2], np.arange(columns) * self.voxel_size_um)
        right = np.vstack([np.cos(along_columns), np.sin(along_columns)]).astype(np.float32)
        planes = np.empty((high - low, rows, columns), dtype=np.float32)
        for index, z in enumerate(range(low, high)):
            angle = along_rows + phases + z * self.voxel_size_um * vectors[:, 0]
            left = np.hstack([np.cos(angle), -np.sin(angle)]).astype(np.float32)
            planes[index] = left @ right * np.float32(math.sqrt(2 / 48))
        return planes

    @cached_property
    def _level(self) -> float:
        """Bone is where the field exceeds this: its quantile over the sample, found on a coarse grid."""
        if self.bone == "cortical":
            return -math.inf
        edges = [np.linspace(0, size * self.voxel_size_um, 24) for size in self.shape]
        points = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(-1, 3)
        return float(np.quantile(self._field(points), 1 - self.bone_fraction))

    @cached_property
    def _vessels(self) -> NDArray[np.float64]:
        """One straight vessel a row: y, x at z = 0 (um), their change along z, radius (um)."""
        rng = self._rng(1)
        spacing_um, radius_um = (250.0, (15.0, 35.0)) if self.bone == "cortical" else (400.0, (8.0, 14.0))
        margin_um = 50.0 + 0.15 * self.shape[0] * self.voxel_size_um
        extent = np.array(self.shape[1:]) * self.voxel_size_um
        count = rng.poisson(np.prod(extent + 2 * margin_um) / spacing_um**2)
        origin = rng.uniform(-margin_um, extent + margin_um, (count, 2))
        slope = rng.uniform(-0.15, 0.15, (count, 2))
        return np.column_stack([origin, slope, rng.uniform(*radius_um, count)])

    def _bone(self, low: int, high: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        values = self._field_planes(low, high)
        bone = values > self._level
        for index, z in enumerate(range(low, high)):
            for y, x, dy, dx, radius in self._vessels:
                z_um = z * self.voxel_size_um
                self._carve_disk(bone[index], y + dy * z_um, x + dx * z_um, radius)
        return bone, values

    def _carve_disk(self, plane: NDArray[np.bool_], y_um: float, x_um: float, radius_um: float) -> None:
        v = self.voxel_size_um
        rows = slice(max(0, math.ceil((y_um - radius_um) / v)), max(0, math.floor((y_um + radius_um) / v) + 1))
        columns = slice(max(0, math.ceil((x_um - radius_um) / v)), max(0, math.floor((x_um + radius_um) / v) + 1))
        view = plane[rows, columns]
        if view.size:
            y = (np.arange(rows.start, rows.start + view.shape[0]) * v - y_um)[:, None]
            x = np.arange(columns.start, columns.start + view.shape[1]) * v - x_um
            view[y * y + x * x <= radius_um**2] = False

    def _lacunae(self, low: int, high: int) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Whether a voxel's centre lies in a lacuna, and the share of the voxel that does."""
        inside = np.zeros((high - low, *self.shape[1:]), dtype=bool)
        coverage = np.zeros(inside.shape, dtype=np.float32)
        for ellipsoid in self._draw_ellipsoids(low, high):
            self._draw_ellipsoid(ellipsoid, low, inside, coverage)
        return inside, coverage

    def _draw_ellipsoids(self, low: int, high: int) -> NDArray[np.float64]:
        """Centres (3), semi-axes (3) in um and orientation (quaternion, 4) of lacunae that may touch the planes."""
        margin = _longest_semi_axis_um()
        reach = margin + _SPACING_UM
        bounds = [
            (low * self.voxel_size_um - reach, high * self.voxel_size_um + reach),
            *((-reach, size * self.voxel_size_um + reach) for size in self.shape[1:]),
        ]
        cells = [range(math.floor(lo / _CELL_UM), math.ceil(hi / _CELL_UM)) for lo, hi in bounds]
        drawn = np.concatenate([self._cell(z, y, x) for z in cells[0] for y in cells[1] for x in cells[2]])
        # Matern's second thinning: of two candidates too near, the one with the lower mark stays
        pairs = cKDTree(drawn[:, :3]).query_pairs(_SPACING_UM, output_type="ndarray")
        keep = np.ones(len(drawn), dtype=bool)
        first, second = pairs[:, 0], pairs[:, 1]
        keep[np.where(drawn[first, -1] > drawn[second, -1], first, second)] = False
        keep &= self._is_deep_in_bone(drawn[:, :3])
        keep &= np.abs(drawn[:, 0] - (low + high) / 2 * self.voxel_size_um) <= (
            (high - low) / 2 * self.voxel_size_um + margin
        )
        return drawn[keep, :-1]

    def _cell(self, z: int, y: int, x: int) -> NDArray[np.float64]:
        """Candidates of one cell, a row each: centre, semi-axes, quaternion, mark."""
        rng = self._rng(2, z, y, x)
        population = population_of(self.diagnosis, self.effect)
        ball = 4 / 3 * math.pi * _SPACING_UM**3
        # the density before thinning that leaves the wanted one after it
        density = -math.log(1 - population.number_density_per_mm3 * 1e-9 * ball) / ball
        count = rng.poisson(density * _CELL_UM**3)
        centre = (np.array([z, y, x]) + rng.uniform(0, 1, (count, 3))) * _CELL_UM
        volume = np.clip(population.volume_um3 * np.exp(0.4 * rng.standard_normal(count)), *VOLUME_RANGE_UM3)
        stretch = np.clip(rng.normal(population.stretch, 0.07, count), *STRETCH_RANGE)
        oblateness = np.clip(rng.normal(-0.25, 0.35, count), *OBLATENESS_RANGE)
        axes = semi_axes_um(volume, stretch, oblateness)
        # long axes scatter by some 25 degrees round a direction of the sample's own
        scatter = Rotation.from_rotvec(rng.normal(0, 0.45, (count, 3)))
        quaternion = (scatter * self._alignment).as_quat() if count else np.empty((0, 4))
        return np.column_stack([centre, axes, quaternion, rng.uniform(size=count)])

    @cached_property
    def _alignment(self) -> Rotation:
        return Rotation.from_rotvec(self._rng(3).normal(0, 1.0, 3))

    def _is_deep_in_bone(self, centres_um: NDArray[np.float64]) -> NDArray[np.bool_]:
        deep = self._field(centres_um) > self._level + _DEPTH_UM * 2 * math.pi / _WAVELENGTH_UM
        for y, x, dy, dx, radius in self._vessels:
            offset = centres_um[:, 1:] - [y, x] - np.outer(centres_um[:, 0], [dy, dx])
            deep &= np.hypot(*offset.T) > radius + _DEPTH_UM
        return deep

    def _draw_ellipsoid(
        self,
        ellipsoid: NDArray[np.float64],
        low: int,
        inside: NDArray[np.bool_],
        coverage: NDArray[np.float32],
    ) -> None:
        v = self.voxel_size_um
        centre = ellipsoid[:3] / v - [low, 0, 0]
        axes = ellipsoid[3:6] / v
        reach = math.ceil(axes.max()) + 1
        start = np.maximum(np.floor(centre).astype(int) - reach, 0)
        stop = np.minimum(np.floor(centre).astype(int) + reach + 2, inside.shape)
        if (stop <= start).any():
            return
        box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        grid = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(start, stop, strict=True)), indexing="ij"), -1)
        local = (grid - centre) @ Rotation.from_quat(ellipsoid[6:10]).as_matrix()
        scaled = local / axes
        radius = np.linalg.norm(scaled, axis=-1)
        # distance to the surface in voxels, to first order; a voxel's share falls from 1 to 0 over one voxel
        slope = np.linalg.norm(scaled / axes, axis=-1) / np.maximum(radius, 1e-9)
        distance = (radius - 1.0) / np.maximum(slope, 1e-9)
        inside[box] |= radius <= 1.0
        np.maximum(coverage[box], np.clip(0.5 - distance, 0.0, 1.0), out=coverage[box])

    # -- image ---------------------------------------------------------------------------------------------

    def _mineral(self, low: int, high: int, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Grey value of bone: slow mineral variation, and small blobs, darker or brighter, that are no lacunae."""
        grey = np.float32(self._bone_grey) + np.float32(0.07) * np.sin(np.float32(6.0) * values)
        v = self.voxel_size_um
        for z in range(math.floor(low * v / _CELL_UM) - 1, math.ceil(high * v / _CELL_UM) + 1):
            for y in range(math.ceil(self.shape[1] * v / _CELL_UM)):
                for x in range(math.ceil(self.shape[2] * v / _CELL_UM)):
                    rng = self._rng(4, z, y, x)
                    for offset in rng.uniform(0, 1, (rng.poisson(2.0), 3)):
                        centre = (np.array([z, y, x]) + offset) * _CELL_UM / v - [low, 0, 0]
                        _add_blob(grey, centre, sigma=rng.uniform(0.7, 1.4), height=rng.uniform(-0.2, 0.15))
        return np.asarray(grey, dtype=np.float32)

    def _optics(self, grey: NDArray[np.float32]) -> NDArray[np.float32]:
        """Blur of the detector, then the over- and undershoot of propagation phase contrast at interfaces."""
        blurred = gaussian_filter(grey, 0.7, truncate=4.0)
        return np.asarray(blurred + 0.5 * (blurred - gaussian_filter(blurred, 1.8, truncate=3.0)), dtype=np.float32)

    def _noise(self, low: int, high: int) -> NDArray[np.float32]:
        noise = np.empty((high - low, *self.shape[1:]), dtype=np.float32)
        for index, z in enumerate(range(low, high)):
            self._rng(5, z).standard_normal(dtype=np.float32, out=noise[index])
        noise = gaussian_filter(noise, 0.6, truncate=4.0)
        # the filter's gain at sigma 0.6: sum of the squared kernel, cubed for three axes
        kernel = np.exp(-0.5 * (np.arange(-2, 3) / 0.6) ** 2)
        gain = (kernel**2).sum() / kernel.sum() ** 2
        return np.asarray(noise * np.float32(self.noise / gain**1.5), dtype=np.float32)

    def _shading(self, start: int, stop: int) -> NDArray[np.float32]:
        """Cupping, a slow drift along planes, and ring artefacts round the axis of rotation."""
        rows, columns = self.shape[1:]
        y = (np.arange(rows) - rows / 2)[:, None]
        x = np.arange(columns) - columns / 2
        radius = np.hypot(y, x)
        largest = radius.max()
        shading = np.empty((stop - start, rows, columns), dtype=np.float32)
        cupping = 0.08 * (radius / largest) ** 2 - 0.04
        for index, z in enumerate(range(start, stop)):
            rng = self._rng(6, z // 4)  # a detector row's error lasts for some planes
            profile = rng.standard_normal(int(largest) + 2) * 0.025
            profile[rng.uniform(size=profile.size) < 0.03] *= 3.0
            shading[index] = cupping + 0.02 * math.sin(z / 40.0 + self.seed) + profile[radius.astype(np.intp)]
        return shading


def semi_axes_um(
    volume_um3: NDArray[np.float64], stretch: NDArray[np.float64], oblateness: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Semi-axes a >= b >= c of ellipsoids of given volume and shape.

    Args:
        volume_um3: 4/3 pi a b c.
        stretch: 1 - c/a, in [0, 1).
        oblateness: 2 (b - c) / (a - c) - 1, from -1 (rod) to 1 (disk).

    Returns:
        (n, 3) in um, longest first.

    Example:
        >>> semi_axes_um(np.array([4 / 3 * np.pi]), np.array([0.0]), np.array([0.0])).round(6)
        array([[1., 1., 1.]])
    """
    c = 1.0 - stretch
    b = c + (oblateness + 1.0) / 2.0 * stretch
    a = np.cbrt(3.0 * volume_um3 / (4.0 * math.pi * b * c))
    return np.stack([a, a * b, a * c], axis=-1)


def _longest_semi_axis_um() -> float:
    most = semi_axes_um(*(np.array([bound]) for bound in (VOLUME_RANGE_UM3[1], STRETCH_RANGE[1], OBLATENESS_RANGE[0])))
    return float(most[0, 0])


def _add_blob(grey: NDArray[np.float32], centre: NDArray[np.float64], *, sigma: float, height: float) -> None:
    reach = math.ceil(3 * sigma)
    start = np.maximum(np.floor(centre).astype(int) - reach, 0)
    stop = np.minimum(np.floor(centre).astype(int) + reach + 2, grey.shape)
    if (stop <= start).any():
        return
    profiles = [
        np.exp(-0.5 * ((np.arange(a, b) - c) / sigma) ** 2) for a, b, c in zip(start, stop, centre, strict=True)
    ]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    grey[box] += (height * np.einsum("i,j,k->ijk", *profiles)).astype(np.float32)
