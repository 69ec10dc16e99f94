"""OME-Zarr written plane by plane: full resolution first, then the smaller levels a viewer needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

from bonemonai.data.stack_writer import StackWriter

_SLAB, _TILE = 16, 512  # planes and pixels of a chunk


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
        self.kind, self.attributes = kind, attributes or {}

    def _begin(self) -> None:
        self._array = self._create("0", self.shape)
        self._slab = np.empty((min(_SLAB, self.shape[0]), *self.shape[1:]), dtype=self.dtype)

    def _append(self, plane: NDArray[Any], index: int) -> None:
        position = index % _SLAB
        self._slab[position] = plane
        if position + 1 == _SLAB or index + 1 == self.shape[0]:
            self._array[index - position : index + 1] = self._slab[: position + 1]

    def _complete(self) -> None:
        self._write_metadata(self._write_smaller_levels())

    def _create(self, level: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
        return zarr.create_array(
            self._partial,
            name=level,
            shape=shape,
            dtype=self.dtype,
            chunks=tuple(min(n, chunk) for n, chunk in zip(shape, (_SLAB, _TILE, _TILE), strict=True)),
            compressors=ZstdCodec(level=3, checksum=True),
            dimension_names=("z", "y", "x"),
            # an absent chunk is then always a lost one, see ZarrVolume
            config={"write_empty_chunks": True},
        )

    def _write_smaller_levels(self) -> list[list[float]]:
        """Halve until a plane fits a tile; return each level's voxel size over that of the first."""
        factors = [[1.0, 1.0, 1.0]]
        source = self._array
        while max(source.shape) > _TILE:
            steps = [2 if n > 1 else 1 for n in source.shape]
            shape = tuple(-(-n // step) for n, step in zip(source.shape, steps, strict=True))
            target = self._create(str(len(factors)), shape)
            for start in range(0, shape[0], _SLAB):
                stop = min(start + _SLAB, shape[0])
                block = np.asarray(source[start * steps[0] : stop * steps[0]])
                target[start:stop] = self._halve(block, steps)
            factors.append([f * step for f, step in zip(factors[-1], steps, strict=True)])
            source = target
        return factors

    def _halve(self, block: NDArray[Any], steps: list[int]) -> NDArray[Any]:
        if self.kind == "label":
            return block[:: steps[0], :: steps[1], :: steps[2]]
        padded = np.pad(block, [(0, -n % step) for n, step in zip(block.shape, steps, strict=True)], mode="edge")
        d, h, w = (n // step for n, step in zip(padded.shape, steps, strict=True))
        mean = padded.reshape(d, steps[0], h, steps[1], w, steps[2]).mean(axis=(1, 3, 5))
        return np.asarray(np.rint(mean) if self.dtype.kind in "ui" else mean, dtype=self.dtype)

    def _write_metadata(self, factors: list[list[float]]) -> None:
        datasets = []
        for level, factor in enumerate(factors):
            scale = [edge * f for edge, f in zip(self.voxel_size_um, factor, strict=True)]
            transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
            if self.kind == "image":
                # the mean of two voxels lies between their centres
                shift = [edge * (f - 1) / 2 for edge, f in zip(self.voxel_size_um, factor, strict=True)]
                transforms.append({"type": "translation", "translation": shift})
            datasets.append({"path": str(level), "coordinateTransformations": transforms})
        multiscale: dict[str, Any] = {
            "name": self.path.name.removesuffix(".zarr").removesuffix(".ome"),
            "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
            "datasets": datasets,
        }
        group = zarr.open_group(self._partial, mode="r+")
        group.attrs.update({"ome": {"version": "0.5", "multiscales": [multiscale]}, "bonemonai": self.attributes})
