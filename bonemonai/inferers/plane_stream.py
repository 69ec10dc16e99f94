"""Planes read ahead in threads, kept while they are needed, and forgotten."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self

import torch

from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.inferers.tiling import Box

Planes = list[dict[str, torch.Tensor]]


class PlaneStream:
    """Serve boxes of a pre-processed volume, plane after plane, each read once.

    Boxes may ask for any plane from the last :meth:`release` on; what lies before is gone.

    Args:
        source: the volume.
        planes: that will be asked for.
        rows: a band of rows; nothing else of a plane is kept.
        together: planes that are read at once; None reads all that lie together on disk.
        ahead: how many such reads are made before they are asked for.
        readers: threads that read.
    """

    def __init__(
        self,
        source: PreparedVolume,
        planes: slice,
        rows: slice,
        *,
        together: int | None = None,
        ahead: int = 2,
        readers: int = 1,
    ) -> None:
        self._source, self._rows = source, rows
        self._ahead = max(1, ahead)
        self._kept: dict[int, dict[str, torch.Tensor]] = {}
        self._first = planes.start
        self._pending: deque[tuple[int, Future[Planes]]] = deque()
        self._slabs = source.volume.slabs(together or source.volume.planes_at_once, planes)
        self._pool = ThreadPoolExecutor(readers, thread_name_prefix="read-ahead")

    def __enter__(self) -> Self:
        self._submit()
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def fetch(self, box: Box, key: str | None = None) -> torch.Tensor:
        """Return a box, (C, planes, rows, columns), of the network's input or of another entry."""
        key = key or self._source.image_key
        while self._pending and box[0].stop > self._pending[0][0]:
            start, future = self._pending.popleft()
            for index, item in enumerate(future.result(), start):
                if index >= self._first:
                    self._kept[index] = item
            self._submit()
        rows = slice(box[1].start - self._rows.start, box[1].stop - self._rows.start)
        planes = [self._kept[index][key][:, rows, box[2]] for index in range(box[0].start, box[0].stop)]
        # a plane alone is handed on as a view
        return planes[0][:, None] if len(planes) == 1 else torch.stack(planes, dim=1)

    def release(self, first: int) -> None:
        """Forget the planes before ``first``."""
        for index in [index for index in self._kept if index < first]:
            del self._kept[index]
        self._first = max(self._first, first)

    def _submit(self) -> None:
        while len(self._pending) < self._ahead:
            slab = next(self._slabs, None)
            if slab is None:
                return
            self._pending.append((slab.start, self._pool.submit(self._read, slab.start, slab.stop)))

    def _read(self, start: int, stop: int) -> Planes:
        planes = self._source.planes(start, stop)
        whole = self._rows == slice(0, self._source.shape[1])
        # a copy, so that the rest of the plane is freed
        return planes if whole else [{k: v[:, self._rows].clone() for k, v in item.items()} for item in planes]


def item_bytes(item: dict[str, Any]) -> int:
    """Memory of one pre-processed plane."""
    return sum(value.numel() * value.element_size() for value in item.values())
