"""OME-Zarr written plane by plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.ome_zarr_store import CHUNK, OmeZarrStore
from bonemonai.data.stack_writer import StackWriter


class OmeZarrWriter(StackWriter):
    """Write a volume as multiscale OME-Zarr 0.5, which napari, Fiji and ITK open.

    Planes may come one by one or in blocks, in order; memory holds one slab of 16.

    Args:
        path: the folder to make, ending in ``.ome.zarr`` or ``.zarr``.
        shape: (planes, rows, columns).
        dtype: of the values.
        voxel_size_um: along (plane, row, column).
        kind: "label" makes smaller levels by taking every second voxel, "image" by averaging 2 x 2 x 2.
        overwrite: replace what is there.
        attributes: put beside the OME metadata under ``bonemonai``, for instance provenance; JSON values.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "mask.ome.zarr"
        >>> with OmeZarrWriter(path, shape=(2, 8, 8), dtype="uint8", voxel_size_um=(1.6, 1.6, 1.6)) as writer:
        ...     writer.write(np.zeros((2, 8, 8), "uint8"))
        >>> import zarr
        >>> zarr.open(path, mode="r")["0"].shape
        (2, 8, 8)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        voxel_size_um: Sequence[float],
        kind: Literal["label", "image"] = "label",
        overwrite: bool = False,
        attributes: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(path, shape=shape, dtype=dtype, voxel_size_um=voxel_size_um, overwrite=overwrite)
        self._kind: Literal["label", "image"] = kind
        self.attributes = attributes or {}

    def _begin(self) -> None:
        self._store = OmeZarrStore(
            self._partial, shape=self.shape, dtype=self.dtype, voxel_size_um=self.voxel_size_um, kind=self._kind
        )
        self._store.name = self.path.name
        self._array = self._store.create()
        self._slab = np.empty((min(CHUNK[0], self.shape[0]), *self.shape[1:]), dtype=self.dtype)

    def _append(self, plane: NDArray[Any], index: int) -> None:
        position = index % CHUNK[0]
        self._slab[position] = plane
        if position + 1 == CHUNK[0] or index + 1 == self.shape[0]:
            self._array[index - position : index + 1] = self._slab[: position + 1]

    def _complete(self) -> None:
        self._store.finish(self.attributes)
