"""Which data a result was made from, without reading all of it and without telling where it lay."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from bonemonai.data.volume import split_part

_SAMPLE = 65536  # bytes


def fingerprint(path: str | Path) -> dict[str, Any]:
    """Describe a file or folder by size and a digest, not by name: a file's name may be a patient's.

    The digest covers every file's name and size, and 64 KiB from the start, the middle and the end of the first, the
    middle and the last file: enough to tell two scans apart, cheap for one of 89 GB. It proves no more than that.

    Args:
        path: a file or a folder, or ``path::part`` where one of several volumes is meant.

    Returns:
        ``files``, ``bytes`` and ``sha256_sampled``.
    """
    path, part = split_part(path)
    files = _files(path)
    sizes = [file.stat().st_size for file in files]
    digest = hashlib.sha256(part.encode())
    for file, size in zip(files, sizes, strict=True):
        name = file.relative_to(path).as_posix() if path.is_dir() else file.name
        digest.update(os.fsencode(f"{name}\0{size}\n"))
    for index in sorted({0, len(files) // 2, len(files) - 1} if files else ()):
        with open(files[index], "rb") as stream:
            for offset in (0, max(0, sizes[index] // 2), max(0, sizes[index] - _SAMPLE)):
                stream.seek(offset)
                digest.update(stream.read(_SAMPLE))
    return {"files": len(files), "bytes": sum(sizes), "sha256_sampled": digest.hexdigest()}


def full_sha256(path: str | Path) -> str:
    """Digest of every byte of a file, or of every file of a folder with its name; as slow as reading it all."""
    path = Path(path)
    digest = hashlib.sha256()
    for file in _files(path):
        with open(file, "rb") as stream:
            inner = hashlib.file_digest(stream, "sha256").hexdigest()
        name = file.name if file == path else file.relative_to(path).as_posix()
        digest.update(os.fsencode(f"{name}\0{inner}\n"))
    return digest.hexdigest()


class Snapshot:
    """Sizes and modification times of a file or of a folder's files, to tell later whether one has changed.

    Args:
        path: a file or a folder.
    """

    def __init__(self, path: str | Path) -> None:
        self._stats = {file: _state(file) for file in _files(Path(path))}
        self._root = Path(path)

    @property
    def digest(self) -> str:
        """Digest of all names, sizes and modification times."""
        digest = hashlib.sha256()
        for file, state in self._stats.items():
            name = file.name if file == self._root else file.relative_to(self._root).as_posix()
            digest.update(os.fsencode(f"{name}\0{state}\n"))
        return digest.hexdigest()

    def changed(self) -> Path | None:
        """The first file that is no longer as it was, or None."""
        return next((file for file, state in self._stats.items() if _state(file) != state), None)


def _files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _state(file: Path) -> tuple[int, int] | None:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns
