"""The lumbar spine as signed distances: vertebral bodies, arches, processes, ribs, sacrum and pelvis, in mm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.phantoms.lumbar_subject import LumbarSubject

Array = NDArray[np.float32]
NAMES = ("S1", "L5", "L4", "L3", "L2", "L1", "T12")
LABELS = {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24}  # of VerSe

# of S1 to T12: height, half width, half depth of the body, height of the disc above it, mm; tilt, degrees
_HEIGHT = (28.0, 27.0, 27.0, 27.0, 26.5, 25.5, 24.0)
_HALF_WIDTH = (27.0, 26.5, 25.3, 24.0, 22.8, 21.8, 20.3)
_HALF_DEPTH = (17.5, 17.8, 17.6, 17.2, 16.8, 16.2, 15.4)
_DISC = (10.0, 11.0, 10.5, 9.5, 8.5, 7.0, 5.5)
_TILT = (42.0, 23.0, 9.0, 0.0, -6.0, -11.0, -14.0)
_SPINE_KEY = 21


class Vertebra(NamedTuple):
    """One vertebra; u points to the left, v backwards, w along its axis upwards from its body's centre, mm.

    Attributes:
        name: "T12", "L1" to "L5" or "S1".
        centre: (x, y, z) of the body, mm in patient coordinates (LPS).
        tilt: of the axis, radians, positive to the front.
        turn: of u with y, and of u with z: axial rotation and scoliosis, small, as tangents.
        height: of the body at its centre.
        half_width: of its endplates.
        half_depth: of its endplates.
        disc: height of the disc above.
        waist: by how much the body is narrower at half height, as a share.
        osteophyte: by how much its rims are wider, as a share.
        concavity: depth of the endplates.
        wedge: lost share of the height in front.
        side_cortex: thickness of its shell.
        end_cortex: thickness of its endplates.
        vbmd: of its trabecular bone, mg/cm3.
        sclerosis: mineral added under the endplates, mg/cm3.
    """

    name: str
    centre: tuple[float, float, float]
    tilt: float
    turn: tuple[float, float]
    height: float
    half_width: float
    half_depth: float
    disc: float
    waist: float
    osteophyte: float
    concavity: float
    wedge: float
    side_cortex: float
    end_cortex: float
    vbmd: float
    sclerosis: float

    def local(self, x: Array, y: Array, z: Array) -> tuple[Array, Array, Array]:
        """u, v and w of points; arguments broadcast."""
        dx, dy, dz = (a - np.float32(c) for a, c in zip((x, y, z), self.centre, strict=True))
        sine, cosine = np.float32(math.sin(self.tilt)), np.float32(math.cos(self.tilt))
        u = dx + (np.float32(self.turn[0]) * dy + np.float32(self.turn[1]) * dz)
        return u, dy * cosine + dz * sine, dz * cosine - dy * sine

    def place(self, u: float, v: float, w: float) -> tuple[float, float, float]:
        """x, y and z of a point."""
        sine, cosine = math.sin(self.tilt), math.cos(self.tilt)
        dy, dz = v * cosine - w * sine, v * sine + w * cosine
        dx = u - self.turn[0] * dy - self.turn[1] * dz
        return self.centre[0] + dx, self.centre[1] + dy, self.centre[2] + dz

    def body(self, u: Array, v: Array, w: Array) -> tuple[Array, Array, Array]:
        """Depth below the side wall and below the endplates, mm, negative outside; and 0 (centre) to 1 (wall).

        Depths are exact where they are small, and too small nowhere that matters.
        """
        q2 = np.minimum(np.square(w * np.float32(2 / self.height)), np.float32(1))
        grown = 1 - self.waist * (1 - q2) + self.osteophyte * q2**5
        across, deep = u / (np.float32(self.half_width) * grown), v / (np.float32(self.half_depth) * grown)
        # flattened, behind even hollowed: a kidney, not an ellipse
        hollow = np.float32(0.24) * np.exp(-np.square(across * np.float32(1.9))) * np.clip(deep * 2, 0, 1)
        a2, d2 = np.square(across), np.square(deep + hollow)
        share = np.sqrt(np.maximum(a2 + d2 - np.float32(0.22) * a2 * d2, 0))
        # beyond twice its size the squared term turns round
        share = np.where(np.maximum(a2, d2) > 2.2, np.float32(2), share)
        radius = np.maximum(np.sqrt(np.square(u) + np.square(v)), np.float32(0.6 * self.half_depth))
        side = (1 - share) * radius
        lost = np.float32(0.5 * self.wedge) * np.clip(1 - deep, 0, 2) * np.float32(self.height / 2)
        dished = np.float32(self.concavity) * np.maximum(1 - a2 - d2, 0)
        end = np.float32(self.height / 2) - dished - np.abs(w) - lost * (w > 0)
        return side, end, share


class Rod(NamedTuple):
    """A bone drawn as a thick line from one point to another, mm.

    Attributes:
        start: (x, y, z) or (u, v, w).
        stop: see start.
        radius: in the slice.
        upright: radius along the third axis.
        cortex: thickness of its shell.
    """

    start: tuple[float, float, float]
    stop: tuple[float, float, float]
    radius: float
    upright: float
    cortex: float = 0.8

    def depth(self, a: Array, b: Array, c: Array) -> Array:
        """Depth below the surface, mm, negative outside; arguments broadcast."""
        squeeze = self.radius / self.upright
        start = np.array(self.start) * (1, 1, squeeze)
        along = np.array(self.stop) * (1, 1, squeeze) - start
        offsets = [
            axis - np.float32(s) for axis, s in zip((a, b, c * np.float32(squeeze)), start.tolist(), strict=True)
        ]
        scaled = (along / max(float(along @ along), 1e-9)).astype(np.float32)
        t = np.clip(sum(o * s for o, s in zip(offsets, scaled, strict=True)), 0, 1)
        square = sum(np.square(o - t * s) for o, s in zip(offsets, along.astype(np.float32), strict=True))
        return np.asarray(np.float32(self.radius) - np.sqrt(square), dtype=np.float32)


def build_spine(subject: LumbarSubject) -> list[Vertebra]:
    """S1 to T12, the body of L3 at height 0, in the middle of the trunk but for a slight scoliosis.

    Args:
        subject: whose.
    """
    rng = np.random.default_rng([subject.seed, _SPINE_KEY])
    size, bend = subject.size, rng.uniform(0.7, 1.15)
    sway, phase = rng.normal(0, 2.0), rng.uniform(0, 6.28)
    tilts = [math.radians(bend * t + rng.normal(0, 1.5)) for t in _TILT]
    porous = min(max((150 - subject.vbmd_mg_cm3) / 100, 0), 1)
    place = np.zeros(3)
    spine = []
    for index, name in enumerate(NAMES):
        height = _HEIGHT[index] * size * rng.normal(1, 0.02)
        level = 5 - index if 1 <= index <= 5 else None
        axis = np.array([0, -math.sin(tilts[index]), math.cos(tilts[index])])
        place += axis * height / 2
        lateral = sway * math.sin(place[2] / 45 + phase)
        vertebra = Vertebra(
            name,
            (lateral, float(place[1]), float(place[2])),
            tilts[index],
            (float(rng.normal(0, 0.03)), -sway / 45 * math.cos(place[2] / 45 + phase)),
            height,
            _HALF_WIDTH[index] * size * rng.normal(1, 0.025),
            _HALF_DEPTH[index] * size * rng.normal(1, 0.025),
            _DISC[index] * size * rng.uniform(0.7, 1.1),
            float(rng.uniform(0.09, 0.15)),
            0.0 if level is None else subject.osteophytes[level],
            float(rng.uniform(1.2, 2.6) + 1.5 * porous * rng.uniform()),
            0.0 if level is None else subject.collapse[level],
            0.5 * subject.cortex,
            0.7 * subject.cortex,
            subject.vbmd_mg_cm3 * (1.0 if level is None else subject.level_density[level]),
            0.0 if level is None else subject.sclerosis_mg_cm3[level],
        )
        spine.append(vertebra)
        place += axis * height / 2
        between = (tilts[index] + tilts[min(index + 1, len(tilts) - 1)]) / 2
        place += np.array([0, -math.sin(between), math.cos(between)]) * vertebra.disc
    l3 = spine[3].centre
    # tips of the spinous processes lie under the fat of the back
    back = subject.half_depth_mm - subject.back_fat_mm - (68 * size + 10)
    shift = np.array([-l3[0], back - l3[1], -l3[2]])
    return [v._replace(centre=tuple((np.array(v.centre) + shift).tolist())) for v in spine]


def posterior_rods(vertebra: Vertebra) -> list[Rod]:
    """Pedicles, laminae and processes in (|u|, v, w), so that each stands for both sides.

    Args:
        vertebra: whose.
    """
    k, b = vertebra.half_width / 22.0, vertebra.half_depth
    if vertebra.name == "S1":
        return [
            Rod((16 * k, -2, 0), (44 * k, 14, -8), 15 * k, 15 * k, 0.9),
            Rod((26 * k, 10, -4), (3, b + 20, -4), 5 * k, 14 * k),
            Rod((0, b + 20, -4), (0, b + 30, -8), 3, 10 * k),
        ]
    wide = 1.3 if vertebra.name == "L5" else 1.0
    rods = [
        Rod((12.5 * k, b - 5, 5 * k), (15.5 * k, b + 11 * k, 5 * k), 4.0 * k * wide, 7 * k),
        Rod((15 * k, b + 12 * k, 1), (5 * k, b + 20.5 * k, -5 * k), 3.3 * k, 9.5 * k),
        Rod((5 * k, b + 20.5 * k, -5 * k), (0, b + 23 * k, -6 * k), 3.6 * k, 9.5 * k),
        Rod((0, b + 25 * k, -6 * k), (0, b + 40 * k, -8 * k), 2.4 * k, 9 * k),
        Rod((0, b + 40 * k, -8 * k), (0, b + 48 * k, -9 * k), 3.6 * k, 9 * k),
        Rod((17 * k, b + 14 * k, 7 * k), (19 * k, b + 17 * k, 20 * k), 5.0 * k, 5 * k),
        Rod((13 * k, b + 21 * k, -6 * k), (13.5 * k, b + 25 * k, -21 * k), 4.8 * k, 5 * k),
    ]
    reach = 0 if vertebra.name == "T12" else 24
    return [*rods, Rod((17 * k, b + 10 * k, 4 * k), ((18 + reach) * k, b + 16 * k, 5 * k), 2.8 * k, 5 * k)]


def other_bones(subject: LumbarSubject, spine: Sequence[Vertebra]) -> list[Rod]:
    """Ribs 10 to 12 and the wings of the ilium, both sides, in patient coordinates.

    Args:
        subject: whose.
        spine: see :func:`build_spine`.
    """
    s1, top = spine[0], spine[-1]
    a, b = subject.half_width_mm - 14, subject.half_depth_mm - subject.back_fat_mm - 6
    rods = []
    # from and to, degrees from the back; height of the start above T12 and of the end below the start, mm
    for start, stop, above, drop in ((22, 58, 0, 42), (20, 95, 28, 75), (20, 150, 55, 95)):
        ends = []
        for share in np.linspace(0, 1, 9):
            angle = math.radians(start + (stop - start) * share)
            ends.append((a * math.sin(angle) * 0.93, b * math.cos(angle), top.centre[2] + above - drop * share))
        rods += [Rod(p, q, 3.6, 6.5, 1.2) for p, q in pairwise(ends)]
    y, z = s1.centre[1] + 20, s1.centre[2]
    wing = [(46.0, y + 16, z - 30), (70.0, y + 10, z - 16), (98.0, y - 16, z - 12), (118.0, y - 52, z - 22)]
    wing = [(p[0] * subject.size, p[1], p[2]) for p in wing]
    rods += [Rod(p, q, 5.5, 46, 1.8) for p, q in pairwise(wing)]
    return [rod for r in rods for rod in (r, _mirrored(r))]


def _mirrored(rod: Rod) -> Rod:
    (x, y, z), (x2, y2, z2) = rod.start, rod.stop
    return rod._replace(start=(-x, y, z), stop=(-x2, y2, z2))
