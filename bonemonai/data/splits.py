"""Train, validation and test sets that never share a patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product, zip_longest
from types import MappingProxyType

import numpy as np
import pandas as pd

from bonemonai.data.manifest import distinct
from bonemonai.errors import InputError

PAPER_RATIO: Mapping[str, float] = MappingProxyType({"train": 0.8, "val": 0.1, "test": 0.1})


def split_by_ratio(
    manifest: pd.DataFrame,
    ratio: Mapping[str, float] = PAPER_RATIO,
    *,
    seed: int = 0,
    stratify: str | None = None,
) -> pd.DataFrame:
    """Deal patients to splits in proportion; every split that is asked for gets at least one.

    With few patients no ratio is exact: six at 80/10/10 are dealt 4, 1 and 1.

    Args:
        manifest: with column ``patient``; a column ``split`` is replaced.
        ratio: share of patients for each split; the shares are normalised.
        seed: of the shuffle.
        stratify: column whose values are spread over the splits as evenly as numbers allow.

    Raises:
        InputError: if there are fewer patients than splits.
    """
    strata = _shuffled_strata(manifest, seed, stratify)
    # strata take turns
    patients = [patient for turn in zip_longest(*strata) for patient in turn if patient is not None]
    wanted = {split: share / sum(ratio.values()) for split, share in ratio.items() if share > 0}
    if len(patients) < len(wanted):
        raise InputError("manifest", f"has {len(patients)} patients for {len(wanted)} splits: too few to part them.")
    spare = len(patients) - len(wanted)
    counts = {split: 1 + int(share * spare) for split, share in wanted.items()}
    remainder = sorted(wanted, key=lambda split: (counts[split] - wanted[split] * len(patients), split))
    for split in remainder[: len(patients) - sum(counts.values())]:
        counts[split] += 1
    # smallest first: with patients of alternating strata, validation and test then differ in stratum
    dealt = iter(patients)
    assigned = {
        next(dealt): split for split in sorted(counts, key=lambda s: (counts[s], s)) for _ in range(counts[split])
    }
    return _assign(manifest, assigned)


def split_k_fold(
    manifest: pd.DataFrame, k: int, *, seed: int = 0, stratify: str | None = None
) -> Iterator[pd.DataFrame]:
    """Yield k copies, each with another fold of the patients as "test" and the rest as "train".

    Args:
        manifest: with column ``patient``.
        k: number of folds, from 2 to the number of patients.
        seed: of the shuffle.
        stratify: column whose values are spread over the folds.

    Raises:
        InputError: if k is out of range.
    """
    patients = [patient for stratum in _shuffled_strata(manifest, seed, stratify) for patient in stratum]
    if not 2 <= k <= len(patients):
        raise InputError("k", f"must be from 2 to the number of patients, {len(patients)}, got {k}.")
    for fold in range(k):
        held_out = set(patients[fold::k])
        yield _assign(manifest, {patient: "test" if patient in held_out else "train" for patient in patients})


def leave_one_patient_per_class_out(manifest: pd.DataFrame, class_column: str = "label") -> Iterator[pd.DataFrame]:
    """Yield a copy for every choice of one patient a class as "test", the rest being "train".

    Three healthy and three osteoporotic patients give nine.

    Args:
        manifest: with column ``patient``.
        class_column: the column that holds the class.

    Raises:
        InputError: if a patient stands in two classes, or a class has but one patient.
    """
    classes = _one_value_a_patient(manifest, class_column)
    groups: dict[str, list[str]] = {}
    for patient, value in classes.items():
        groups.setdefault(value, []).append(patient)
    for value, members in groups.items():
        if len(members) < 2:
            raise InputError("manifest", f"class {value!r} has one patient only; leaving it out leaves none.")
    for held_out in product(*groups.values()):
        yield _assign(manifest, {patient: "test" if patient in held_out else "train" for patient in classes})


def _shuffled_strata(manifest: pd.DataFrame, seed: int, stratify: str | None) -> list[list[str]]:
    """Patients in random order, grouped by stratum, the strata in random order too."""
    rng = np.random.default_rng(seed)
    strata: dict[str, list[str]] = {}
    if stratify is None:
        strata[""] = distinct(manifest["patient"].tolist())
    else:
        for patient, value in _one_value_a_patient(manifest, stratify).items():
            strata.setdefault(value, []).append(patient)
    shuffled = [[members[index] for index in rng.permutation(len(members))] for members in strata.values()]
    return [shuffled[index] for index in rng.permutation(len(shuffled))]


def _one_value_a_patient(manifest: pd.DataFrame, column: str) -> dict[str, str]:
    if column not in manifest:
        raise InputError("manifest", f"has no column {column!r}.")
    values: dict[str, str] = {}
    for patient, value in zip(manifest["patient"], manifest[column], strict=True):
        if values.setdefault(patient, value) != value:
            raise InputError(
                "manifest", f"patient {patient!r} has two values of {column!r}: {values[patient]}, {value}."
            )
    return values


def _assign(manifest: pd.DataFrame, split_of: Mapping[str, str]) -> pd.DataFrame:
    assigned: Sequence[str] = [split_of[patient] for patient in manifest["patient"]]
    return manifest.assign(split=assigned)
