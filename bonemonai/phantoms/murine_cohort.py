"""The specimens of a murine study, dealt from a seed: their bones, their splits, and where they are scanned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import pandas as pd

from bonemonai.data.splits import split_by_ratio
from bonemonai.phantoms.murine_bone import MurineBone
from bonemonai.phantoms.murine_specimen import SITES, MurineSpecimen, draw_murine_specimen

RATIO: Mapping[str, float] = MappingProxyType({"train": 44, "val": 12, "test": 15})

_MARGIN_UM = 150.0  # beyond a bone's lateral wall, in a field too small for the bone
_STEP_UM = 20.0  # fields lie at whole multiples, so that none depends on rounding
_KEY = 31


@dataclass(frozen=True)
class MurineCase:
    """One specimen of a study.

    Attributes:
        patient: its name, ``femur-001`` and on.
        specimen: see :func:`bonemonai.phantoms.draw_murine_specimen`.
        lr_offset_um: how far LR's field lies from where its header says, (z, y, x).
    """

    patient: str
    specimen: MurineSpecimen
    lr_offset_um: tuple[float, float, float]


def murine_cases(specimens_per_site: int, seed: int, *, misalignment_um: float = 0.0) -> list[MurineCase]:
    """Draw the specimens of a study; nothing is computed or written.

    Args:
        specimens_per_site: at least 1.
        seed: of the study; no two studies share a specimen.
        misalignment_um: see :func:`write_murine_study`.
    """
    cases = []
    for kind, site in enumerate(SITES):
        for number in range(1, specimens_per_site + 1):
            own = int(np.random.SeedSequence([seed, kind, number, _KEY]).generate_state(1)[0])
            shift = np.random.default_rng([own, _KEY]).normal(0, 1, 3).clip(-2, 2) * misalignment_um
            z, y, x = (round(float(step), 3) + 0.0 for step in shift)
            cases.append(MurineCase(f"{site}-{number:03d}", draw_murine_specimen(site, own), (z, y, x)))
    return cases


def field_corner_um(bone: MurineBone, field_um: Sequence[float]) -> tuple[float, float, float]:
    """Where a field lies: on the bone's middle or, too small for that, on its lateral wall; (z, y, x).

    Args:
        bone: what is scanned.
        field_um: lengths of the field, (z, y, x).
    """
    depth, height, width = field_um
    low, high = bone.outline.box_um
    middle = float(low[1] + high[1]) / 2 if height >= high[1] - low[1] else 0.0
    aside = max(0.0, bone.outline.half_width_um + _MARGIN_UM - width / 2)
    z = 0.0 if bone.specimen.site == "femur" else -depth / 2
    y, x = (_STEP_UM * round(edge / _STEP_UM) for edge in (middle - height / 2, aside - width / 2))
    return z, y, x


def split_specimens(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Deal specimens to train, val and test within each site, 44 to 12 to 15 as the paper's femurs are.

    The paper's spine split (43, 14, 14) does not add up to its 68 spines, so that its femurs' ratio serves both.

    Args:
        rows: with columns ``patient`` and ``site``.
        seed: of the deal.

    Returns:
        The rows with ``split``; of less than three specimens of a site none is "val", a single one is "train".
    """
    parts = []
    for kind, site in enumerate(SITES):
        those = rows[rows["site"] == site]
        due = ("train", "test", "val")[: those["patient"].nunique()]
        ratio = {name: share for name, share in RATIO.items() if name in due}
        parts.append(split_by_ratio(those, ratio, seed=seed + kind))
    return pd.concat(parts, ignore_index=True)
