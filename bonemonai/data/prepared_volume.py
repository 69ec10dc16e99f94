"""A scan whose planes are pre-processed as they are read: what streaming inference takes in place of a tensor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.data.meta_tensor import MetaTensor

from bonemonai.data.fingerprint import Snapshot
from bonemonai.data.histogram import StreamingHistogram, volume_histogram
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError


class PreparedVolume:
    """A lazy volume and the transforms its planes go through.

    Transforms see one plane at a time, as (1, H, W), and the grey values of the whole volume as ``histogram``.
    What needs neighbouring planes has to be done before, to the files.

    Args:
        volume: the scan.
        transform: takes and returns a dictionary of (C, H, W) planes; None hands the plane on as float32.
        image_key: entry that the network gets; the others, a bone mask for instance, go to the outputs.

    Attributes:
        snapshot: of the scan's files when this was made.
    """

    def __init__(
        self,
        volume: Volume,
        transform: Callable[[dict[str, Any]], Mapping[str, Any]] | None = None,
        image_key: str = "image",
    ) -> None:
        self.volume, self.transform, self.image_key = volume, transform, image_key
        self.snapshot = Snapshot(volume.path)
        self._histogram: StreamingHistogram | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(planes, rows, columns)."""
        return self.volume.shape

    def count_grey_values(self, cache: Path | None = None, *, memory: float = 256e6, progress: bool = False) -> None:
        """Count the grey values that the transforms need, in one pass over the scan, or take them from a cache.

        Args:
            cache: file that keeps them, with a digest of the scan's files; it is not used for any other scan.
            memory: bytes of the scan that may be held at once.
            progress: show a bar on standard error.
        """
        if self.transform is None or self._histogram is not None:
            return
        label = self.snapshot.digest
        if cache is not None:
            self._histogram = StreamingHistogram.load(cache, scan=label)
        if self._histogram is None:
            self._histogram = volume_histogram(self.volume.whole, memory=memory, progress=progress)
            if cache is not None:
                self._histogram.save(cache, scan=label)

    def planes(self, start: int, stop: int) -> list[dict[str, torch.Tensor]]:
        """Read and pre-process consecutive planes.

        Returns:
            For each plane its entries, tensors of (C, H, W); that of ``image_key`` is float32.

        Raises:
            InputError: if a plane cannot be read, or the transforms do not return one.
        """
        self.count_grey_values()
        block = torch.from_numpy(self.volume.read(start, stop))
        return [self._prepare(plane[None], start + index) for index, plane in enumerate(block)]

    def _prepare(self, plane: torch.Tensor, index: int) -> dict[str, torch.Tensor]:
        item: Mapping[str, Any] = {
            self.image_key: plane.numpy(),
            "plane": self.volume.plane_numbers[index],
            "histogram": self._histogram,
        }
        item = {self.image_key: plane} if self.transform is None else self.transform(dict(item))
        planes = {key: _plain(value) for key, value in item.items() if _is_plane(value, self.shape[1:])}
        if self.image_key not in planes:
            raise InputError(self.volume.path, f"preprocessing returns no {self.image_key!r} of the plane's size.")
        planes[self.image_key] = planes[self.image_key].to(torch.float32)
        return planes


def _is_plane(value: Any, size: tuple[int, ...]) -> bool:
    return hasattr(value, "shape") and tuple(value.shape[-2:]) == tuple(size) and len(value.shape) == 3


def _plain(value: Any) -> torch.Tensor:
    tensor = value.as_tensor() if isinstance(value, MetaTensor) else torch.as_tensor(value)
    return tensor.detach()
