"""Predicted time and memory of tiles: numbers from measurements, the same on every machine, so that choices repeat."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from bonemonai.errors import InputError
from bonemonai.inferers.activation_memory import ActivationMemory
from bonemonai.inferers.receptive_field import ReceptiveField
from bonemonai.inferers.tiling import haloed, haloed_total

MIB = 2**20
_MOST_TILES = 48  # along one axis


class TileChoice(NamedTuple):
    """A core, and what tiling with it comes to.

    Attributes:
        core: voxels an axis.
        cost: voxels that the network sees, weighed by how slow tiles of that size are; comparable between choices.
        passes: voxels that the network sees as a share of the voxels of the region: the price of the halo.
        memory: bytes that a forward pass of one tile holds, input and output included.
    """

    core: tuple[int, ...]
    cost: float
    passes: float
    memory: int


def forward_bytes(voxels: float, activations: ActivationMemory, in_channels: int, *, tuned: bool) -> int:
    """Memory of a forward pass.

    The factors stand for what :func:`measure_activations` cannot see: scratch memory of convolutions, and what the
    allocator keeps. Measured growth was 1.1 to 1.2 of the count, and 1.5 to 1.7 with the allocator tuned, which
    gives nothing back to the system; passes of a few MB took up to 50 MB more.

    Args:
        voxels: of the tile, times the batch.
        activations: of the network.
        in_channels: of the input.
        tuned: whether :func:`bonemonai.inferers.tune_allocator` is in force.
    """
    factor, more = (1.75, 96 * MIB) if tuned else (1.25, 64 * MIB)
    return int(factor * activations.peak * voxels + 8 * (in_channels + activations.channels) * voxels) + more


def slowness(largest_tensor: float, *, tuned: bool) -> float:
    """How much longer a voxel takes when the largest activation has that many bytes.

    Above 16 to 32 MB glibc maps each activation afresh and gives it back, page by page. Measured on four networks:
    1.2 at 33 MB, 1.5 at 75 MB, 1.8 at 130 MB, 2.0 to 2.2 at 300 MB. Nothing of that remains with the allocator tuned.
    """
    if tuned or largest_tensor <= 16 * MIB:
        return 1.0
    return 1.0 + min(math.log2(largest_tensor / (16 * MIB)) / 4.0, 1.2)


def choose_core(
    shape: Sequence[int],
    field: ReceptiveField,
    activations: ActivationMemory,
    in_channels: int,
    *,
    budget: float,
    tuned: bool,
    most: Sequence[int] | None = None,
    fixed: Mapping[int, int] | None = None,
) -> TileChoice:
    """Find the core that is predicted to be fastest among those that fit into memory.

    Args:
        shape: voxels an axis to be tiled.
        field: halo and stride.
        activations: of the network.
        in_channels: of the input.
        budget: bytes for a forward pass.
        tuned: whether the allocator is tuned.
        most: upper bounds of the core.
        fixed: axis to the size of the core along it, where there is no choice.

    Raises:
        InputError: if the smallest tile does not fit.
    """
    axes = []
    for axis, (size, halo, stride) in enumerate(zip(shape, field.halo, field.stride, strict=True)):
        upper = min(size, most[axis] if most else size)
        cores = [fixed[axis]] if fixed and axis in fixed else list(_cores(upper, stride))
        axes.append([(c, haloed_total(size, c, halo, stride), _largest_read(size, c, halo, stride)) for c in cores])
    best: TileChoice | None = None
    least = math.inf
    for parts in itertools.product(*axes):
        voxels = math.prod(read for _, _, read in parts)
        memory = forward_bytes(voxels, activations, in_channels, tuned=tuned)
        least = min(least, memory)
        if memory > budget:
            continue
        seen = math.prod(total for _, total, _ in parts)
        cost = seen * slowness(activations.largest * voxels, tuned=tuned)
        if best is None or cost < best.cost:
            best = TileChoice(tuple(core for core, _, _ in parts), cost, seen / math.prod(shape), memory)
    if best is None:
        raise InputError(
            "memory_budget",
            f"is too small: the smallest tile of this network takes {least / 1e9:.2f} GB of the "
            f"{max(budget, 0) / 1e9:.2f} GB that are left for it.",
        )
    return best


def _cores(most: int, stride: int) -> Iterator[int]:
    """Sizes that cut an axis into 1, 2, 3, ... equal parts, as nearly as the stride lets them."""
    last = None
    for number in range(1, _MOST_TILES):
        core = -(-most // (number * stride)) * stride
        if core != last:
            yield core
        last = core
        if core <= stride:
            return


def _largest_read(size: int, core: int, halo: int, stride: int) -> int:
    middle = min(core * ((size // core) // 2), size - 1)
    read = haloed(middle, min(middle + core, size), size, halo, stride)
    voxels: int = read.stop - read.start
    return -(-voxels // stride) * stride
