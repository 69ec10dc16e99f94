"""Parts of predictions, reduced as they come and written block by block behind the computation."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.errors import InputError, NumericalError
from bonemonai.inferers.allocator import give_memory_back
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.plane_stream import PlaneStream
from bonemonai.inferers.run_folder import ResultRun
from bonemonai.inferers.tiling import Box, voxels


class BlockSink:
    """Takes parts of predictions, reduces them, and has each block written when it is full.

    One block is written while the next is computed; no more are kept.

    Args:
        blocks: that will come, in this order.
        outputs: what is kept; those that are derived from others need blocks of whole planes.
        stream: gives the outputs the entries of the pre-processing that they need.
        run: writes blocks.
        pool: one thread.
        scan: whose files must not change meanwhile.
        bar: shows progress in voxels.
        skip_key: entry outside of which outputs are what they are for parts without a prediction, wherever a tile or a
            window happened to reach.

    Attributes:
        skipped: voxels that came without a prediction.
    """

    def __init__(
        self,
        blocks: Sequence[Box],
        outputs: Sequence[Output],
        stream: PlaneStream,
        run: ResultRun,
        pool: ThreadPoolExecutor,
        scan: PreparedVolume,
        bar: Any = None,
        skip_key: str | None = None,
    ) -> None:
        self._blocks, self._outputs, self._stream = list(blocks), outputs, stream
        self._run, self._pool, self._scan, self._bar = run, pool, scan, bar
        self._skip_key = skip_key
        self._buffers: dict[str, NDArray[Any]] | None = None
        self._filled = self.skipped = 0
        self._derived = [output for output in outputs if output.derived_from]
        self._left: dict[int, int] = {}  # voxels that a plane waits for, where outputs are derived from planes
        self._writing: Future[None] | None = None

    def __enter__(self) -> BlockSink:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if self._writing is not None and (error is None or isinstance(error, Exception)):
            self._writing.result()
        self._writing = None

    def put(self, box: Box, prediction: torch.Tensor | None) -> None:
        """Take a part, (C, planes, rows, columns); None stands for one that the network did not see."""
        while box[0].start < box[0].stop:
            block = self._blocks[0]
            stop = min(box[0].stop, block[0].stop)
            part = (slice(box[0].start, stop), *box[1:])
            number = stop - box[0].start
            self._fill(block, part, None if prediction is None else prediction[:, :number])
            box = (slice(stop, box[0].stop), *box[1:])
            prediction = None if prediction is None else prediction[:, number:]

    def _fill(self, block: Box, part: Box, prediction: torch.Tensor | None) -> None:
        if prediction is not None and not _all_finite(prediction):
            raise NumericalError(
                f"block at plane {block[0].start}, row {block[1].start}",
                "the network's output holds NaN or infinite values.",
            )
        if self._buffers is None:
            shape = [side.stop - side.start for side in block]
            self._buffers = {output.name: np.empty(shape, output.dtype) for output in self._outputs}
        where = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, block, strict=True))
        for output in self._outputs:
            if output.derived_from:
                continue
            items = {key: self._stream.fetch(part, key) for key in output.keys}
            if prediction is None:
                value = output.skip([p.stop - p.start for p in part], items)
            else:
                value = output.reduce(prediction, {k: v.to(prediction.device) for k, v in items.items()})
                if self._skip_key is not None:
                    inside = self._stream.fetch(part, self._skip_key)[0].to(value.device) != 0
                    empty = output.skip(value.shape, items).to(value.device)
                    value = torch.where(inside, value, empty)
            self._buffers[output.name][where] = value.cpu().numpy()
        if self._derived:
            self._derive_complete_planes(block, part)
        self._filled += voxels(part)
        self.skipped += voxels(part) if prediction is None else 0
        if self._bar is not None:
            self._bar.update(voxels(part))
        if self._filled == voxels(block):
            self._commit(self._blocks.pop(0))

    def _derive_complete_planes(self, block: Box, part: Box) -> None:
        """Planes come in order, and are forgotten behind the tile that is worked on: derive as soon as one is whole."""
        buffers, area = self._buffers or {}, voxels((slice(0, 1), *part[1:]))
        for plane in range(part[0].start, part[0].stop):
            left = self._left.pop(plane, voxels((slice(0, 1), *block[1:]))) - area
            if left:
                self._left[plane] = left
                continue
            for output in self._derived:
                keyed = {key: self._stream.fetch((slice(plane, plane + 1), *block[1:]), key) for key in output.keys}
                labels = torch.from_numpy(buffers[output.derived_from][plane - block[0].start])
                value = output.derive(labels, {key: item[:, 0] for key, item in keyed.items()}, plane)
                buffers[output.name][plane - block[0].start] = value.cpu().numpy()

    def _commit(self, block: Box) -> None:
        changed = self._scan.snapshot.changed()
        if changed is not None:
            raise InputError(changed, "was changed while the scan was being inferred.")
        if self._writing is not None:
            self._writing.result()
        self._writing = self._pool.submit(self._run.commit, block, self._buffers or {})
        self._buffers, self._filled = None, 0
        # what a block leaves behind in the heap would add up over hundreds of them
        give_memory_back()


def _all_finite(values: torch.Tensor) -> bool:
    # a sum is one pass and not finite if a value is not; it may overflow by itself, so look again
    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())
