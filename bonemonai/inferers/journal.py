"""The journal of a run: one line a finished block, which survives being killed at any moment."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from bonemonai.data.atomic import atomic_path

Block = tuple[int, int]  # first plane, first row


class Journal:
    """Append-only file of finished blocks and the digests of what they wrote.

    A line counts when it is whole; a torn last line is dropped. Every process writes a journal of its own, because
    appending to one file from several machines is not safe everywhere; all of a folder's journals are read together.

    Args:
        path: the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with Journal(folder / "journal-0.jsonl") as journal:
        ...     journal.append((0, 512), "ab12")
        >>> read_journals(folder)
        {(0, 512): 'ab12'}
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        if self._path.exists():
            content = self._path.read_bytes()
            with open(self._path, "rb+") as stream:
                stream.truncate(content.rfind(b"\n") + 1)
        self._stream = open(self._path, "ab")
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def append(self, block: Block, sha256: str) -> None:
        """Record a block, all of whose bytes are on disk already; on return the line is, too."""
        self._stream.write(_line(block, sha256))
        self._stream.flush()
        os.fsync(self._stream.fileno())


def rewrite_journals(folder: Path, done: Mapping[Block, str]) -> None:
    """Replace all journals of a folder by one that holds these blocks."""
    first = folder / "journal-0.jsonl"
    with atomic_path(first) as partial:
        partial.write_bytes(b"".join(_line(block, sha256) for block, sha256 in done.items()))
    for path in folder.glob("journal-*.jsonl"):
        if path != first:
            path.unlink()


def read_journals(folder: Path) -> dict[Block, str]:
    """Finished blocks and their digests, from all journals of a folder."""
    done: dict[Block, str] = {}
    for path in sorted(folder.glob("journal-*.jsonl")):
        for line in path.read_bytes().split(b"\n")[:-1]:
            entry = _parse(line)
            if entry is not None:
                plane, row = entry["block"]
                done[int(plane), int(row)] = str(entry["sha256"])
    return done


def _line(block: Block, sha256: str) -> bytes:
    return json.dumps({"block": list(block), "sha256": sha256}).encode() + b"\n"


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
        return entry if len(entry["block"]) == 2 and entry["sha256"] else None
    except (ValueError, KeyError, TypeError):
        return None
