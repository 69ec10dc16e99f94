"""What lies in a bundle's folder, and nothing that does not belong there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError
from bonemonai.sharing.config_entries import parse_json
from bonemonai.sharing.safe_names import colliding_names, unsafe_name

MANIFEST = "bundle.json"
METADATA = "configs/metadata.json"
LICENCE = "docs/data_license.txt"
README = "docs/README.md"
MODEL_CARD = "docs/model_card.md"
RESULTS = "eval"  # where the configs write by default: no part of the bundle
STATE = ".training"  # end of the folder's name in which a training keeps what it needs to go on
RUN_RECORD = ".run.json"  # end of the name of what bonemonai run writes

_KINDS = {
    "configs": (".json", ".conf"),
    "docs": (".md", ".txt", ".csv", ".png", ".jpg", ".jpeg"),
    "models": (".pt", ".pth", ".json", ".csv"),
    "wheels": (".whl",),
}
_TOP = ("LICENSE", "NOTICE", MANIFEST)
_LARGEST_TEXT = 20_000_000  # bytes


def bundle_files(folder: Path) -> dict[str, Path]:
    """List a bundle's files by name, sorted; results in ``eval``, states of trainings and records are passed over.

    Args:
        folder: the bundle.

    Returns:
        Name with ``/`` between its parts, to path.

    Raises:
        InputError: if there is no such folder, or it holds a link, or something that is no part of a bundle: Python, or
            a config of a kind that nothing here checks.
    """
    if not folder.is_dir():
        raise InputError(folder, "is no folder of a bundle, and no archive of one.")
    if not (folder / METADATA).is_file():
        raise InputError(folder, f"is no bundle: it holds no {METADATA}.")
    files: dict[str, Path] = {}
    for path in sorted(_walk(folder)):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise InputError(name, "is a link; put what it points to in its place.")
        if path.is_dir() or name.endswith(RUN_RECORD):
            continue
        if not path.is_file():
            raise InputError(name, "is neither a file nor a folder; remove it.")
        check_name(name)
        files[name] = path
    pair = colliding_names(files)
    if pair is not None:
        raise InputError(pair[1], f"and {pair[0]} are one file on some systems; rename one.")
    return files


def _walk(folder: Path) -> Iterator[Path]:
    for top in folder.iterdir():
        if top.name != RESULTS:
            yield top
            inner = () if top.is_symlink() else top.rglob("*")
            yield from (
                path for path in inner if not any(part.endswith(STATE) for part in path.relative_to(folder).parts)
            )


def check_name(name: str) -> None:
    """Refuse a file that is no part of a bundle.

    Args:
        name: of the file in the bundle.

    Raises:
        InputError: saying why.
    """
    reason = unsafe_name(name)
    if reason is not None:
        raise InputError(repr(name)[1:-1], f"{reason}; rename it.")
    first, _, rest = name.partition("/")
    known = _KINDS.get(first, ()) if rest else ()
    if name not in _TOP and not (known and name.endswith(known)):
        what = "Python" if name.endswith((".py", ".pyc", ".pyd", ".so", ".ipynb")) else "of a kind that none holds"
        raise InputError(name, f"is no part of a bundle: it is {what}; remove it.")


def read_text(files: dict[str, Path], name: str) -> bytes:
    """Content of one of the small files.

    Args:
        files: of the bundle.
        name: of the file.

    Raises:
        InputError: if it is missing, or too large to be text that somebody wrote.
    """
    if name not in files:
        raise InputError(name, "is missing from the bundle.")
    if files[name].stat().st_size > _LARGEST_TEXT:
        raise InputError(name, f"is larger than {_LARGEST_TEXT // 1_000_000} MB, which no such file is.")
    return files[name].read_bytes()


def read_configs(files: dict[str, Path]) -> dict[str, Any]:
    """All JSON files but the bundle's own list, parsed.

    Args:
        files: of the bundle.

    Raises:
        InputError: if one cannot be parsed.
    """
    names = [name for name in files if name.endswith(".json") and name != MANIFEST]
    return {name: parse_json(name, read_text(files, name)) for name in names}


def code_digest(files: dict[str, Path]) -> str:
    """One digest of everything in a bundle that may run code when a workflow starts.

    Args:
        files: of the bundle.
    """
    digest = hashlib.sha256()
    for name in sorted(files):
        if name.endswith((".json", ".conf")) and name != MANIFEST:
            digest.update(f"{name}\0{file_sha256(files[name])}\n".encode())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of a file's content, as hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
