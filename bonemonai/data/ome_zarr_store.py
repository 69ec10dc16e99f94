"""One OME-Zarr image on disk: its full-resolution array, the smaller levels a viewer needs, its metadata."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec

CHUNK = (16, 512, 512)  # planes, rows, columns: measured fastest to write; whole slabs of planes go out at once


class OmeZarrStore:
    """A multiscale OME-Zarr 0.5 image, which napari, Fiji and ITK open.

    The array is made by :meth:`create`, filled by anyone in whole chunks, and completed by :meth:`finish`; before that
    no reader takes the folder for an image. Writing the same values gives the same bytes.

    Args:
        path: the folder.
        shape: (planes, rows, columns).
        dtype: of the values.
        voxel_size_um: along (plane, row, column).
        kind: "label" makes smaller levels by taking every second voxel, "image" by averaging 2 x 2 x 2.
        chunks: (planes, rows, columns) of a chunk, at most.
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        voxel_size_um: Sequence[float],
        kind: Literal["label", "image"] = "label",
        chunks: tuple[int, int, int] = CHUNK,
    ) -> None:
        self.path, self.shape, self.kind = path, shape, kind
        self._chunks = chunks
        self.name = path.name  # of the image, where the folder still has another
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        self.voxel_size_um = tuple(float(edge) for edge in voxel_size_um)

    @property
    def chunks(self) -> tuple[int, int, int]:
        """(planes, rows, columns) of a chunk of the full-resolution array."""
        return self._fitted(self.shape)

    def _fitted(self, shape: Sequence[int]) -> tuple[int, int, int]:
        planes, rows, columns = (min(n, chunk) for n, chunk in zip(shape, self._chunks, strict=True))
        return planes, rows, columns

    def create(self) -> zarr.Array[Any]:
        """Make the full-resolution array."""
        return self._create("0", self.shape)

    def open(self) -> zarr.Array[Any]:
        """Open the full-resolution array to write to, as :meth:`create` made it."""
        # whether empty chunks are written is no property of the array on disk
        array = zarr.open_array(self.path, path="0", mode="r+").with_config({"write_empty_chunks": True})
        if (array.shape, array.dtype) != (self.shape, self.dtype):
            raise ValueError(f"{self.path} holds {array.shape} {array.dtype}, not {self.shape} {self.dtype}.")
        return array

    def finish(self, attributes: dict[str, Any]) -> None:
        """Write the smaller levels and the metadata, from a full-resolution array that is complete.

        Args:
            attributes: put beside the OME metadata under ``bonemonai``, for instance provenance; JSON values.
        """
        self._write_metadata(self._write_smaller_levels(), attributes)

    def _create(self, level: str, shape: tuple[int, ...]) -> zarr.Array[Any]:
        return zarr.create_array(
            self.path,
            name=level,
            shape=shape,
            dtype=self.dtype,
            # no label, should a reader take a lost chunk for an empty one
            fill_value=np.iinfo(self.dtype).max if self.kind == "label" and self.dtype.kind in "ui" else 0,
            chunks=self._fitted(shape),
            compressors=ZstdCodec(level=3, checksum=True),
            dimension_names=("z", "y", "x"),
            # an absent chunk is then always a lost one, see ZarrVolume
            config={"write_empty_chunks": True},
            overwrite=True,
        )

    def _write_smaller_levels(self) -> list[list[float]]:
        """Halve until a plane fits into one chunk; return each level's voxel size as multiples of the first's."""
        factors = [[1.0, 1.0, 1.0]]
        source = self.open()
        while max(source.shape) > CHUNK[1]:
            steps = [2 if n > 1 else 1 for n in source.shape]
            shape = tuple(-(-n // step) for n, step in zip(source.shape, steps, strict=True))
            target = self._create(str(len(factors)), shape)
            # chunk by chunk: each is read once, and memory does not grow with the plane
            for box in _boxes(shape, target.chunks):
                block = np.asarray(
                    source[tuple(slice(s.start * k, s.stop * k) for s, k in zip(box, steps, strict=True))]
                )
                target[box] = self._halve(block, steps)
            factors.append([f * step for f, step in zip(factors[-1], steps, strict=True)])
            source = target
        return factors

    def _halve(self, block: NDArray[Any], steps: list[int]) -> NDArray[Any]:
        if self.kind == "label":
            return block[:: steps[0], :: steps[1], :: steps[2]]
        padded = np.pad(block, [(0, -n % step) for n, step in zip(block.shape, steps, strict=True)], mode="edge")
        d, h, w = (n // step for n, step in zip(padded.shape, steps, strict=True))
        mean = padded.reshape(d, steps[0], h, steps[1], w, steps[2]).mean(axis=(1, 3, 5), dtype=np.float32)
        return np.asarray(np.rint(mean) if self.dtype.kind in "ui" else mean, dtype=self.dtype)

    def _write_metadata(self, factors: list[list[float]], attributes: dict[str, Any]) -> None:
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
            "name": self.name.removesuffix(".zarr").removesuffix(".ome"),
            "axes": [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"],
            "datasets": datasets,
        }
        group = zarr.open_group(self.path, mode="a")
        group.attrs.update({"ome": {"version": "0.5", "multiscales": [multiscale]}, "bonemonai": attributes})


def _boxes(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    starts = (range(0, n, chunk) for n, chunk in zip(shape, chunks, strict=True))
    for corner in itertools.product(*starts):
        yield tuple(slice(low, min(low + c, n)) for low, c, n in zip(corner, chunks, shape, strict=True))
