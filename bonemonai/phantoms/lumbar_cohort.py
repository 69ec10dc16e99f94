"""The subjects of a lumbar CT study: their classes, scanners and splits, dealt from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bonemonai.data.manifest import SPLITS
from bonemonai.errors import InputError
from bonemonai.phantoms.lumbar_acquisition import VENDORS, CTAcquisition, Vendor, draw_acquisition
from bonemonai.phantoms.lumbar_subject import BoneClass, LumbarSubject, draw_subject

CLASSES: tuple[BoneClass, ...] = ("normal", "low bone mass", "osteoporosis")
_KEY = 29


@dataclass(frozen=True)
class LumbarCase:
    """One subject of a study and its scan.

    Attributes:
        patient: its pseudonym, ``phantom-0001`` and on.
        number: from 1.
        split: "train", "val" or "test".
        subject: see :func:`bonemonai.phantoms.lumbar_subject.draw_subject`.
        acquisition: see :func:`bonemonai.phantoms.lumbar_acquisition.draw_acquisition`.
    """

    patient: str
    number: int
    split: str
    subject: LumbarSubject
    acquisition: CTAcquisition


def lumbar_cases(
    subjects: int = 12,
    seed: int = 0,
    *,
    interval_mm: float = 3.0,
    splits: Sequence[float] = (0.6, 0.2, 0.2),
    vendors: Sequence[Vendor] = VENDORS,
) -> list[LumbarCase]:
    """Draw the subjects of a study; nothing is computed or written.

    Classes are as many of each as numbers allow, in random order; vendors go round within a class, so that none is a
    hint at it, and splits are dealt class by class.

    Args:
        subjects: how many, at least 1.
        seed: of the study.
        interval_mm: from slice to slice.
        splits: shares of train, val and test.
        vendors: whose scanners there are.

    Raises:
        InputError: if an argument is out of its range.

    Example:
        >>> [case.subject.label for case in lumbar_cases(3, seed=0)]
        ['normal', 'low bone mass', 'osteoporosis']
    """
    if subjects < 1:
        raise InputError("subjects", f"must be >= 1, got {subjects!r}.")
    if seed < 0:
        raise InputError("seed", f"must be >= 0, got {seed!r}.")
    if len(splits) != 3 or min(splits) < 0 or not 0 < sum(splits) < np.inf:
        raise InputError("splits", f"must be three shares >= 0 (train, val, test), got {tuple(splits)!r}.")
    if not vendors or any(vendor not in VENDORS for vendor in vendors):
        raise InputError("vendors", f"must be some of {', '.join(VENDORS)}, got {', '.join(vendors) or 'none'}.")
    rng = np.random.default_rng([seed, _KEY])
    order = rng.permutation(subjects)
    cases = []
    for number in range(1, subjects + 1):
        place, kind = divmod(int(order[number - 1]), len(CLASSES))
        members = len(range(kind, subjects, len(CLASSES)))
        own = int(np.random.SeedSequence([seed, number, _KEY]).generate_state(1)[0])
        # vendors and splits go round at different paces
        dealt = int(np.random.default_rng([seed, kind, _KEY]).permutation(members)[place])
        split = _deal(members, splits, kind)[dealt]
        vendor = vendors[(place + kind) % len(vendors)]
        acquisition = draw_acquisition(own, vendor=vendor, interval_mm=interval_mm)
        cases.append(LumbarCase(f"phantom-{number:04d}", number, split, draw_subject(CLASSES[kind], own), acquisition))
    return cases


def _deal(members: int, splits: Sequence[float], kind: int) -> list[str]:
    """Splits of a class's members; each that is asked for gets one, or classes take turns where members are too few."""
    asked = {name: share / sum(splits) for name, share in zip(SPLITS, splits, strict=True) if share > 0}
    if members < len(asked):
        first, *others = sorted(asked, key=lambda name: -asked[name])
        turns = [*others, first] if members == 1 else others
        return [*([first] * (members - 1)), turns[kind % len(turns)]]
    counts = {name: max(1, int(share * members)) for name, share in asked.items()}
    while (left := members - sum(counts.values())) != 0:
        able = [name for name in asked if left > 0 or counts[name] > 1]
        name = max(able, key=lambda n: np.sign(left) * (asked[n] * members - counts[n]))
        counts[name] += int(np.sign(left))
    return [name for name, count in counts.items() for _ in range(count)]
