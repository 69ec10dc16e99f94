"""What lies round the lumbar spine, as ellipses in one slice: muscles, vessels, abdominal organs, bowel with gas."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from bonemonai.phantoms.lumbar_spine import Vertebra
from bonemonai.phantoms.lumbar_subject import LumbarSubject

_KEY = 22


class Tissue(NamedTuple):
    """What a unit of volume is made of.

    Attributes:
        water: attenuation of what is not fat, water being 1.
        fat: share of the volume.
        iodine: mg/ml in the portal venous phase.
    """

    water: float
    fat: float = 0.0
    iodine: float = 0.0


AIR = Tissue(0.0)
FAT = Tissue(0.02, 0.98)
SKIN = Tissue(1.03)
BLOOD, LIVER, KIDNEY, SPLEEN = Tissue(1.042, 0, 5.0), Tissue(1.058, 0, 2.3), Tissue(1.034, 0, 6.0), Tissue(1.05, 0, 3.0)
BOWEL, STOOL = Tissue(1.03, 0, 1.0), Tissue(0.86, 0.1)
DISC, THECAL_SAC = Tissue(1.085), Tissue(1.022)


class Ellipse(NamedTuple):
    """A cut through an organ; mm.

    Attributes:
        x: of the centre, to the patient's left.
        y: of the centre, backwards.
        rx: half its width.
        ry: half its depth.
        tissue: that fills it.
        gas: share of its depth, from the front, that is gas.
        inside: whether it stays within the abdominal cavity.
    """

    x: float
    y: float
    rx: float
    ry: float
    tissue: Tissue
    gas: float = 0.0
    inside: bool = True


class _Ellipsoid(NamedTuple):
    centre: tuple[float, float, float]
    radii: tuple[float, float, float]
    tissue: Tissue
    gas: float = 0.0

    def at(self, z: float) -> Ellipse | None:
        left = 1 - ((z - self.centre[2]) / self.radii[2]) ** 2
        if left <= 0.01:
            return None
        k = float(left**0.5)
        return Ellipse(self.centre[0], self.centre[1], self.radii[0] * k, self.radii[1] * k, self.tissue, self.gas)


class LumbarOrgans:
    """Everything but bone and the trunk's own outline.

    Organs are ellipsoids and tubes: no more than what surrounds a spine in a scan.

    Args:
        subject: whose.
        spine: see :func:`bonemonai.phantoms.lumbar_spine.build_spine`.
    """

    def __init__(self, subject: LumbarSubject, spine: Sequence[Vertebra]) -> None:
        rng = np.random.default_rng([subject.seed, _KEY])
        self.girth, self.size = subject.half_width_mm / 163, subject.size
        self.front = -subject.half_depth_mm + 0.9 * subject.back_fat_mm + 12  # of the cavity
        self._levels = {v.name: v.centre for v in spine}
        self._z = [v.centre[2] for v in spine]
        self._track = {
            "x": [v.centre[0] for v in spine],
            "y": [v.centre[1] for v in spine],
            "width": [v.half_width for v in spine],
            "depth": [v.half_depth for v in spine],
        }
        # muscle of the old is streaked with fat, that of the back most
        waste = float(np.clip(rng.normal(0.05 + 0.0035 * (subject.age_years - 40), 0.04), 0.02, 0.35))
        self._muscle, self._back = (
            Tissue(1.058 * (1 - 0.4 * waste), 0.4 * waste, 0.5),
            Tissue(1.058 * (1 - waste), waste, 0.5),
        )
        self._bulk = float(np.clip(rng.normal(1.05 - 0.005 * (subject.age_years - 50), 0.08), 0.7, 1.25))
        self._calcified = [
            (float(rng.uniform(0, 6.28)), float(rng.uniform(self._z[0], self._z[-1])), float(rng.uniform(4, 14)))
            for _ in range(int(rng.poisson(max(subject.age_years - 55, 0) / 4)))
        ]
        self._ellipsoids = [*self._solid(rng), *self._hollow(rng), *self._mesentery(rng)]

    @property
    def muscle(self) -> Tissue:
        """Of the trunk's wall."""
        return self._muscle

    def follow(self, z: float) -> tuple[float, float, float, float]:
        """x, y, half width and half depth of the spine's bodies at a height, mm."""
        x, y, width, depth = (float(np.interp(z, self._z, values)) for values in self._track.values())
        return x, y, width, depth

    def ellipses(self, z: float) -> Iterator[Ellipse]:
        """Cuts at a height, in the order in which they are to be drawn."""
        x, y, width, depth = self.follow(z)
        muscles = list(self._muscles(z, x, y, width))
        yield from (ellipse for ellipse in muscles if ellipse.tissue is FAT)
        for organ in self._ellipsoids:
            cut = organ.at(z)
            if cut is not None:
                yield cut
        yield from (ellipse for ellipse in muscles if ellipse.tissue is not FAT)
        yield from self._vessels(z, x, y - depth)

    def calcifications(self, z: float) -> Iterator[tuple[float, float, float]]:
        """x, y and radius of calcium in the aorta's wall, mm."""
        aorta = self._aorta(z)[0]
        for angle, height, length in self._calcified:
            if abs(z - height) < length / 2:
                yield aorta.x + aorta.rx * float(np.cos(angle)), aorta.y + aorta.ry * float(np.sin(angle)), 1.6

    def _muscles(self, z: float, x: float, y: float, width: float) -> Iterator[Ellipse]:
        s, down = self.size, float(np.clip((self._levels["L1"][2] - z) / 130, 0, 1.1))
        bulk = s * self._bulk
        for side in (-1, 1):
            yield Ellipse(x + side * 40 * s, y + 44 * s, 45 * s, 31 * s, FAT, inside=False)
            yield Ellipse(x + side * 62 * s, y + 16 * s, 24 * s, 22 * s, FAT, inside=False)
            yield Ellipse(x + side * 62 * s, y + 20 * s, 19 * bulk, 10 * bulk, self._muscle, inside=False)
            yield Ellipse(x + side * 45 * s, y + 43 * s, 27 * bulk, 24 * bulk, self._back, inside=False)
            yield Ellipse(x + side * 15 * s, y + 46 * s, 13.5 * bulk, 20 * bulk, self._back, inside=False)
            psoas = (6 + 13.5 * down) * bulk
            centre = x + side * (width + 0.75 * psoas + 2)
            yield Ellipse(centre, y + 1, psoas + 3, 1.15 * psoas + 4, FAT, inside=False)
            yield Ellipse(centre, y, psoas, 1.2 * psoas, self._muscle, inside=False)

    def _aorta(self, z: float) -> list[Ellipse]:
        x, y, _, depth = self.follow(z)
        below = self._levels["L4"][2] - 5 - z
        if below <= 0:
            return [Ellipse(x + 9, y - depth - 12, 9.5, 9.5, BLOOD)]
        spread = 5 + 0.42 * below
        return [Ellipse(x + side * spread, y - depth - 9, 6.5, 6.5, BLOOD) for side in (1, -1)]

    def _vessels(self, z: float, x: float, front: float) -> Iterator[Ellipse]:
        yield from self._aorta(z)
        below = self._levels["L5"][2] + 10 - z
        if below <= 0:
            yield Ellipse(x - 17, front - 9, 12.5, 8.5, BLOOD)
        else:
            yield from (Ellipse(x - 8 + side * (9 + 0.3 * below), front - 5, 8, 6.5, BLOOD) for side in (1, -1))

    def _solid(self, rng: np.random.Generator) -> list[_Ellipsoid]:
        g, t12, l1, l2 = self.girth, *(self._levels[name] for name in ("T12", "L1", "L2"))
        organs = [
            _Ellipsoid((-82 * g, -18 * g, t12[2] + rng.uniform(20, 50)), (76 * g, 82 * g, 105), LIVER),
            _Ellipsoid((100 * g, 22, t12[2] + rng.uniform(25, 45)), (34 * g, 52 * g, 68), SPLEEN),
            _Ellipsoid((-25, l2[1] - 48, l2[2] + 8), (26, 13, 22), BOWEL),
            _Ellipsoid((12, l1[1] - 50, l1[2]), (38, 9, 14), Tissue(1.04, 0, 2.0)),
        ]
        for side, height in ((1, l1[2] - 14), (-1, l2[2] + 6)):
            x, y, z = side * (58 + 8 * g), l2[1] - 4, height + rng.normal(0, 8)
            organs += [
                _Ellipsoid((x, y, z), (40, 42, 70), FAT),
                _Ellipsoid((x, y, z), (26, 30, 54), KIDNEY),
                _Ellipsoid((x - side * 13, y - 6, z), (13, 11, 26), FAT),
                _Ellipsoid((x - side * 20, y - 8, z), (14, 3.0, 7), BLOOD),
            ]
        return organs

    def _hollow(self, rng: np.random.Generator) -> list[_Ellipsoid]:
        g, top, bottom = self.girth, self._levels["T12"], self._levels["S1"]
        back = self._levels["L3"][1]
        hollow = [_Ellipsoid((48 * g, self.front + 42, top[2] + 25), (44 * g, 34, 52), BOWEL, rng.uniform(0.2, 0.9))]
        for x, y in ((-103 * g, back - 22), (106 * g, back - 8)):
            for z in np.arange(bottom[2] - 20, top[2] + 10, 34):
                place = (x + rng.normal(0, 5), y + rng.normal(0, 6), float(z + rng.normal(0, 4)))
                radii = (rng.uniform(15, 24), rng.uniform(15, 24), rng.uniform(20, 26))
                hollow.append(_Ellipsoid(place, radii, STOOL, rng.choice([0.0, 0.5, 0.9])))
        across = self._levels["L2"][2] - rng.uniform(0, 40)
        for x in np.linspace(-85, 85, 6) * g:
            place = (float(x), self.front + 18 + 0.0012 * x * x, across + rng.normal(0, 8))
            hollow.append(_Ellipsoid(place, (24 * g, 17, rng.uniform(18, 28)), BOWEL, rng.uniform(0.5, 1.4)))
        for _ in range(90):
            x, z = rng.uniform(-88, 88) * g, rng.uniform(bottom[2] - 40, self._levels["L1"][2] - 5)
            y = rng.uniform(self.front + 16, max(back - 50, self.front + 30))
            radii = (rng.uniform(9, 19), rng.uniform(8, 13), rng.uniform(9, 20))
            gas = rng.uniform(0.3, 1.1) if rng.uniform() < 0.25 else 0.0
            hollow.append(_Ellipsoid((float(x), float(y), float(z)), radii, BOWEL, gas))
        return hollow

    def _mesentery(self, rng: np.random.Generator) -> list[_Ellipsoid]:
        back, vessels = self._levels["L3"][1], []
        for _ in range(150):
            x, z = rng.uniform(-85, 85) * self.girth, rng.uniform(self._z[0] - 40, self._z[-1] + 20)
            radius, y = rng.uniform(1.4, 3.4), rng.uniform(self.front + 10, max(back - 36, self.front + 24))
            vessels.append(_Ellipsoid((float(x), float(y), float(z)), (radius, radius, rng.uniform(8, 25)), BLOOD))
        return vessels
