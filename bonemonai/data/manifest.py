"""Manifests: one row an image, saying whose it is, where it lies and what it is for; CSV, or MONAI's datalist JSON."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from bonemonai.data.atomic import atomic_path
from bonemonai.data.datalist import parse_datalist
from bonemonai.data.volume import split_part
from bonemonai.errors import InputError

PATH_COLUMNS = ("image", "label", "mask", "lacunae", "crack", "ring", "lr", "tv")
_MAY_BE_EMPTY = ("label", "lacunae", "crack", "ring", "tv")
SPLITS = ("train", "val", "test")
_BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters and marks that show nothing


def read_manifest(
    path: str | Path,
    *,
    label_is_path: bool = True,
    root: str | Path | None = None,
    classes: Sequence[str] | None = None,
    allow_shared_patient: bool = False,
    may_be_empty: Sequence[str] = (),
) -> pd.DataFrame:
    """Read and check a manifest.

    Columns: ``patient`` and ``image`` are required; ``label`` (a truth image or, with ``label_is_path=False``,
    a class), ``mask``, ``split``, ``sample``, ``plane``, ``index``, ``load_state``, ``site`` and ``voxel_size_um`` are
    known; a ``label`` that names a file may be empty where there is none yet; ``lacunae`` is a mask that a model made,
    ``crack`` and ``ring`` are truth masks of phantoms, ``lr`` is a scan of low resolution of what ``image`` shows,
    ``tv`` a mask of the tissue to measure bone in; any other column is kept. All values are text: patient "007" is
    not patient "7". Comma and semicolon both part columns; a byte-order mark is dropped. Of a datalist of MONAI or the
    Medical Segmentation Decathlon (.json) the lists ``training``, ``validation`` and ``test`` are the splits, and
    images that state no ``patient`` are one patient each, named by their files.

    Args:
        path: the .csv or .json file.
        label_is_path: whether ``label`` names a file.
        root: folder that paths inside the manifest are relative to and must stay in; its own by default.
        classes: the classes ``label`` may name; it then names no file.
        allow_shared_patient: let one patient stand in several splits, for paper 2's mixed deals. What a model then
            scores on its test set is no measure of how it does on another patient.
        may_be_empty: columns that may hold empty cells besides those that always may: "mask", "label" (where it is a
            class), "split", for scans of which only some have a mask or a known condition.

    Returns:
        One row an image, all columns of type str, paths resolved.

    Raises:
        InputError: naming the file, the line and the cause: a column is missing, a value is empty, a file does
            not exist or lies outside the manifest's folder, a row is doubled, a split is unknown, or one
            patient stands in two splits.
        ValueError: if ``patient`` or ``image`` is to be empty.
    """
    path = Path(path)
    required = ["patient", "image"]
    if never := [column for column in required if column in may_be_empty]:
        raise ValueError(f"may_be_empty must not name {', '.join(never)}, which each row states.")
    if not path.is_file():
        raise InputError(path, "no such manifest.")
    label_is_path = label_is_path and classes is None
    is_datalist = path.suffix.lower() == ".json"
    manifest = parse_datalist(path) if is_datalist else _parse(path)
    for column in [name for name in required if name not in manifest]:
        raise InputError(path, f"lacks the column {column!r}; it has {', '.join(manifest.columns)}.")
    if manifest.empty:
        raise InputError(path, "holds no row.")
    stated = [*required, "split", *([] if label_is_path or is_datalist else ["label"])]
    _refuse_empty(path, manifest, [column for column in stated if column not in may_be_empty])
    for column in [name for name in PATH_COLUMNS if name in manifest and (name != "label" or label_is_path)]:
        # a manifest of slices names each file hundreds of times
        resolved = {
            value: _resolve(path, line, value, root) if value or column not in (*_MAY_BE_EMPTY, *may_be_empty) else ""
            for line, value in manifest[column].drop_duplicates().items()
        }
        manifest[column] = manifest[column].map(resolved)
    # without a plane, an index is what pandas numbers rows by
    place = ("plane", "index") if "plane" in manifest else ()
    position = [column for column in ("image", "lr", *place, "sample", "load_state") if column in manifest]
    _refuse_first(path, manifest, manifest.duplicated(position), "doubles an earlier row")
    if classes is not None and "label" not in manifest:
        raise InputError(path, "lacks the column 'label', whose classes are to be checked.")
    for column, allowed in (("label", classes), ("split", SPLITS)):
        if column in manifest and allowed is not None:
            wrong = ~manifest[column].isin([*allowed, ""])
            _refuse_first(path, manifest, wrong, f"column {column!r} must be one of {', '.join(allowed)}")
    if "split" in manifest and not allow_shared_patient:
        refuse_shared_patients(manifest, path)
    return manifest.reset_index(drop=True)


def write_manifest(
    manifest: pd.DataFrame, path: str | Path, *, root: str | Path | None = None, allow_shared_patient: bool = False
) -> None:
    """Write a manifest, its paths relative to its folder.

    Args:
        manifest: as :func:`read_manifest` returns it.
        path: the CSV file, replaced whole.
        root: folder that relative paths in ``manifest`` are relative to; the file's own by default.
        allow_shared_patient: see :func:`read_manifest`.

    Raises:
        InputError: if a patient stands in two splits.
    """
    path = Path(path)
    if "split" in manifest and not allow_shared_patient:
        refuse_shared_patients(manifest, path)
    relative = manifest.copy()
    for column in [name for name in PATH_COLUMNS if name in relative]:
        known = {value: _relative(value, path, root) for value in distinct(relative[column].tolist())}
        relative[column] = relative[column].map(known)
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
    visible = "".join(_visible(character) for character in folded)
    return " ".join(visible.split())


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category in ("Cf", "Cc") or character in _BLANKS or "VARIATION SELECTOR" in unicodedata.name(character, ""):
        return ""
    return "-" if category == "Pd" else character


def _parse(path: Path) -> pd.DataFrame:
    """All values as text, the index being the line in the file."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(path, f"cannot be read as UTF-8 text: {error}") from error
    header = text.split("\n", 1)[0]
    separator = ";" if header.count(";") > header.count(",") else ","
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
    try:
        lines = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(path, f"row {reader.line_num}: cannot be parsed: {error}.") from error
    columns = [column.strip() for column in lines[0][1]] if lines else []
    if len(set(columns)) != len(columns):
        raise InputError(path, f"has a doubled column: {', '.join(columns)}.")
    rows = dict(lines[1:])
    for line, row in rows.items():
        if any(unicodedata.category(character) in ("Cc", "Cs") for value in row for character in value):
            raise InputError(path, f"row {line} holds a line break or another control character; a quote left open?")
        if len(row) != len(columns):
            raise InputError(path, f"row {line} has {len(row)} values for {len(columns)} columns.")
    values = [[value.strip() for value in row] for row in rows.values()]
    return pd.DataFrame(values, columns=columns, index=list(rows), dtype=object)


def _refuse_empty(path: Path, manifest: pd.DataFrame, columns: Sequence[str]) -> None:
    for column in [name for name in columns if name in manifest]:
        _refuse_first(path, manifest, manifest[column] == "", f"column {column!r} is empty")


def _refuse_first(path: Path, manifest: pd.DataFrame, wrong: pd.Series[bool], cause: str) -> None:
    for line in manifest.index[wrong]:
        raise InputError(path, f"row {line}: {cause}.")


def _resolve(manifest: Path, line: Hashable, value: str, given_root: str | Path | None) -> str:
    root = Path(given_root if given_root is not None else manifest.parent).resolve()
    if "\0" in value or any(unicodedata.category(character) == "Cs" for character in value):
        raise InputError(manifest, f"row {line}: {value!r} is no path.")
    name, part = split_part(value)
    resolved = (root / name).resolve()
    if not value or not resolved.is_relative_to(root):
        where = "the manifest's folder" if given_root is None else str(given_root)
        raise InputError(manifest, f"row {line}: {value!r} is not inside {where}.")
    if not resolved.exists():
        raise InputError(manifest, f"row {line}: {value!r} does not exist.")
    return f"{resolved}::{part}" if part else str(resolved)


def _relative(value: str, manifest: Path, given_root: str | Path | None) -> str:
    """A path as the manifest will hold it; classes in a path's column stay as they are."""
    root = manifest.parent.resolve()
    if not value or (given_root is None and not Path(value).is_absolute()):
        return value
    resolved = (Path(given_root or ".").resolve() / value).resolve()
    if not resolved.is_relative_to(root):
        raise InputError(manifest, f"must lie in a folder that holds {resolved.name} as well.")
    return resolved.relative_to(root).as_posix()


def describe_manifest(manifest: pd.DataFrame) -> dict[str, str]:
    """What a manifest holds, in words.

    Args:
        manifest: as :func:`read_manifest` returns it.
    """
    lines = {"images": str(len(manifest)), "patients": str(manifest["patient"].map(patient_key).nunique())}
    if "label" in manifest and manifest["label"].nunique() <= 20:
        lines["labels"] = ", ".join(f"{name} {n}" for name, n in manifest["label"].value_counts(sort=False).items())
    for name in SPLITS if "split" in manifest else ():
        rows = manifest[manifest["split"] == name]
        lines[name] = f"{len(rows)} images of {rows['patient'].map(patient_key).nunique()} patients"
    if "split" in manifest:
        splits = manifest.groupby(manifest["patient"].map(patient_key))["split"].nunique()
        shared = int((splits > 1).sum())
        if shared:
            lines["LEAKAGE"] = f"{shared} patients stand in several splits; test scores say nothing of other patients."
    return lines


def distinct(values: Sequence[str]) -> list[str]:
    """Return the values in order of first appearance, each once."""
    return list(dict.fromkeys(values))
