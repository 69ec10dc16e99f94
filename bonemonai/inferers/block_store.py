"""Results on disk, written block by block: each once, by one writer, surely there when the journal says so."""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import zarr
from numpy.typing import NDArray

from bonemonai.data.ome_zarr_store import OmeZarrStore
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.tiling import Box


class BlockStore:
    """The arrays of a run's outputs, in one folder.

    A block is whole chunks, so that no two writers share a file; nothing is added to in place.

    Args:
        folder: where the arrays lie while the run goes on.
        outputs: what is kept.
        shape: (planes, rows, columns).
        voxel_size_um: along (plane, row, column).
        chunks: (planes, rows, columns) of a chunk.
    """

    def __init__(
        self,
        folder: Path,
        outputs: Sequence[Output],
        shape: tuple[int, int, int],
        voxel_size_um: Sequence[float],
        chunks: tuple[int, int, int],
    ) -> None:
        self.folder, self.outputs = folder, outputs
        self._common: dict[str, Any] = {"shape": shape, "voxel_size_um": voxel_size_um, "chunks": chunks}
        self.stores = {
            output.name: OmeZarrStore(folder / output.name, dtype=output.dtype, kind=output.kind, **self._common)
            for output in outputs
        }
        self._arrays: dict[str, zarr.Array[Any]] = {}

    def at(self, folder: Path) -> BlockStore:
        """The same arrays in another folder."""
        return BlockStore(folder, self.outputs, **self._common)

    def create(self) -> None:
        """Make arrays that are not there yet."""
        for store in self.stores.values():
            if not ((store.path / "0" / "zarr.json").is_file() and (store.path / "zarr.json").is_file()):
                store.create()

    def sweep(self) -> None:
        """Remove what a killed writer left half-written."""
        for path in self.folder.rglob("*.partial"):
            path.unlink(missing_ok=True)

    def write(self, box: Box, values: Mapping[str, NDArray[Any]]) -> str:
        """Write a block and have it on disk.

        Args:
            box: whole chunks, or up to the end of an axis.
            values: one array an output.

        Returns:
            Digest of the files that were written.
        """
        for name, store in self.stores.items():
            if name not in self._arrays:
                self._arrays[name] = store.open()
            self._arrays[name][box] = values[name]
        files = self._files(box)
        for file in files:
            _sync(file)
        for folder in {parent for file in files for parent in itertools.islice(file.parents, 4)}:
            _sync(folder)
        return _digest(files)

    def digest(self, box: Box) -> str | None:
        """Digest of a block's files as they are now; None if one is missing."""
        try:
            return _digest(self._files(box))
        except OSError:
            return None

    def _files(self, box: Box) -> list[Path]:
        files = []
        for store in self.stores.values():
            ranges = [
                range(part.start // chunk, -(-part.stop // chunk))
                for part, chunk in zip(box, store.chunks, strict=True)
            ]
            files += [store.path / "0" / "c" / str(z) / str(y) / str(x) for z, y, x in itertools.product(*ranges)]
        return files


def _digest(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # pragma: no cover - Windows has no handle of a folder to sync
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
