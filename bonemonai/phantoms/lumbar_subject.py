"""Who is scanned: density class, density, age, build and what ageing did to the spine, drawn from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from bonemonai.errors import InputError

BoneClass = Literal["normal", "low bone mass", "osteoporosis"]
LumbarLevel = Literal["L1", "L2", "L3", "L4", "L5"]

LEVELS: tuple[LumbarLevel, ...] = get_args(LumbarLevel)
VBMD_RANGES = MappingProxyType(
    {"normal": (120.0, 190.0), "low bone mass": (80.0, 120.0), "osteoporosis": (35.0, 80.0)}
)  # mg/cm3; 120 and 80 are the diagnostic limits, the outer ends are ours

# most frequent value within a class, mg/cm3, of a triangular distribution; and age: mean and standard deviation
_MODE = {"normal": 126.0, "low bone mass": 100.0, "osteoporosis": 72.0}
_AGE = {"normal": (52.0, 9.0), "low bone mass": (62.0, 8.0), "osteoporosis": (71.0, 8.0)}
_MARGIN = 1.0  # mg/cm3 from a limit, so that rounding moves nobody across
_KEY = 20


@dataclass(frozen=True)
class LumbarSubject:
    """One subject of the lumbar phantom.

    Attributes:
        label: the class that ``vbmd_mg_cm3`` lies in.
        seed: of everything else that is drawn of this subject.
        vbmd_mg_cm3: mineral in the trabecular compartment, the mean of L1 and L2.
        level_density: of L1 to L5 relative to that.
        age_years: at the scan.
        sex: "F" or "M".
        size: of the skeleton relative to the mean.
        half_width_mm: of the trunk, side to side.
        half_depth_mm: of the trunk, front to back.
        back_fat_mm: between skin and muscle, behind the spine.
        marrow_fat: fat's share of marrow.
        cortex: thickness of cortical shells relative to the mean.
        strut_spacing_mm: typical distance of the trabecular structure that a clinical scanner resolves.
        strut_contrast: standard deviation of that structure, mg/cm3.
        osteophytes: of L1 to L5, growth of the rims relative to the body's width.
        sclerosis_mg_cm3: of L1 to L5, mineral added under the endplates.
        collapse: of L1 to L5, lost share of the height in front.
    """

    label: BoneClass
    seed: int
    vbmd_mg_cm3: float
    level_density: tuple[float, ...]
    age_years: int
    sex: Literal["F", "M"]
    size: float
    half_width_mm: float
    half_depth_mm: float
    back_fat_mm: float
    marrow_fat: float
    cortex: float
    strut_spacing_mm: float
    strut_contrast: float
    osteophytes: tuple[float, ...]
    sclerosis_mg_cm3: tuple[float, ...]
    collapse: tuple[float, ...]


def draw_subject(label: BoneClass, seed: int) -> LumbarSubject:
    """Draw a subject of a class.

    Density decides the class and nothing else: the limits are those of quantitative CT. Age, marrow fat, thin cortices,
    coarse struts, wedged bodies come with low density, scattered, so that each tells something and none all of it.
    Fat in the marrow grows by about a tenth of the marrow in 15 years and lowers Hounsfield units at equal mineral.

    Args:
        label: "normal", "low bone mass" or "osteoporosis".
        seed: at least 0.

    Raises:
        InputError: if there is no such class, or the seed is negative.

    Source: American College of Radiology, ACR-SPR-SSR practice parameter for the performance of musculoskeletal
        quantitative computed tomography (QCT): above 120 mg/cm3 normal, 80 to 120 osteopenia, below 80 osteoporosis.
        Shapes of the distributions within a class are ours.

    Example:
        >>> subject = draw_subject("osteoporosis", seed=4)
        >>> 35 < subject.vbmd_mg_cm3 < 80
        True
    """
    if label not in VBMD_RANGES:
        raise InputError("label", f"must be one of {', '.join(VBMD_RANGES)}, got {label!r}.")
    if seed < 0:
        raise InputError("seed", f"must be >= 0, got {seed!r}.")
    rng = np.random.default_rng([seed, _KEY])
    low, high = VBMD_RANGES[label]
    vbmd = float(rng.triangular(low + _MARGIN, _MODE[label], high - _MARGIN))
    age = float(np.clip(rng.normal(*_AGE[label]), 30, 92))
    female = bool(rng.uniform() < (0.65 if label == "osteoporosis" else 0.5))
    girth = float(np.clip(rng.normal(1.0, 0.11), 0.8, 1.28))
    porous = float(np.clip((150 - vbmd) / 100, 0, 1))  # 0 in dense bone, 1 at 50 mg/cm3
    relative = np.array([1.0, 1.0, 0.97, 0.98, 1.01]) * rng.normal(1.0, 0.025, 5)
    relative /= relative[:2].mean()
    worn = float(np.clip((age - 45) / 40, 0.05, 1))
    return LumbarSubject(
        label=label,
        seed=seed,
        vbmd_mg_cm3=vbmd,
        level_density=tuple(relative.tolist()),
        age_years=round(age),
        sex="F" if female else "M",
        size=float(np.clip(rng.normal(0.95 if female else 1.03, 0.04), 0.85, 1.15)),
        half_width_mm=163 * girth,
        half_depth_mm=max(110 * girth**1.3, 92.0),
        back_fat_mm=float(np.clip(rng.normal(15, 5) + 45 * (girth - 1), 6, 40)),
        marrow_fat=float(np.clip(rng.normal(0.30 + 0.0065 * (age - 40), 0.12), 0.15, 0.85)),
        cortex=float(np.clip(rng.normal(1.12 - 0.3 * porous, 0.09), 0.6, 1.4)),
        strut_spacing_mm=float(np.clip(rng.normal(2.3 + 2.2 * porous, 0.3), 1.7, 6)),
        strut_contrast=float(np.clip(rng.normal(15 + 13 * porous, 2.5), 8, 40)),
        osteophytes=tuple((rng.uniform(0.05, 0.22, 5) * (rng.uniform(size=5) < 0.6 * worn)).tolist()),
        sclerosis_mg_cm3=tuple((rng.uniform(60, 220, 5) * (rng.uniform(size=5) < 0.3 * worn)).tolist()),
        collapse=tuple((rng.uniform(0.12, 0.35, 5) * (rng.uniform(size=5) < 0.14 * porous**2)).tolist()),
    )
