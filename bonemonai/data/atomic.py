"""Files and folders that appear whole under their final name, or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bonemonai.errors import OutputError


@contextmanager
def atomic_path(path: str | Path, *, overwrite: bool = True) -> Iterator[Path]:
    """Give a name to write to; on leaving without an error, move what was written to its final name.

    The temporary name, ``.<name>.partial``, lies in the same folder, so that the move is a rename. A folder that is
    replaced is moved aside first and deleted last. What an interrupted run left behind is removed.

    Args:
        path: the final name of a file or folder; its parent folders are made.
        overwrite: False refuses to replace what is there.

    Raises:
        OutputError: if the place is taken, or cannot be written to.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "answer.txt"
        >>> with atomic_path(target) as partial:
        ...     _ = partial.write_text("42")
        >>> target.read_text()
        '42'
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    if path.exists() and not overwrite:
        raise OutputError(path, "exists already; choose another place, or say overwrite.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(partial)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror}.") from error
    try:
        yield partial
        _sync(partial)
        if path.is_dir() and not partial.is_dir():
            raise OutputError(path, "is a folder; a file is to be written there.")
        replaced = path.with_name(f".{path.name}.replaced")
        if path.is_dir():
            _remove(replaced)
            path.rename(replaced)
        partial.replace(path)
        _remove(replaced)
    except OSError as error:
        raise OutputError(path, f"cannot be written: {error.strerror or error}.") from error
    finally:
        _remove(partial)


def _sync(path: Path) -> None:
    """Have the content on disk before the name points to it."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            with open(file, "rb+") as stream:
                os.fsync(stream.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
