"""Who trains, validates and tests in paper 2: every ordered pair of sets, of samples or of mixed ones."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.manifest import distinct, patient_key, read_manifest, refuse_shared_patients
from bonemonai.data.slice_list import PLANES
from bonemonai.data.splits import deal_groups
from bonemonai.data.subjects import number_subjects
from bonemonai.data.volume import open_volume
from bonemonai.errors import InputError

CLASSES = ("pristine", "failed")
LEAKAGE = "slices of one sample are trained on and tested on"


def read_damage_fold(
    path: str | Path,
    fold: int,
    *,
    deal: str = "samples",
    sets: int = 5,
    seed: int = 0,
    allow_leakage: bool = False,
    failed_state: int | None = None,
) -> pd.DataFrame:
    """Read a manifest of slices, dealt to "train", "val" and "test" as in one fold.

    Slices are dealt into sets; a fold is an ordered pair of sets, (test, validation), the others train: five sets give
    twenty folds, counted in the order of :func:`itertools.permutations`. To train and to validate there are the first
    loading state of each sample, "pristine", and the last, "failed"; to test there are all states.

    Args:
        path: ``slices.csv`` of :class:`bonemonai.data.ScanPreparation`.
        fold: its number, from 0.
        deal: "samples": each sample is a set. "random": (sample, plane) groups are dealt into ``sets`` sets at random.
            Else a CSV file with columns ``patient``, ``plane``, ``set``, such as those of the paper's Table 1.
        sets: of a random deal.
        seed: of a random deal.
        allow_leakage: must be True for a deal that puts slices of one sample into several sets: a sample is then
            trained on and tested on, and scores say nothing about a sample that was not seen.
        failed_state: loading state to train on as "failed" in place of the last. With one at which nothing is to be
            seen yet, a network can only learn what scans differ in besides damage: the paper's preliminary trials.

    Returns:
        The manifest's rows that take part, with ``split``, ``label`` ("pristine", "failed", or "" for a state between
        them), ``load_state`` as a number, ``subject``, a name that tells nobody which sample it is, and, where
        samples are mixed, ``leakage``.

    Raises:
        InputError: if there is no such fold, the deal leaves a slice out, mixes samples without leave, or a sample
            has one loading state only.

    Source:
        Shen et al., 2.2, 2.5 and Table 1.
    """
    manifest = _read(path)
    keys = manifest["patient"].map(patient_key)
    manifest["subject"] = number_subjects(manifest["patient"].tolist())
    set_of = _sets(manifest, keys, path, deal, sets, seed)
    mixed = set_of.groupby(keys).nunique().max() > 1
    if mixed and not allow_leakage:
        raise InputError(
            f"deal {Path(deal).name}", f"is leakage: {LEAKAGE}; say --allow_leakage True if that is meant."
        )
    if mixed:
        manifest["leakage"] = LEAKAGE
    found = distinct(set_of.tolist()) if deal == "samples" else sorted(set_of.unique())
    if len(found) < 3:
        raise InputError(path, f"is dealt into {len(found)} sets: one to test, one to validate, some to train are due.")
    pairs = list(permutations(found, 2))
    if not 0 <= fold < len(pairs):
        raise InputError("fold", f"must be from 0 to {len(pairs) - 1}, got {fold}.")
    test, val = pairs[fold]
    manifest["split"] = set_of.map({test: "test", val: "val"}).fillna("train")
    manifest["label"] = _labels(manifest, keys, path, failed_state)
    if not mixed:
        refuse_shared_patients(manifest, path)
    kept = manifest[(manifest["split"] == "test") | (manifest["label"] != "")].reset_index(drop=True)
    for split in ("train", "val", "test"):
        if not set(CLASSES) <= set(kept.loc[kept["split"] == split, "label"]):
            raise InputError(path, f"fold {fold}: split {split!r} lacks pristine or failed slices; three sets are due.")
    return kept


def count_damage_folds(path: str | Path, *, deal: str = "samples", sets: int = 5) -> int:
    """How many folds :func:`read_damage_fold` can give: ordered pairs of sets.

    Args:
        path: the manifest.
        deal: see :func:`read_damage_fold`.
        sets: of a random deal.
    """
    manifest = _read(path)
    found = _sets(manifest, manifest["patient"].map(patient_key), path, deal, sets, 0).nunique()
    return found * (found - 1)


def describe_fold(manifest: pd.DataFrame, *, failed_state: int | None = None) -> dict[str, Any]:
    """Who tests and who validates, by pseudonym, and whether that is leakage; JSON values.

    Args:
        manifest: as :func:`read_damage_fold` returns it.
        failed_state: that it was read with.
    """
    described: dict[str, Any] = {}
    for split in ("test", "val"):
        rows = manifest[manifest["split"] == split]
        names = rows["subject"] + (" " + rows["plane"] if "leakage" in manifest else "")
        described[split] = distinct(names.tolist())
    if failed_state is not None:
        described["failed_state"] = failed_state
    if "leakage" in manifest:
        described["leakage"] = LEAKAGE
    return described


def slice_size(manifest: pd.DataFrame) -> int:
    """Longest edge of the slices of a manifest, voxels: the window in which a trained network sees a scan.

    Args:
        manifest: as :func:`read_damage_fold` returns it.
    """
    return max(max(open_volume(image).shape) for image in distinct(manifest["image"].tolist())[:1])


def _read(path: str | Path) -> pd.DataFrame:
    manifest = read_manifest(path, label_is_path=False, allow_shared_patient=True)
    for column in ("load_state", "plane", "index"):
        if column not in manifest:
            raise InputError(path, f"has no column {column!r}: prepare the scans first (bonemonai prepare).")
    wrong = manifest[~manifest["load_state"].str.fullmatch("[0-9]+") | ~manifest["plane"].isin(PLANES)]
    for row in wrong.index:
        raise InputError(path, f"image {row + 1}: load_state must be a number, plane one of {', '.join(PLANES)}.")
    manifest["load_state"] = manifest["load_state"].astype(int)
    return manifest


def _sets(
    manifest: pd.DataFrame, keys: pd.Series[str], path: str | Path, deal: str, sets: int, seed: int
) -> pd.Series[str]:
    """The set of each row."""
    if deal == "samples":
        return keys
    groups = pd.Series(list(zip(keys, manifest["plane"], strict=True)), index=manifest.index)
    if deal == "random":
        found = sorted(set(groups))
        if sets < 3 or len(found) % sets:
            raise InputError(
                path, f"has {len(found)} groups of sample and plane, which {sets} sets cannot share equally."
            )
        return groups.map(
            {group: str(place) for group, place in zip(found, deal_groups(len(found), sets, seed), strict=True)}
        )
    dealt = _read_deal(deal)
    left_out = sorted(set(groups) - set(dealt))
    if left_out:
        raise InputError(deal, f"deals no set to {' '.join(left_out[0])}, which {Path(path).name} has.")
    return groups.map(dealt)


def _read_deal(path: str | Path) -> dict[tuple[str, str], str]:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False).fillna("")
    except (OSError, ValueError) as error:
        raise InputError(path, f"is no deal (samples, random, or a CSV file): {error}") from error
    if missing := {"patient", "plane", "set"} - set(table.columns):
        raise InputError(path, f"lacks the column {sorted(missing)[0]!r}.")
    keys = list(zip(table["patient"].map(patient_key), table["plane"], strict=True))
    for row in table.index[table["set"].str.strip() == ""]:
        raise InputError(path, f"row {row + 2}: column 'set' is empty.")
    if len(set(keys)) != len(keys):
        raise InputError(path, "deals one sample and plane twice.")
    return dict(zip(keys, table["set"], strict=True))


def _labels(manifest: pd.DataFrame, keys: pd.Series[str], path: str | Path, failed_state: int | None) -> pd.Series[str]:
    states = manifest.groupby(keys)["load_state"]
    first, last = states.transform("min"), states.transform("max")
    for row in manifest.index[first == last]:
        raise InputError(
            path, f"{manifest.loc[row, 'subject']} has one loading state only: pristine and failed are due."
        )
    state = manifest["load_state"]
    if failed_state is not None:
        has = (state == failed_state).groupby(keys).transform("any") & (first < failed_state)
        for row in manifest.index[~has]:
            raise InputError(path, f"{manifest.loc[row, 'subject']} has no state {failed_state} after its first.")
        last = pd.Series(failed_state, index=manifest.index)
    return pd.Series("", index=manifest.index).mask(state == first, CLASSES[0]).mask(state == last, CLASSES[1])
