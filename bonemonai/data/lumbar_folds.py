"""Folds of a study of lumbar CT, by subject and condition (paper 4's ten-fold cross-validation)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from bonemonai.data.lumbar_slices import CONDITIONS, read_lumbar_manifest
from bonemonai.data.splits import split_k_fold
from bonemonai.errors import InputError


def read_lumbar_fold(
    path: str | Path,
    fold: int | None,
    *,
    folds: int = 10,
    seed: int = 0,
    classes: Sequence[str] = CONDITIONS,
    levels: Mapping[str, int] | None = None,
    require: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a manifest of lumbar CT, its subjects dealt as in one fold of a cross-validation.

    Conditions are spread over the folds as evenly as numbers allow, and a subject's scans stay together. The fold's
    subjects are "test", those of the next fold "val", which chooses the epoch, all others "train".

    Args:
        path: of the manifest.
        fold: number, from 0; None keeps the manifest's own split.
        folds: how many, at least 3.
        seed: of the deal.
        classes: see :func:`bonemonai.data.read_lumbar_manifest`.
        levels: see there.
        require: columns that no row may leave empty.

    Raises:
        InputError: see there; or if there is no such fold, or there are fewer subjects than folds.

    Source:
        Zhang et al., 4.4 (ten-fold cross-validation).
    """
    needed = [name for name in require if fold is None or name != "split"]
    manifest = read_lumbar_manifest(path, classes=classes, levels=levels, require=needed)
    if fold is None:
        return manifest
    if folds < 3 or not 0 <= fold < folds:
        raise InputError("fold", f"must be from 0 to folds - 1, with 3 folds or more, got {fold} of {folds}.")
    # a subject's condition may stand in some of its rows only
    stated = manifest["label"] if "label" in manifest else pd.Series("", index=manifest.index)
    condition = stated.groupby(manifest["subject"]).transform("max")
    dealt = list(split_k_fold(manifest.assign(condition=condition), folds, seed=seed, stratify="condition"))
    split = dealt[fold]["split"].where(dealt[(fold + 1) % folds]["split"] == "train", "val")
    split[dealt[fold]["split"] == "test"] = "test"
    return manifest.assign(split=split)
