"""Counts summed over slabs of a volume, which a stopped run finds again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from bonemonai.data.json_file import read_json, write_json
from bonemonai.errors import ResumeError

Counts = Mapping[str, int]


class SlabRecord:
    """Counts of finished slabs in a JSON file that is whole at any moment.

    Args:
        path: the file; one that is there already is continued.
        fingerprint: JSON values of everything that counts depend on.

    Attributes:
        path: the file.

    Raises:
        ResumeError: if the file is of another fingerprint, or is no such record.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "record.json"
        >>> SlabRecord(path, {"threshold": 63}).add("volume", slice(0, 4), {"bone": 7})
        >>> SlabRecord(path, {"threshold": 63}).find("volume", slice(0, 4))
        {'bone': 7}
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, Any]) -> None:
        self.path, self._fingerprint = path, dict(fingerprint)
        self._done: dict[str, dict[str, int]] = {}
        if path.exists():
            content = read_json(path)
            if content is None or not isinstance(content.get("slabs"), dict):
                raise ResumeError(path, "is no record of a measurement; choose another file.")
            found = content.get("fingerprint")
            if found != self._fingerprint:
                old = found if isinstance(found, dict) else {}
                names = sorted(
                    name for name in {*old, *self._fingerprint} if old.get(name) != self._fingerprint.get(name)
                )
                raise ResumeError(path, f"is of another measurement ({', '.join(names)}); choose another file.")
            self._done = content["slabs"]

    def find(self, stage: str, slab: slice) -> dict[str, int] | None:
        """Counts of a finished slab, or None."""
        return self._done.get(_key(stage, slab))

    def add(self, stage: str, slab: slice, counts: Counts) -> None:
        """Keep a finished slab; on return it is on disk.

        Args:
            stage: what was counted.
            slab: planes.
            counts: of it.
        """
        self._done[_key(stage, slab)] = dict(counts)
        write_json(self.path, {"fingerprint": self._fingerprint, "slabs": self._done})


def sum_over_slabs(
    stage: str, slabs: Iterable[slice], count: Callable[[int, int], Counts], record: SlabRecord | None = None
) -> Counter[str]:
    """Add up what a function counts in each slab; whole numbers, so that the order of slabs does not matter.

    Args:
        stage: name in the record.
        slabs: planes, all of a volume.
        count: takes first plane and one past the last.
        record: where finished slabs are kept; None keeps none.

    Example:
        >>> sum_over_slabs("planes", [slice(0, 4), slice(4, 5)], lambda start, stop: {"planes": stop - start})
        Counter({'planes': 5})
    """
    total: Counter[str] = Counter()
    for slab in slabs:
        counts = None if record is None else record.find(stage, slab)
        if counts is None:
            counts = dict(count(slab.start, slab.stop))
            if record is not None:
                record.add(stage, slab, counts)
        total.update(counts)
    return total


def _key(stage: str, slab: slice) -> str:
    return f"{stage} {slab.start}-{slab.stop}"
