"""What a run will do and take, decided before anything starts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from bonemonai.data.ome_zarr_store import CHUNK
from bonemonai.errors import InputError
from bonemonai.inferers.activation_memory import ActivationMemory
from bonemonai.inferers.cost import choose_core, forward_bytes, slowness
from bonemonai.inferers.overlap_sweep import PIECE, OverlapSweep
from bonemonai.inferers.receptive_field import ReceptiveField
from bonemonai.inferers.tiling import Box

# nanoseconds: a byte of activations, as on two cores; reading and preparing a voxel. Only their ratio counts.
_NS_FORWARD_BYTE, _NS_READ = 1.5, 50.0
# bytes a voxel that reading and pre-processing a plane takes besides the plane itself
_PREPARE = 20
# what the allocator keeps of freed memory and cannot use again; measured up to 1.35 of what is asked for
_HOLES = 1.35
# what probing the network, encoding chunks and threads take, whatever the size
_FIXED = 50_000_000


@dataclass(frozen=True)
class Workload:
    """What is to be inferred, in numbers.

    Attributes:
        shape: (planes, rows, columns).
        in_channels: of the network's input.
        item_bytes: of a voxel after pre-processing, all entries together.
        raw_bytes: of a voxel on disk, decoded.
        planes_at_once: that lie together on disk.
        output_bytes: of a voxel, all outputs together.
        whole_planes: whether blocks must hold planes whole, for outputs that are derived from them.
        working_bytes: that such outputs take besides.
        activations: of the network.
    """

    shape: tuple[int, int, int]
    in_channels: int
    item_bytes: float
    raw_bytes: int
    planes_at_once: int
    output_bytes: int
    activations: ActivationMemory
    whole_planes: bool = False
    working_bytes: int = 0


@dataclass(frozen=True)
class StreamPlan:
    """How a volume is cut, and what that costs.

    Attributes:
        block: (planes, rows) of a block of the output; its columns are all there are.
        chunk: (planes, rows, columns) of a chunk on disk.
        core: of a tile in mode exact, or the window.
        batch: tiles or windows in a forward pass.
        together: planes that are read at once.
        ahead: reads of so many planes that are made ahead.
        bands: how many bands of rows the volume is swept in; each reads every plane.
        reads: how often a plane is read and decoded.
        passes: voxels that the network sees as a multiple of the voxels of the volume.
        forwards: how many forward passes that is.
        memory: bytes, beyond what the network and the libraries hold.
        cost: predicted time in nanoseconds of a slow machine; only good to compare plans.
    """

    block: tuple[int, int]
    chunk: tuple[int, int, int]
    core: tuple[int, ...]
    batch: int
    together: int
    ahead: int
    bands: int
    reads: int
    passes: float
    forwards: int
    memory: int
    cost: float

    def blocks(self, shape: Sequence[int]) -> list[Box]:
        """Blocks of a volume, band by band, each band from the first plane to the last."""
        return _grid(shape, *self.block)

    def describe(self) -> dict[str, Any]:
        """What the bytes of the result depend on."""
        chosen = asdict(self)
        return {key: chosen[key] for key in ("block", "chunk", "core", "batch")}


def block_grid(shape: Sequence[int]) -> tuple[list[Box], tuple[int, int, int]]:
    """Blocks of a volume where memory does not matter, and the chunk they are made of."""
    rows, chunk = shape[1], (min(CHUNK[0], shape[0]), min(CHUNK[1], shape[1]), min(CHUNK[2], shape[2]))
    return _grid(shape, chunk[0], rows), chunk


def plan_exact(
    work: Workload,
    field: ReceptiveField,
    *,
    budget: int,
    batch: int,
    tuned: bool,
    spatial_dim: int | None,
    most: Sequence[int] | None = None,
) -> StreamPlan:
    """Choose block, tile and bands for exact tiling: the least predicted cost within the budget.

    Args:
        work: what is to be inferred.
        field: of the network, over three axes; an axis that slices are cut across has halo 0 and stride 1.
        budget: bytes.
        batch: slices in a forward pass of a 2-D network.
        tuned: whether the allocator is tuned.
        spatial_dim: axis that slices are cut across, or None for a 3-D network.
        most: largest core, where the user sets one.

    Raises:
        InputError: if nothing fits.
    """
    best: StreamPlan | None = None
    refusal: InputError | None = None
    for (depth, rows, chunk), together, ahead in itertools.product(_blocks(work), _reads(work), (2, 1)):
        largest = tuple(map(min, (depth, rows, work.shape[2]), most or work.shape))
        fixed = {0: largest[0]}
        if spatial_dim is not None:
            fixed[spatial_dim] = min(batch, (depth, rows, work.shape[2])[spatial_dim])
        held = _kept_bytes(work, fixed[0] + 2 * field.halo[0], rows + 2 * field.halo[1], (ahead + 1) * together)
        held += 3 * work.output_bytes * depth * rows * work.shape[2]
        reading = _reading_bytes(work, together)
        try:
            tile = choose_core(
                work.shape,
                field,
                work.activations,
                work.in_channels,
                budget=(budget - reading) / _HOLES - held,
                tuned=tuned,
                most=largest,
                fixed=fixed,
            )
        except InputError as error:
            refusal = error
            continue
        bands = -(-work.shape[1] // rows)
        reads = bands * -(-work.planes_at_once // together)
        cost = tile.cost * work.activations.peak * _NS_FORWARD_BYTE + reads * math.prod(work.shape) * _NS_READ
        if best is None or cost < best.cost:
            blocks = _grid(work.shape, depth, rows)
            sizes = ([side.stop - side.start for side in block] for block in blocks)
            tiles = sum(math.prod(-(-n // c) for n, c in zip(size, tile.core, strict=True)) for size in sizes)
            best = StreamPlan(
                (depth, rows), chunk, tile.core, batch if spatial_dim is not None else 1, together,
                ahead, bands, reads, tile.passes, tiles, int(_HOLES * (held + tile.memory)) + reading, cost,
            )  # fmt: skip
    if best is None:
        raise refusal or InputError("memory_budget", "is too small.")
    return best


def plan_overlap(work: Workload, sweep: OverlapSweep, *, budget: int, tuned: bool) -> StreamPlan:
    """Choose bands for blended windows: as few as the budget lets it be.

    Args:
        work: what is to be inferred.
        sweep: windows and batches.
        budget: bytes.
        tuned: whether the allocator is tuned.

    Raises:
        InputError: if not even the narrowest band fits.
    """
    window = math.prod(sweep.grid.roi_size)
    batch = min(sweep.sw_batch_size, len(sweep.grid))
    forward = forward_bytes(batch * window, work.activations, work.in_channels, tuned=tuned)
    forward += 4 * batch * window * (work.in_channels + work.activations.channels)
    channels, columns = work.activations.channels, work.shape[2]
    best: StreamPlan | None = None
    least = math.inf
    blocks = _blocks(work, deep=False)
    for (depth, rows, chunk), together, ahead in itertools.product(blocks, _reads(work), (2, 1)):
        bands = [slice(r, min(r + rows, work.shape[1])) for r in range(0, work.shape[1], rows)]
        # a few windows deep, where the pattern shows, of the first, a middle and the last band
        deep = slice(0, min(work.shape[0], 3 * sweep.grid.roi_size[0] + sweep.sw_batch_size))
        samples = [(deep, bands[at], slice(0, columns)) for at in {0, len(bands) // 2, len(bands) - 1}]
        read_rows = max(read.stop - read.start for _, read, _ in map(sweep.reads, samples))
        open_planes = max(map(sweep.open_planes, samples))
        memory = forward + _kept_bytes(work, open_planes, read_rows, (ahead + 1) * together)
        # values of the open planes; counts and the quotient of those that are handed on
        memory += 4 * rows * columns * (channels * open_planes + (2 * channels + 2) * min(PIECE, open_planes))
        memory += 3 * work.output_bytes * depth * rows * columns
        memory = int(_HOLES * memory) + _reading_bytes(work, together)
        least = min(least, memory)
        if memory > budget:
            continue
        forwards = sum(sweep.number_of_batches(band) for band in bands)
        cost = forwards * batch * window * work.activations.peak * _NS_FORWARD_BYTE
        cost *= slowness(work.activations.largest * window * batch, tuned=tuned)
        reads = len(bands) * -(-work.planes_at_once // together)
        cost += reads * math.prod(work.shape) * _NS_READ
        if best is None or cost < best.cost:
            passes = forwards * batch * window / math.prod(work.shape)
            best = StreamPlan(
                (depth, rows), chunk, sweep.grid.roi_size, batch, together,
                ahead, len(bands), reads, passes, forwards, memory, cost,
            )  # fmt: skip
    if best is not None and sweep.recompute and best.bands > 1:
        whole = _grid(work.shape, work.shape[0], best.block[1])
        forwards = sum(len(sweep.batches(band)) for band in whole)
        best = replace(best, forwards=forwards, passes=forwards * batch * window / math.prod(work.shape))
    if best is None:
        raise InputError(
            "memory_budget", f"of {budget / 1e9:.2f} GB is too small: these windows take {least / 1e9:.2f} GB."
        )
    return best


def _grid(shape: Sequence[int], depth: int, rows: int) -> list[Box]:
    return [
        (slice(z, min(z + depth, shape[0])), slice(y, min(y + rows, shape[1])), slice(0, shape[2]))
        for y in range(0, shape[1], rows)
        for z in range(0, shape[0], depth)
    ]


def _blocks(work: Workload, *, deep: bool = True) -> Iterator[tuple[int, int, tuple[int, int, int]]]:
    """Blocks to choose from, (planes, rows) and the chunk they are made of; a block is whole chunks."""
    shape = work.shape
    heights = [rows for rows in (64, 128, 256, *range(512, shape[1], 512)) if rows < shape[1]]
    for rows in [shape[1], *(() if work.whole_planes else reversed(heights))]:
        chunk = (min(CHUNK[0], shape[0]), min(CHUNK[1], rows), min(CHUNK[2], shape[2]))
        for times in (1, 2, 3, 4, 6, 8, 12, 16) if deep else (1,):
            depth = min(chunk[0] * times, shape[0])
            yield depth, rows, chunk
            if depth == shape[0]:
                break


def _reads(work: Workload) -> list[int]:
    """Numbers of planes to read at once: all that lie together on disk, or equal parts, each of which decodes all."""
    parts = itertools.takewhile(lambda part: part < 2 * work.planes_at_once, (2**n for n in itertools.count()))
    return list(dict.fromkeys(-(-work.planes_at_once // part) for part in parts))


def _kept_bytes(work: Workload, planes: int, rows: int, ahead: int) -> float:
    """Planes that are kept, and planes that are read ahead, one more read among them."""
    planes = min(planes, work.shape[0]) + ahead
    return planes * min(rows, work.shape[1]) * work.shape[2] * work.item_bytes


def _reading_bytes(work: Workload, together: int) -> int:
    """What reading takes: planes that are read at once are decoded together, then prepared one by one."""
    decoded = together * (work.raw_bytes + work.item_bytes)
    return _FIXED + work.working_bytes + int(work.shape[1] * work.shape[2] * (decoded + _PREPARE))
