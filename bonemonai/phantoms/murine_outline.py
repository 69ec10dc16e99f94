"""Outer and inner surfaces of a mouse's distal femur and lumbar vertebra, as distances anywhere in space."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.murine_specimen import MurineSpecimen
from bonemonai.phantoms.specimen import Draw, random_numbers

Field = NDArray[np.float32]
_LEAST_CT_TH_UM = 100.0


class Surfaces(NamedTuple):
    """Distances in um, to first order: negative inside.

    Attributes:
        outer: from the outer surface.
        inner: from the surface of the marrow space; between the two is the shell.
    """

    outer: Field
    inner: Field


class FemurOutline:
    """The distal metaphysis and what follows of the diaphysis, from just above the growth plate (z = 0) upwards.

    An ellipse with a few Fourier terms, which narrows and rounds with z while its shell thickens.

    Args:
        specimen: whose.
    """

    def __init__(self, specimen: MurineSpecimen) -> None:
        self.specimen = specimen
        rng = random_numbers(specimen.seed, Draw.ANATOMY, 10)
        # plain numbers: NumPy's would make double precision of every field
        self._wide = (specimen.size * rng.uniform(1100, 1200, 2) * (1.0, 0.76)).tolist()  # semi-axes (x, y) at z = 0
        self._narrow = (specimen.size * rng.uniform(780, 860, 2) * (1.0, 0.78)).tolist()
        self._shape = (rng.normal(0, 1, (3, 2)) @ (1, 1j) * (0.035, 0.022, 0.012)).tolist()  # radius: terms 2 to 4
        self._shell = (rng.normal(0, 1, (3, 2)) @ (1, 1j) * (0.08, 0.06, 0.05)).tolist()  # thickness: terms 1 to 3
        self._lean = rng.uniform(-0.04, 0.04, 2).tolist()

    @property
    def box_um(self) -> NDArray[np.float64]:
        """Corners (z, y, x) of a box that holds all of it."""
        x, y = (1.15 * edge + 200 for edge in self._wide)
        return np.array([[-500.0, -y, -x], [6000.0, y, x]])

    def surfaces(self, z: Any, y: Any, x: Any) -> Surfaces:
        """Distances at places; arguments broadcast, um."""
        z, y, x = (np.asarray(axis, dtype=np.float32) for axis in (z, y, x))
        narrowing = np.exp(-np.maximum(z, -1000) / 1100)
        a, b = (n + (w - n) * narrowing for w, n in zip(self._wide, self._narrow, strict=True))
        place = (x - self._lean[1] * z) + 1j * (y - self._lean[0] * z)
        place += np.where(place == 0, np.float32(1e-3), np.float32(0))
        radius = np.abs(place)
        unit = (place / radius).astype(np.complex64)
        cos, sin = unit.real, unit.imag
        flat = (b * cos) ** 2 + (a * sin) ** 2
        rim = a * b / np.sqrt(flat)
        second = unit * unit
        third = second * unit
        wave = _term(self._shape[0], second) + _term(self._shape[1], third) + _term(self._shape[2], second * second)
        slope = (a * a - b * b) * sin * cos / flat
        outer = (radius - rim * (1 + wave)) / np.sqrt(1 + slope * slope)
        thick = np.maximum(self.specimen.ct_th_um * (1 - 0.5 * narrowing), _LEAST_CT_TH_UM)
        uneven = _term(self._shell[0], unit) + _term(self._shell[1], second) + _term(self._shell[2], third)
        inner = outer + thick * (1 + uneven)
        return Surfaces(outer.astype(np.float32), inner.astype(np.float32))

    @property
    def half_width_um(self) -> float:
        """From the axis to the lateral surface, at z = 0."""
        return float(self._wide[0])

    def abundance(self, z: Any) -> Any:
        """How many of the trabeculae there are at a height: all from 2 on, none below -2, half at 0."""
        return 2.6 - np.asarray(z, dtype=np.float32) / 850


class VertebraOutline:
    """A lumbar vertebra, cranial end at negative z, z = 0 in the middle of its body, the spinous process towards +y.

    A body with a waist, a canal, a neural arch that spans part of the height, and processes; end plates, no growth
    plates.

    Args:
        specimen: whose.
    """

    def __init__(self, specimen: MurineSpecimen) -> None:
        self.specimen = specimen
        rng = random_numbers(specimen.seed, Draw.ANATOMY, 11)
        size = specimen.size
        self._half_height = float(size * rng.uniform(1500, 1750))
        self._body = (size * rng.uniform((840, 540), (920, 620))).tolist()  # semi-axes along (x, y) at the waist
        self._canal = (size * rng.uniform((520, 380), (600, 440))).tolist()
        self._arch_um = float(rng.uniform(130, 180))
        self._reach = (size * rng.uniform(0.95, 1.05, 3)).tolist()

    @property
    def box_um(self) -> NDArray[np.float64]:
        """Corners (z, y, x) of a box that holds all of it."""
        z, y = self._half_height, self._body[1]
        dorsal = self._canal_centre + self._canal[1] + 900 * self._reach[0]
        return np.array([[-z - 400, -1.25 * y - 50, -1900 * self._reach[1]], [z + 400, dorsal, 1900 * self._reach[1]]])

    @property
    def _canal_centre(self) -> float:
        return float(self._body[1] + 0.72 * self._canal[1])

    def surfaces(self, z: Any, y: Any, x: Any) -> Surfaces:
        """Distances at places; arguments broadcast, um."""
        z, y, x = (np.asarray(axis, dtype=np.float32) for axis in (z, y, x))
        x = np.abs(x)
        height = np.clip(z / self._half_height, -1.2, 1.2)
        flare = 1 + 0.14 * height * height
        body = _smooth_max(
            _ellipse(x, y, self._body[0] * flare, self._body[1] * flare), np.abs(z) - self._half_height, 80
        )
        canal = _ellipse(x, y - self._canal_centre, *self._canal)
        arch = _smooth_max(canal - self._arch_um, np.abs(z + 0.12 * self._half_height) - 0.5 * self._half_height, 60)
        solid = _smooth_min(body, arch, 90)
        for start, stop, radii in self._processes():
            solid = _smooth_min(solid, _capsule((z, y, x), start, stop, radii), 90)
        outer = _smooth_max(solid, -canal, 40)
        return Surfaces(outer.astype(np.float32), (outer + self.specimen.ct_th_um).astype(np.float32))

    @property
    def half_width_um(self) -> float:
        """As of the femur; of the body."""
        return float(self._body[0])

    def abundance(self, z: Any) -> Any:
        """As of the femur: a little fewer at mid-height than near the end plates."""
        height = np.asarray(z, dtype=np.float32) / self._half_height
        return 1.5 + height * height

    def _processes(self) -> list[tuple[tuple[float, ...], tuple[float, ...], tuple[float, float]]]:
        """Tapered rods (z, y, x) of the right half: pedicle, transverse, articular, and the spinous process."""
        h, (_, b), (w, d) = self._half_height, self._body, self._canal
        back = self._canal_centre
        spinous, transverse, articular = self._reach
        return [
            ((-0.15 * h, 0.5 * b, w + 60), (-0.15 * h, back, w + 100), (190, 130)),
            ((-0.2 * h, 0.1 * b, self._body[0]), (-0.45 * h, -0.2 * b, 1650 * transverse), (200, 90)),
            ((-0.3 * h, back + 0.3 * d, w + 120), (-0.95 * h, back + 0.5 * d, w + 260 * articular), (150, 190)),
            ((0.1 * h, back + 0.7 * d, 0.75 * w), (0.8 * h, back + 0.6 * d, 0.55 * w), (130, 120)),
            ((-0.25 * h, back + d + 40, 0), (0.1 * h, back + d + 650 * spinous, 0), (130, 90)),
        ]


def inside_share(distance: Field, voxel_size_um: float) -> Field:
    """Share of a voxel on the inner side of a surface, to first order.

    Args:
        distance: of the voxel's middle from the surface, um, negative inside.
        voxel_size_um: edge length of a voxel.

    Example:
        >>> inside_share(np.array([-20.0, 0.0, 2.5], np.float32), 10.0)
        array([1.  , 0.5 , 0.25], dtype=float32)
    """
    return np.asarray(np.clip(np.float32(0.5) - distance / np.float32(voxel_size_um), 0, 1), dtype=np.float32)


def murine_outline(specimen: MurineSpecimen) -> FemurOutline | VertebraOutline:
    """The outline of a specimen's site."""
    return FemurOutline(specimen) if specimen.site == "femur" else VertebraOutline(specimen)


def _term(coefficient: complex, unit: NDArray[np.complex64]) -> Field:
    return np.asarray(unit.real * coefficient.real + unit.imag * coefficient.imag)


def _ellipse(x: Any, y: Any, a: Any, b: Any) -> Any:
    """Distance to an ellipse, to first order."""
    x = np.abs(x) + 1e-3  # the middle has no direction
    level = np.hypot(x / a, y / b)
    return level * (level - 1) / np.hypot(x / (a * a), y / (b * b))


def _capsule(place: Any, start: tuple[float, ...], stop: tuple[float, ...], radii: tuple[float, float]) -> Any:
    """Distance to a rod with round ends whose radius changes along it."""
    offset = [axis - s for axis, s in zip(place, start, strict=True)]
    along = [e - s for s, e in zip(start, stop, strict=True)]
    square = math.fsum(step * step for step in along)
    share = np.clip(sum(o * a for o, a in zip(offset, along, strict=True)) / square, 0, 1)
    distance = np.sqrt(sum((o - share * a) ** 2 for o, a in zip(offset, along, strict=True)))
    return distance - (radii[0] + share * (radii[1] - radii[0]))


def _smooth_min(one: Any, other: Any, blend_um: float) -> Any:
    """The lesser of two distances, rounded where they are nearly the same."""
    near = np.maximum(blend_um - np.abs(one - other), 0)
    return np.minimum(one, other) - near * near / (4 * blend_um)


def _smooth_max(one: Any, other: Any, blend_um: float) -> Any:
    return -_smooth_min(-one, -other, blend_um)
