"""One pass over a scan: planes in, tiles or windows through the network, blocks out, reading and writing beside it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

from tqdm import tqdm

from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.inferers.block_sink import BlockSink
from bonemonai.inferers.forward import Forward
from bonemonai.inferers.outputs import Output
from bonemonai.inferers.overlap_sweep import OverlapSweep
from bonemonai.inferers.plan import StreamPlan
from bonemonai.inferers.plane_stream import PlaneStream
from bonemonai.inferers.ranks import rank
from bonemonai.inferers.receptive_field import ReceptiveField, pad_to_stride
from bonemonai.inferers.run_folder import ResultRun
from bonemonai.inferers.tiling import Box, exact_tiles, voxels


class ScanSweep:
    """Infer the blocks of a run that are left to this process.

    Args:
        scan: the scan.
        plan: how it is cut.
        how: halo and stride of exact tiles, or the windows to blend.
        forward: runs the network.
        skip_key: entry of the pre-processing; tiles and windows where it is 0 everywhere are not run.
        readers: threads that read.
        progress: show a bar on standard error.
    """

    def __init__(
        self,
        scan: PreparedVolume,
        plan: StreamPlan,
        how: ReceptiveField | OverlapSweep,
        forward: Forward,
        skip_key: str | None = None,
        readers: int = 1,
        progress: bool = False,
    ) -> None:
        self._scan, self._plan, self._how, self._forward = scan, plan, how, forward
        self._skip_key, self._readers, self._progress = skip_key, readers, progress

    def run(self, run: ResultRun, outputs: Sequence[Output]) -> float:
        """Infer; return the share of voxels, or of windows, that was skipped.

        Args:
            run: says what is left, and takes it.
            outputs: what is kept.

        Raises:
            InputError: if a plane cannot be read, or a file changes meanwhile.
            NumericalError: if a prediction holds NaN or infinite values.
        """
        skipped = done = 0
        total = sum(voxels(box) for box in run.remaining)
        bar = tqdm(total=total, desc=f"inferring {self._scan.volume.path.name}", unit="voxel", unit_scale=True,
                   disable=not self._progress or rank() > 0)  # fmt: skip
        with bar, ThreadPoolExecutor(1, thread_name_prefix="write-behind") as pool:
            for segment in _segments(run.remaining):
                region = (slice(segment[0][0].start, segment[-1][0].stop), *segment[0][1:])
                with (
                    self._stream(region) as stream,
                    BlockSink(segment, outputs, stream, run, pool, self._scan, bar, self._skip_key) as sink,
                ):
                    if isinstance(self._how, OverlapSweep):
                        self._windows(region, self._how, stream, sink)
                        skipped, done = self._how.left_out, self._how.seen
                    else:
                        self._tiles(segment, self._how, stream, sink)
                        skipped, done = skipped + sink.skipped, done + voxels(region)
        return skipped / done if done else 0.0

    def _stream(self, region: Box) -> PlaneStream:
        if isinstance(self._how, OverlapSweep):
            planes, rows, _ = self._how.reads(region)
        else:
            planes, rows, _ = exact_tiles(region, self._scan.shape, self._scan.shape, self._how)[0].read
        together, ahead = self._plan.together, self._plan.ahead
        return PlaneStream(self._scan, planes, rows, together=together, ahead=ahead, readers=self._readers)

    def _windows(self, region: Box, windows: OverlapSweep, stream: PlaneStream, sink: BlockSink) -> None:
        empty = (lambda box: self._is_empty(stream, box)) if self._skip_key else None
        for first in windows.run(region, stream.fetch, sink.put, self._forward, empty):
            stream.release(first)

    def _tiles(self, segment: Sequence[Box], field: ReceptiveField, stream: PlaneStream, sink: BlockSink) -> None:
        for block in segment:
            for tile in exact_tiles(block, self._scan.shape, self._plan.core, field):
                # tiles come in the order of their planes
                stream.release(tile.read[0].start)
                if self._skip_key and self._is_empty(stream, tile.core):
                    sink.put(tile.core, None)
                    continue
                image = stream.fetch(tile.read)[None]
                output = self._forward(pad_to_stride(image, field.stride), f"planes from {tile.core[0].start}")
                sink.put(tile.core, output[0][(slice(None), *tile.cut)])

    def _is_empty(self, stream: PlaneStream, box: Box) -> bool:
        return not bool(stream.fetch(box, self._skip_key).any())


def _segments(blocks: Sequence[Box]) -> list[list[Box]]:
    """Runs of blocks that follow each other in depth, within one band."""
    segments: list[list[Box]] = []
    for _, band in groupby(blocks, key=lambda block: block[1].start):
        for block in band:
            last = segments[-1][-1] if segments else None
            if last is not None and last[1] == block[1] and last[0].stop == block[0].start:
                segments[-1].append(block)
            else:
                segments.append([block])
    return segments
