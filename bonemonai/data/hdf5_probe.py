"""A first look at an HDF5 file in a process of its own: on a damaged index HDF5's library takes its process down.

python -m bonemonai.data.hdf5_probe FILE
"""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError

_MOST_CHUNKS = 20_000  # of a dataset that are looked for
_SECONDS = 120


def probe_hdf5(path: Path) -> None:
    """Refuse a file on which HDF5's library crashes.

    Args:
        path: the file.

    Raises:
        InputError: if it does, or finds no end. What else is wrong with a file is said when it is opened.
    """
    command = [sys.executable, "-m", "bonemonai.data.hdf5_probe", str(path)]
    try:
        status = subprocess.run(command, capture_output=True, check=False, timeout=_SECONDS).returncode
    except subprocess.TimeoutExpired:
        raise InputError(path, f"is damaged: HDF5's library finds no end in it, in {_SECONDS} s.") from None
    if status < 0:
        raise InputError(path, "is damaged: HDF5's library crashes on it.")


def _look(path: str) -> None:
    import h5py
    import hdf5plugin  # noqa: F401 - registers codecs

    with h5py.File(path, "r") as file:
        datasets: list[Any] = []
        file.visititems(lambda _, node: datasets.append(node) if hasattr(node, "ndim") and node.ndim >= 3 else None)
        for dataset in datasets:
            for corner in _corners(dataset):
                dataset.id.get_chunk_info_by_coord(corner)
            planes = dataset.shape[-3]
            for plane in sorted({0, planes // 2, planes - 1}):
                dataset[(0,) * (dataset.ndim - 3) + (slice(plane, plane + 1),)]


def _corners(dataset: Any) -> Iterator[tuple[int, ...]]:
    if not dataset.chunks:
        return iter(())
    steps = (range(0, n, c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    return itertools.islice(itertools.product(*steps), _MOST_CHUNKS)


if __name__ == "__main__":
    _look(sys.argv[1])
