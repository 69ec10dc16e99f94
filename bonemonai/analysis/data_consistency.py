"""Whether a fine scan that a network made still says what the coarse scan said (paper 5; the check is ours)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage.measure import block_reduce

from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.json_file import write_json
from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.units import refuse_other_units
from bonemonai.data.upsampled_volume import UpsampledVolume
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_BLOCK_BYTES = 2**26


def write_data_consistency(
    output_dir: str | Path,
    low: Volume,
    high: Volume,
    *,
    trained_range: Sequence[float] | None = None,
    about: dict[str, Any] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Average a fine scan down to the coarse scan's voxels and subtract that scan.

    Writes ``difference.ome.zarr`` (float32, on the coarse grid, in the scans' units) and ``consistency.json``. Where a
    network invents or removes bone the difference is large over many voxels; noise that it takes away differs, too, but
    at random. A fine scan is also sharper than the coarse one's blur: at every edge of bone even the true one differs
    from it, so that these numbers are to be read beside those of a fine scan that was measured, where there is one.
    What agrees on average may still be wrong within a coarse voxel: nothing can be seen of that here.

    Args:
        output_dir: of both.
        low: the coarse scan.
        high: the fine scan that was made of it.
        trained_range: least and largest grey value that the network was trained with; beyond it, it has seen nothing.
        about: provenance; JSON values.
        overwrite: replace an earlier map.

    Returns:
        What ``consistency.json`` holds: ``mean_difference``, ``sd_difference``, ``rms_difference``, ``sd_smooth``
        (of the difference averaged over 3 x 3 x 3 coarse voxels within each block of planes read, in which noise is a
        fifth of what it was and bone is not), ``largest_difference`` (absolute), all in the scans' units; ``voxels``;
        and with ``trained_range`` the share ``beyond_training`` of coarse voxels.

    Raises:
        InputError: if the fine scan is not a whole number of times as fine along each axis or lies elsewhere, units
            differ, the coarse scan's voxel size is unknown, or a value is not finite.
        OutputError: if there is a map already.
    """
    refuse_other_units(high, [low.units])
    if low.voxel_size_um is None:
        raise InputError(low.path, "does not state its voxel size; say --voxel_size_um.")
    factors = {size / coarse for size, coarse in zip(high.shape, low.shape, strict=True)}
    factor = round(factors.copy().pop())
    if factors != {factor} or factor < 2:
        raise InputError(high.path, f"is {high.shape} voxels, and {low.path.name} {low.shape}: no whole multiple.")
    # files that state no origin put it in the first voxel, half a fine one from where it is: 0.87 along a diagonal
    refuse_other_grid(high, UpsampledVolume(low, factor), tolerance=1.0)
    sums = _Sums()
    beyond = 0
    folder = Path(output_dir)
    writer = OmeZarrWriter(
        folder / "difference.ome.zarr", shape=low.shape, dtype="float32", voxel_size_um=low.voxel_size_um,
        kind="image", overwrite=overwrite, attributes={**(about or {}), "units": low.units, **_place(low)},
    )  # fmt: skip
    with writer:
        # multiples of three planes: the smooth difference must not depend on how much is read at once
        for start, block in low.blocks(3 * max(1, low.planes_within(_BLOCK_BYTES) // factor**3 // 3)):
            stop = start + len(block)
            fine = high.read(factor * start, factor * stop).astype(np.float64)
            if not (np.isfinite(block).all() and np.isfinite(fine).all()):
                raise InputError(low.path, f"or what was made of it holds NaN in planes {start} to {stop - 1}.")
            difference = block_reduce(fine, (factor,) * 3, np.mean) - block
            sums.add(difference)
            if trained_range is not None:
                beyond += int(((block < trained_range[0]) | (block > trained_range[1])).sum())
            writer.write(difference.astype(np.float32))
    found = sums.values()
    if trained_range is not None:
        found["beyond_training"] = beyond / found["voxels"]
    write_json(folder / "consistency.json", {"note": NOT_A_DEVICE, "units": low.units, **found, **(about or {})})
    return found


def _place(volume: Volume) -> dict[str, Any]:
    return {} if volume.affine_lps is None else {"affine_lps": volume.affine_lps.tolist()}


class _Sums:
    """Moments of the difference, block by block."""

    def __init__(self) -> None:
        self.count, self.sum, self.squares, self.largest = 0, 0.0, 0.0, 0.0
        self.cubes, self.cube_sum, self.cube_squares = 0, 0.0, 0.0

    def add(self, difference: NDArray[np.float64]) -> None:
        self.count += difference.size
        self.sum += float(difference.sum())
        self.squares += float((difference**2).sum())
        self.largest = max(self.largest, float(np.abs(difference).max()))
        # cubes of 3 voxels' edge that lie whole within the block
        whole = tuple(slice(0, size - size % 3) for size in difference.shape)
        if all(part.stop for part in whole):
            cubes = block_reduce(difference[whole], (3, 3, 3), np.mean)
            self.cubes += cubes.size
            self.cube_sum += float(cubes.sum())
            self.cube_squares += float((cubes**2).sum())

    def values(self) -> dict[str, Any]:
        mean = self.sum / self.count
        cube_mean = self.cube_sum / self.cubes if self.cubes else np.nan
        smooth = max(self.cube_squares / self.cubes - cube_mean**2, 0.0) ** 0.5 if self.cubes else None
        return {
            "voxels": self.count, "mean_difference": mean, "rms_difference": (self.squares / self.count) ** 0.5,
            "sd_difference": max(self.squares / self.count - mean**2, 0.0) ** 0.5, "sd_smooth": smooth,
            "largest_difference": self.largest,
        }  # fmt: skip
