"""Synthetic synchrotron microCT of bone compressed step by step until it cracks, and the truth beside it (paper 2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from bonemonai.errors import InputError
from bonemonai.phantoms.cortical_bone import POROSITY_RANGE, CorticalBone
from bonemonai.phantoms.plane_waves import PlaneWaves
from bonemonai.phantoms.scanner import scan_sample
from bonemonai.phantoms.specimen import Draw, Specimen, random_numbers
from bonemonai.phantoms.trabecular_bone import TRABECULAR_BV_TV_RANGE, TrabecularBone

CompressedBone = Literal["cortical", "trabecular"]

# share of a state sequence at which cracks are first seen (Shen et al., figures 5c and 6c): 13 of 20 and 12 of 15
VISIBLE_FROM: dict[CompressedBone, float] = {"cortical": 13 / 20, "trabecular": 12 / 15}

HIDDEN_OPENING_VOXELS = 0.35  # no crack that is not yet seen is as wide
FIRST_OPENING_VOXELS = 1.9  # of a crack when it is first seen; 1.5 where the crack is narrowest
LAST_OPENING_VOXELS = 4.0

_BONE_GREY, _FLUID_GREY = 0.65, 0.25


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


@dataclass(frozen=True)
class CompressionPhantom:
    """A seeded bone sample compressed along z (the plane axis), seen at loading states 1 to ``states``.

    State 1 is unloaded and has no crack, the last is failed. The anatomy is the same at every state.

    *Cortical* bone is solid, crossed by Haversian canals along z, each within its osteon of slightly different mineral,
    and a few transverse Volkmann canals; radii are scaled so that the porosity is what was asked for. One longitudinal
    crack pierces the volume: a smoothly wavy surface that holds the load axis to within 6 degrees and whose normal is
    random in the cross-section. *Trabecular* bone is where three random fields nearly vanish, two at once (rods,
    which meet where all three vanish) or one (plates), or something between; BV/TV chooses, as in the paper: rods below
    17 %, plates above 25 %. It fails at scattered places, by gaps across struts of any direction.

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
        rng = random_numbers(self.seed, Draw.ANATOMY)
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
            rng = self._specimen.rng(Draw.MOTION, number)
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
        grid = self._specimen.grid(self.to_first(number))
        if number == 1:
            crack = np.zeros(self.shape, dtype=np.float32)
        else:
            crack = self._anatomy.crack(grid, partial(self.opening_voxels, number))
        bone, mineral = self._anatomy.coverage(grid)
        truth = bone >= 0.5
        cracked = truth & (crack >= 0.5)
        for plane, waves in zip(mineral, self._mineral_waves.planes(grid), strict=True):
            plane += waves
        grey = mineral  # in place from here on: a scan of 300 x 300 x 300 is not small
        grey += np.float32(_BONE_GREY - _FLUID_GREY)
        grey *= bone
        crack -= 1
        grey *= -crack
        del bone, crack
        grey += np.float32(_FLUID_GREY)
        image, ring = scan_sample(grey, self._specimen, number, artefacts=self.artefacts)
        return PhantomState(image, cracked.astype(np.uint8), ring, truth.astype(np.uint8))

    def _refuse_state(self, number: int) -> None:
        if not 1 <= number <= self.states:
            raise InputError("state", f"must be within 1 to {self.states}, got {number!r}.")

    @cached_property
    def _specimen(self) -> Specimen:
        return Specimen(self.shape, self.seed, self.voxel_size_um, self.bone_volume_fraction, self.motion_voxels,
                        self.states, self.visible_from)  # fmt: skip

    @cached_property
    def _anatomy(self) -> CorticalBone | TrabecularBone:
        return CorticalBone(self._specimen) if self.bone == "cortical" else TrabecularBone(self._specimen)

    @cached_property
    def _mineral_waves(self) -> PlaneWaves:
        rng = self._specimen.rng(Draw.MINERAL)
        direction = rng.standard_normal((24, 3))
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        vectors = direction * (2 * math.pi / rng.uniform(60, 260, 24))[:, None]
        return PlaneWaves(vectors, rng.uniform(0, 2 * math.pi, 24), np.full(24, 0.015 * math.sqrt(2 / 24)))
