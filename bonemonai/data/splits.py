"""Train, validation and test sets that never share a patient."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from bonemonai.data.manifest import distinct, patient_key, read_manifest, refuse_shared_patients
from bonemonai.data.subjects import number_subjects
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
    patients = sum(len(stratum) for stratum in strata)
    wanted = {split: share / sum(ratio.values()) for split, share in ratio.items() if share > 0}
    if patients < len(wanted):
        raise InputError("manifest", f"has {patients} patients for {len(wanted)} splits: too few to part them.")
    counts = _apportion(list(wanted.values()), patients)
    while 0 in counts:  # no split is empty: the largest gives
        counts[counts.index(max(counts))] -= 1
        counts[counts.index(0)] += 1
    assigned: dict[str, str] = {}
    for count, split in sorted(zip(counts, wanted, strict=True)):
        shares = _apportion([len(stratum) for stratum in strata], count)
        for stratum, share in zip(strata, shares, strict=True):
            assigned |= {stratum.pop(): split for _ in range(share)}
    return _assign(manifest, assigned)


def _apportion(weights: Sequence[float], total: int) -> list[int]:
    """Share out a number in proportion to weights by largest remainder; of equal remainders the first wins."""
    quotas = [total * weight / sum(weights) for weight in weights]
    shares = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(weights)), key=lambda index: shares[index] - quotas[index])
    for index in by_remainder[: total - sum(shares)]:
        shares[index] += 1
    return shares


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


def leave_one_patient_per_class_out(
    manifest: pd.DataFrame, class_column: str = "label", *, validation: bool = False
) -> Iterator[pd.DataFrame]:
    """Yield a copy for every choice of one patient a class as "test", the rest being "train".

    Three healthy and three osteoporotic patients give nine.

    Args:
        manifest: with column ``patient``.
        class_column: the column that holds the class.
        validation: make the patient of each class that follows the one left out, in the manifest's order, "val".

    Raises:
        InputError: if a patient stands in two classes, or a class has too few patients.
    """
    classes = _one_value_a_patient(manifest, class_column)
    groups: dict[str, list[str]] = {}
    for patient, value in classes.items():
        groups.setdefault(value, []).append(patient)
    for value, members in groups.items():
        if len(members) < 2 + validation:
            raise InputError("manifest", f"class {value!r} has {len(members)} of {2 + validation} patients due.")
    for held_out in product(*groups.values()):
        split = dict.fromkeys(classes, "train") | dict.fromkeys(held_out, "test")
        if validation:
            followers = [members[members.index(out) + 1 - len(members)]
                         for members, out in zip(groups.values(), held_out, strict=True)]  # fmt: skip
            split |= dict.fromkeys(followers, "val")
        yield _assign(manifest, split)


def read_fold(
    path: str | Path, fold: int | None, classes: Sequence[str], *, class_column: str, validation: bool = False
) -> pd.DataFrame:
    """Read a manifest of classes, its patients dealt as in one fold of :func:`leave_one_patient_per_class_out`.

    Args:
        path: the manifest.
        fold: number of the fold, from 0; None keeps the manifest's own split.
        classes: that there may be.
        class_column: the column that holds the class.
        validation: see :func:`leave_one_patient_per_class_out`.

    Returns:
        The manifest with a column ``subject``, a name that tells nobody who the patient is: outputs use it.

    Raises:
        InputError: if there is no such fold, or a row names no class of those, and as there.
    """
    manifest = read_manifest(path)
    if class_column not in manifest:
        raise InputError(path, f"has no column {class_column!r}, which names the class.")
    others = manifest.index[~manifest[class_column].isin(list(classes))]
    for row in others:
        value = manifest.loc[row, class_column]
        raise InputError(path, f"image {row + 1}: {class_column} must be one of {', '.join(classes)}, got {value!r}.")
    manifest["subject"] = number_subjects(manifest["patient"].tolist())
    if fold is None:
        return manifest
    folds = list(leave_one_patient_per_class_out(manifest, class_column, validation=validation))
    if not 0 <= fold < len(folds):
        raise InputError("fold", f"must be from 0 to {len(folds) - 1}, got {fold}.")
    return folds[fold]


def count_folds(path: str | Path, classes: Sequence[str], *, class_column: str) -> int:
    """How many folds :func:`read_fold` can give: the product of the classes' patients.

    Args:
        path: the manifest.
        classes: that there may be.
        class_column: the column that holds the class.

    Raises:
        InputError: see :func:`read_fold`.
    """
    manifest = read_fold(path, None, classes, class_column=class_column)
    return sum(1 for _ in leave_one_patient_per_class_out(manifest, class_column))


def ordered_pairs(manifest: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Yield a copy for every ordered pair of patients, one as "test", one as "val", the rest being "train".

    Five samples give the twenty runs of paper 2.

    Args:
        manifest: with column ``patient``.

    Raises:
        InputError: if there are fewer than three patients.
    """
    patients = distinct(manifest["patient"].map(patient_key).tolist())
    if len(patients) < 3:
        raise InputError("manifest", f"has {len(patients)} patients: a test, a validation and a training one are due.")
    for test, val in permutations(patients, 2):
        yield _assign(manifest, {p: {test: "test", val: "val"}.get(p, "train") for p in patients})


def mixed_deal(
    manifest: pd.DataFrame, columns: Sequence[str], sets: int, *, seed: int = 0, allow_shared_patient: bool = False
) -> Iterator[pd.DataFrame]:
    """Deal groups, such as one plane of one sample, into sets, and yield each ordered pair of sets as test and val.

    Groups of one patient fall on both sides: a leak by design, which paper 2 measures. Every row of what comes out
    says so in a column ``leakage``.

    Args:
        manifest: with column ``patient``.
        columns: that make a group together, for instance patient and plane.
        sets: of equal numbers of groups, at least 3.
        seed: of the deal.
        allow_shared_patient: must be True, so that nobody comes here by accident.

    Raises:
        InputError: if that was not said, or the groups cannot be dealt.
    """
    if not allow_shared_patient:
        raise InputError(
            "mixed deal", "puts one patient into training and test; say --allow-shared-patient if that is meant."
        )
    for column in columns:
        if column not in manifest:
            raise InputError("manifest", f"has no column {column!r}.")
    groups = list(manifest.groupby(list(columns), sort=True).indices)
    if sets < 3 or len(groups) % sets:
        raise InputError("manifest", f"has {len(groups)} groups, which cannot be dealt into {sets} equal sets.")
    set_of = dict(zip(groups, deal_groups(len(groups), sets, seed), strict=True))
    keys = list(zip(*(manifest[column] for column in columns), strict=True))
    dealt = [set_of[key if len(columns) > 1 else (key[0],)] for key in keys]
    for test, val in permutations(range(sets), 2):
        split = [{test: "test", val: "val"}.get(number, "train") for number in dealt]
        yield manifest.assign(split=split, leakage="patients are shared between splits")


def deal_groups(groups: int, sets: int, seed: int) -> list[int]:
    """Deal groups into sets of equal size at random.

    Args:
        groups: their number, a multiple of ``sets``.
        sets: their number.
        seed: of the deal.

    Returns:
        The set of each group.
    """
    order = np.random.default_rng(seed).permutation(groups)
    places = np.empty(groups, dtype=int)
    places[order] = np.arange(groups) % sets
    return [int(place) for place in places]


def _shuffled_strata(manifest: pd.DataFrame, seed: int, stratify: str | None) -> list[list[str]]:
    """Keys of the patients in random order, grouped by stratum, the strata in random order too."""
    rng = np.random.default_rng(seed)
    strata: dict[str, list[str]] = {}
    if stratify is None:
        strata[""] = distinct(manifest["patient"].map(patient_key).tolist())
    else:
        for patient, value in _one_value_a_patient(manifest, stratify).items():
            strata.setdefault(value, []).append(patient)
    shuffled = [[members[index] for index in rng.permutation(len(members))] for members in strata.values()]
    return [shuffled[index] for index in rng.permutation(len(shuffled))]


def _one_value_a_patient(manifest: pd.DataFrame, column: str) -> dict[str, str]:
    """The value of each patient, by the patient's key."""
    if column not in manifest:
        raise InputError("manifest", f"has no column {column!r}.")
    values: dict[str, str] = {}
    for patient, value in zip(manifest["patient"], manifest[column], strict=True):
        known = values.setdefault(patient_key(patient), value)
        if known != value:
            raise InputError("manifest", f"patient {patient!r} has two values of {column!r}: {known}, {value}.")
    return values


def _assign(manifest: pd.DataFrame, split_of: Mapping[str, str]) -> pd.DataFrame:
    assigned: Sequence[str] = [split_of[patient_key(patient)] for patient in manifest["patient"]]
    result = manifest.assign(split=assigned)
    refuse_shared_patients(result)
    return result
