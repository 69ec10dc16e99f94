"""Splits of a manifest as files: one manifest a fold, and how they came about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.json_file import write_json
from bonemonai.data.manifest import SPLITS, read_manifest, write_manifest
from bonemonai.data.splits import (
    leave_one_patient_per_class_out,
    mixed_deal,
    ordered_pairs,
    split_by_ratio,
    split_k_fold,
)
from bonemonai.errors import InputError, OutputError


def split_manifest(
    path: Path,
    scheme: str,
    *,
    by: str = "patient",
    ratio: str = "80,10,10",
    folds: int = 5,
    stratify: str | None = None,
    seed: int = 0,
    allow_shared_patient: bool = False,
) -> list[Path]:
    """Write the folds of a manifest beside it, and a record of how they were dealt.

    Args:
        path: the manifest; a column ``split`` is replaced.
        scheme: "ratio", "k-fold", "pairs", "leave-one-per-class-out" or "mixed".
        by: "patient"; for mixed, columns with commas between.
        ratio: of ratio, train, val and test with commas between.
        folds: of k-fold, and sets of mixed.
        stratify: column of the classes, for ratio, k-fold and leave-one-per-class-out.
        seed: of the deal.
        allow_shared_patient: must be said for mixed.

    Returns:
        The files.

    Raises:
        InputError: if the manifest cannot be split so.
        OutputError: if a fold's file exists.
    """
    columns = [column.strip() for column in by.split(",")]
    if scheme != "mixed" and columns != ["patient"]:
        raise InputError("--by", f"must be patient, got {by}: patients are what a model has to generalise to.")
    table = _without_split(path)
    schemes: dict[str, Callable[[], Iterable[pd.DataFrame]]] = {
        "ratio": lambda: [split_by_ratio(table, _shares(ratio), seed=seed, stratify=stratify)],
        "k-fold": lambda: split_k_fold(table, folds, seed=seed, stratify=stratify),
        "pairs": lambda: ordered_pairs(table),
        "leave-one-per-class-out": lambda: leave_one_patient_per_class_out(table, stratify or "label"),
        "mixed": lambda: mixed_deal(table, columns, folds, seed=seed, allow_shared_patient=allow_shared_patient),
    }
    if scheme not in schemes:
        raise InputError("--scheme", f"must be one of {', '.join(schemes)}, got {scheme!r}.")
    tables = list(schemes[scheme]())
    files = [path.with_name(f"{path.stem}_{scheme}_{number:02d}.csv") for number in range(len(tables))]
    record = path.with_name(f"{path.stem}_{scheme}.json")
    for file in (*files, record):
        if file.exists():
            raise OutputError(file, "exists already; move it away first.")
    mixed = scheme == "mixed"
    for file, fold in zip(files, tables, strict=True):
        write_manifest(fold, file, allow_shared_patient=mixed)
    about: dict[str, Any] = {"scheme": scheme, "by": columns, "seed": seed, "stratify": stratify}
    about |= {"ratio": ratio} if scheme == "ratio" else {"folds": len(tables)}
    about |= {"manifest_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    if mixed:
        about["leakage"] = "patients are shared between splits, as was asked for by --allow-shared-patient"
    write_json(record, about)
    return files


def _without_split(path: Path) -> pd.DataFrame:
    # the split that is there is not what counts, whether it leaks or not
    table = read_manifest(path, label_is_path=False, allow_shared_patient=True)
    if "label" in table and any(_looks_like_a_path(label, path.parent) for label in table["label"]):
        table = read_manifest(path, allow_shared_patient=True)
    return table.drop(columns=[name for name in ("split", "leakage") if name in table])


def _looks_like_a_path(label: str, folder: Path) -> bool:
    return bool(label) and ("/" in label or Path(label).suffix != "" or (folder / label).exists())


def _shares(ratio: str) -> dict[str, float]:
    try:
        shares = [float(share) for share in ratio.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3 or min(shares) < 0 or not sum(shares) > 0:
        raise InputError("--ratio", f"must be three numbers, train,val,test, got {ratio}.")
    return dict(zip(SPLITS, shares, strict=True))
