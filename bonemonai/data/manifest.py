"""Manifests: one CSV row an image, saying whose it is, where it lies and what it is for."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.atomic import atomic_path
from bonemonai.data.volume import split_part
from bonemonai.errors import InputError

PATH_COLUMNS = ("image", "label", "mask")
SPLITS = ("train", "val", "test")


def read_manifest(path: str | Path, *, label_is_path: bool = True) -> pd.DataFrame:
    """Read and check a manifest.

    Columns: ``patient`` and ``image`` are required; ``label`` (a truth image or, with ``label_is_path=False``,
    a class), ``mask``, ``split``, ``sample``, ``plane``, ``load_state``, ``site`` and ``voxel_size_um`` are
    known; any other is kept. All values are text: patient "007" is not patient "7". Comma and semicolon both
    part columns; a byte-order mark is dropped.

    Args:
        path: the CSV file. Paths inside it are relative to its folder.
        label_is_path: whether ``label`` names a file.

    Returns:
        One row an image, all columns of type str, paths resolved.

    Raises:
        InputError: naming the file, the line and the cause: a column is missing, a value is empty, a file does
            not exist or lies outside the manifest's folder, a row is doubled, a split is unknown, or one
            patient stands in two splits.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "no such manifest.")
    manifest = _parse(path)
    required = ["patient", "image"]
    for column in required:
        if column not in manifest:
            raise InputError(path, f"lacks the column {column!r}; it has {', '.join(manifest.columns)}.")
    if manifest.empty:
        raise InputError(path, "holds no row.")
    for column in [name for name in (*required, "label", "split") if name in manifest]:
        _refuse_first(path, manifest, manifest[column] == "", f"column {column!r} is empty")
    for column in [name for name in PATH_COLUMNS if name in manifest and (name != "label" or label_is_path)]:
        manifest[column] = [_resolve(path, line, value) for line, value in manifest[column].items()]
    position = [column for column in ("image", "plane", "sample", "load_state") if column in manifest]
    _refuse_first(path, manifest, manifest.duplicated(position), "doubles an earlier row")
    if "split" in manifest:
        unknown = ~manifest["split"].isin(SPLITS)
        _refuse_first(path, manifest, unknown, f"column 'split' must be one of {', '.join(SPLITS)}")
        refuse_shared_patients(manifest, path)
    return manifest.reset_index(drop=True)


def write_manifest(manifest: pd.DataFrame, path: str | Path) -> None:
    """Write a manifest, its paths relative to its folder.

    Args:
        manifest: as :func:`read_manifest` returns it.
        path: the CSV file, replaced whole.

    Raises:
        InputError: if a patient stands in two splits.
    """
    path = Path(path)
    if "split" in manifest:
        refuse_shared_patients(manifest, path)
    relative = manifest.copy()
    for column in [name for name in PATH_COLUMNS if name in relative]:
        root = path.parent.resolve()
        relative[column] = [
            Path(value).resolve().relative_to(root).as_posix() if Path(value).is_absolute() else value
            for value in relative[column]
        ]
    with atomic_path(path) as partial:
        relative.to_csv(partial, index=False, lineterminator="\n")


def manifest_items(manifest: pd.DataFrame, split: str | None = None) -> list[dict[Hashable, Any]]:
    """Rows as dictionaries, the form MONAI's datasets take.

    Args:
        manifest: as :func:`read_manifest` returns it.
        split: "train", "val" or "test"; None takes all rows.

    Raises:
        InputError: if the split has no row.
    """
    if split is not None:
        if "split" not in manifest:
            raise InputError("manifest", "has no column 'split': assign one, see bonemonai.data.splits.")
        manifest = manifest[manifest["split"] == split]
    if manifest.empty:
        raise InputError("manifest", f"the data set is empty: no row of split {split!r}.")
    return manifest.to_dict("records")


def refuse_shared_patients(manifest: pd.DataFrame, name: str | Path = "manifest") -> None:
    """Raise where one patient's images stand in two splits.

    Ids are compared by :func:`patient_key`, and one image under two patients counts as shared too.

    Args:
        manifest: with columns ``patient`` and ``split``.
        name: the file to name in the error.

    Raises:
        InputError: naming the patient or the image.
    """
    patient = manifest["patient"].map(patient_key)
    for what, key in (("patient", patient), ("image", manifest["image"])):
        splits = manifest.groupby(key)["split"].unique()
        for shared, found in splits[splits.str.len() > 1].items():
            raise InputError(name, f"{what} {shared!r} stands in more than one split: {', '.join(sorted(found))}.")


def patient_key(patient: str) -> str:
    """The form in which two spellings of one id are equal: case, spacing, Unicode form, invisible characters.

    Leading zeros count: "007" is not "7".

    Example:
        >>> patient_key(" P  1") == patient_key("p 1")
        True
    """
    folded = unicodedata.normalize("NFKC", patient).casefold()
    visible = "".join(character for character in folded if unicodedata.category(character) != "Cf")
    return " ".join(visible.split())


def _parse(path: Path) -> pd.DataFrame:
    """All values as text, the index being the line in the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from error
    header = text.split("\n", 1)[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    reader = csv.reader(io.StringIO(text), delimiter=separator)
    lines = [(reader.line_num, row) for row in reader if row]
    columns = [column.strip() for column in lines[0][1]] if lines else []
    if len(set(columns)) != len(columns):
        raise InputError(path, f"has a doubled column: {', '.join(columns)}.")
    rows = dict(lines[1:])
    for line, row in rows.items():
        if len(row) != len(columns):
            raise InputError(path, f"row {line} has {len(row)} values for {len(columns)} columns.")
    values = [[value.strip() for value in row] for row in rows.values()]
    return pd.DataFrame(values, columns=columns, index=list(rows), dtype=object)


def _refuse_first(path: Path, manifest: pd.DataFrame, wrong: pd.Series[bool], cause: str) -> None:
    for line in manifest.index[wrong]:
        raise InputError(path, f"row {line}: {cause}.")


def _resolve(manifest: Path, line: Hashable, value: str) -> str:
    root = manifest.parent.resolve()
    name, part = split_part(value)
    resolved = (root / name).resolve()
    if not value or not resolved.is_relative_to(root):
        raise InputError(manifest, f"row {line}: {value!r} is not inside the manifest's folder.")
    if not resolved.exists():
        raise InputError(manifest, f"row {line}: {value!r} does not exist.")
    return f"{resolved}::{part}" if part else str(resolved)


def distinct(values: Sequence[str]) -> list[str]:
    """Return the values in order of first appearance, each once."""
    return list(dict.fromkeys(values))
