"""Preparing a scan of paper 2, against scikit-image and SciPy on the whole array.

``python -m tests.benchmarks.damage_preparation``: both sides read the same two TIFF stacks and write a Zarr; histograms
are matched, the median is 3 x 3 x 3, nothing is registered. Prints medians over runs, the ratio, and by how much the
results differ.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import zarr
from numpy.typing import NDArray


def write_scans(folder: Path, size: int, dtype: str) -> list[Path]:
    """A pristine and a loaded scan, the second one darker and of less contrast."""
    from bonemonai.data import TiffStackWriter
    from bonemonai.phantoms import CompressionPhantom

    edge = min(size, 128)
    phantom = CompressionPhantom("trabecular", shape=(edge,) * 3, seed=0, states=4)
    paths = []
    for state in (1, 4):
        block = phantom.state(state).image
        low, high = float(block.min()), float(block.max())
        scaled = (block - low) / (high - low) * (60000 if dtype == "uint16" else 1)
        path = folder / f"state_{state}"
        with TiffStackWriter(path, shape=(size,) * 3, dtype=dtype, voxel_size_um=(6.5,) * 3) as writer:
            for plane in range(size):
                # tiles of one phantom, each turned: what matters is the number of voxels and their histogram
                tile = np.rot90(scaled[plane % edge], plane // edge)
                writer.write(np.tile(tile, (-(-size // edge),) * 2)[:size, :size].astype(dtype))
        paths.append(path)
    (folder / "manifest.csv").write_text(
        "patient,image,load_state\n"
        + "".join(f"S,{path.name},{state}\n" for path, state in zip(paths, (1, 2), strict=True))
    )
    return paths


def ours(folder: Path, out: Path, size: int) -> NDArray[Any]:
    from bonemonai.data import ScanPreparation, open_volume

    preparation = ScanPreparation(
        folder / "manifest.csv", out, crop_size=size, slices_per_plane=1, registered=True, progress=False
    )
    preparation._prepare(1)
    return open_volume(out / "scan_0001.ome.zarr").read()


def plain(paths: list[Path], out: Path) -> NDArray[Any]:
    from scipy.ndimage import median_filter
    from skimage.exposure import match_histograms

    from bonemonai.data import open_volume

    reference, scan = (open_volume(path).read() for path in paths)
    matched = match_histograms(scan, reference).astype(np.float32)
    filtered = median_filter(matched, size=3, mode="nearest")
    array = zarr.create_array(out / "plain.zarr", shape=filtered.shape, dtype=filtered.dtype, chunks=(16, 512, 512))
    array[:] = filtered
    return np.asarray(filtered)


@click.command()
@click.option("--size", default=512, show_default=True, help="Edge, voxels.")
@click.option("--dtype", type=click.Choice(["uint16", "float32"]), default="uint16", show_default=True)
@click.option("--runs", default=3, show_default=True)
def main(size: int, dtype: str, runs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = write_scans(folder, size, dtype)
        seconds: dict[str, list[float]] = {"bonemonai": [], "scikit-image and SciPy": []}
        results: dict[str, NDArray[Any]] = {}
        for run in range(runs):
            out = folder / f"run_{run}"
            sides: dict[str, Callable[[], NDArray[Any]]] = {
                "bonemonai": partial(ours, folder, out, size),
                "scikit-image and SciPy": partial(plain, paths, out),
            }
            for side, call in sides.items():
                start = time.perf_counter()
                results[side] = call()
                seconds[side].append(time.perf_counter() - start)
        first, second = results.values()
        spread = float(second.max() - second.min())
        difference = np.abs(first - second) / spread
        for side, found in seconds.items():
            voxels = size**3 / statistics.median(found) / 1e6
            print(f"{side}: {statistics.median(found):.1f} s, {voxels:.1f} million voxels a second")
        medians = [statistics.median(found) for found in seconds.values()]
        print(f"ratio: {medians[1] / medians[0]:.2f}")
        print(f"difference, of the range: at most {difference.max():.1e}, mean {difference.mean():.1e}")


if __name__ == "__main__":
    main()
