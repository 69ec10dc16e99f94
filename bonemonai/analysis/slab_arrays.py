"""Arrays that finished slabs leave behind, which a stopped run finds again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.data.atomic import atomic_path
from bonemonai.data.fingerprint import full_sha256
from bonemonai.errors import ResumeError

Arrays = Mapping[str, NDArray[Any]]


class SlabArrays:
    """Arrays of finished slabs as compressed files, in a folder of the record's name and ``.d`` beside it.

    The record lists each file and its digest, once the file is whole. A file that it does not list counts for nothing,
    one that is not there is made again. Each slab may leave the labels of its last plane, too, which are large and
    needed for the next slab only.

    Args:
        record: that lists them; they are of its measurement.
        stage: what was found; names its files, and its slabs in the record.
        source: JSON values of what the arrays depend on besides the record's fingerprint.

    Example:
        >>> import tempfile
        >>> record = SlabRecord(Path(tempfile.mkdtemp()) / "record.json", {})
        >>> SlabArrays(record, "pieces").add(slice(0, 4), {"joins": np.array([[1, 2]])}, None)
        >>> SlabArrays(record, "pieces").find(slice(0, 4))
        {'joins': array([[1, 2]], dtype=uint8)}
    """

    def __init__(self, record: SlabRecord, stage: str, source: Mapping[str, Any] | None = None) -> None:
        self._record, self._stage = record, stage
        self._source = _number(hashlib.sha256(json.dumps(source or {}, sort_keys=True).encode()).hexdigest())
        self._folder = record.path.with_name(f"{record.path.name}.d")

    def find(self, slab: slice) -> dict[str, NDArray[Any]] | None:
        """Arrays of a finished slab, or None.

        Raises:
            ResumeError: if they are of another source, or their file is damaged.
        """
        return self._read(slab, "arrays")

    def find_last_plane(self, slab: slice) -> NDArray[Any] | None:
        """Labels of the last plane of a finished slab, or None if they were not kept.

        Raises:
            ResumeError: if they are of another source, or their file is damaged.
        """
        found = self._read(slab, "last plane")
        return None if found is None else found["labels"]

    def add(self, slab: slice, arrays: Arrays, last_plane: NDArray[Any] | None) -> None:
        """Keep a finished slab; on return it is on disk.

        Args:
            slab: planes.
            arrays: of it; whole numbers, not below 0, take the smallest type that holds them.
            last_plane: labels; None keeps none.
        """
        listed = {"source": self._source}
        if last_plane is not None:
            listed["last plane"] = self._write(self._file(slab, "last plane"), {"labels": last_plane})
        listed["arrays"] = self._write(self._file(slab, "arrays"), arrays)
        self._record.add(self._stage, slab, listed)

    def drop_last_plane(self, slab: slice) -> None:
        """Free the disk of labels that no slab needs any more."""
        self._file(slab, "last plane").unlink(missing_ok=True)

    def _file(self, slab: slice, what: str) -> Path:
        return self._folder / f"{self._stage} {slab.start}-{slab.stop} {what}.npz"

    def _write(self, file: Path, arrays: Arrays) -> int:
        content: dict[str, Any] = {name: _smallest(array) for name, array in arrays.items()}
        with atomic_path(file) as partial, open(partial, "wb") as stream:
            np.savez_compressed(stream, **content)
        return _number(full_sha256(file))

    def _read(self, slab: slice, what: str) -> dict[str, NDArray[Any]] | None:
        listed, file = self._record.find(self._stage, slab), self._file(slab, what)
        if listed is None or not file.exists():
            return None
        if listed.get("source") != self._source:
            raise ResumeError(
                self._folder, f"holds {self._stage} of another mask; delete it, or choose another record (--record)."
            )
        if listed.get(what) != _number(full_sha256(file)):
            raise ResumeError(file, "is damaged; delete it, and its planes are measured again.")
        with open(file, "rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return dict(stored)


def _number(sha256: str) -> int:
    """The first 64 bits: a record holds whole numbers."""
    return int(sha256[:16], 16)


def _smallest(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.kind == "f" else array.astype(np.min_scalar_type(array.max(initial=0)))
