"""A study for super-resolution out of one fine scan of real bone, its coarse scans simulated (paper 5)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray
from skimage.filters import threshold_otsu
from tqdm import tqdm

import bonemonai
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.histogram import volume_histogram
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import write_manifest
from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms.fbp_noise import fbp_noise
from bonemonai.phantoms.microct_acquisition import MicroCTAcquisition, hr_acquisition, lr_acquisition
from bonemonai.phantoms.microct_scanner import MicroCTScanner, halo_points
from bonemonai.phantoms.murine_specimen import COMMON_RANGES
from bonemonai.phantoms.scan_grid import ScanGrid
from bonemonai.phantoms.specimen import Draw, random_numbers

_CUBIC = 0.01  # of the mean edge: how far a voxel's edges may be from it
_FEWEST_PLANES, _FEWEST_ACROSS = 8, 11  # coarse voxels of a part; similarity is measured in windows of 11
_BLOCK_BYTES = 2**26
_PATIENT = "specimen-1"


class _Part(NamedTuple):
    """A box of the scan that is a scan of its own, in coarse voxels."""

    name: str
    split: str
    box: tuple[slice, slice, slice]

    def fine(self, factor: int) -> tuple[slice, slice, slice]:
        """The box in fine voxels."""
        planes, rows, columns = (slice(side.start * factor, side.stop * factor) for side in self.box)
        return planes, rows, columns


def write_rescanned_study(
    folder: str | Path,
    scan: Volume,
    *,
    factor: int = 2,
    frame_averages: Sequence[int] = (1,),
    noise: float | None = None,
    seed: int = 0,
    blocks: int = 2,
    site: str = "specimen",
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Cut a fine scan of bone into parts to train and to test on, and simulate the coarse scan of each.

    Real structure, but one specimen and a simulated coarse scan: scores say how a network does on the other half of
    the bone that it was trained on, and nothing about another specimen or scanner. Where scans of several specimens at
    both resolutions are to be had, use those.

    Planes are cut into train (3/8), val (1/8), a gap, and test (what is left); test is cut across into ``blocks`` x
    ``blocks`` parts, so that limits of agreement have several pairs. Edges are whole coarse voxels; what is left over
    at the scan's end is dropped. The gap, dropped as well, is so wide that no voxel of the scan informs values both of
    test and of train or val. Between train and val there is none: what val chooses is judged by test alone.

    Each part gets a folder: ``hr.ome.zarr``, the scan's own voxels, and for each frame average ``lr_1.ome.zarr`` and so
    on, all float32 in the scan's units. The coarse scan is that of :class:`bonemonai.phantoms.MicroCTScanner` over the
    scan's voxels; beyond the scan's faces the outermost count again, beyond a part its true neighbours do. The point
    spread is the murine phantom's share of a voxel; what the fine scan's own leaves of it is added. That voxels are
    taken as cubes widens it by their edge squared over 6, in variance. Noise is the same all over, comes on top of what
    averaging leaves of the fine scan's, and has the phantom's texture.

    ``manifest.csv`` has a row a part and frame average: ``patient`` (one for all), ``image`` (HR), ``lr``,
    ``lr_frames``, ``part``, ``site``, ``split``, ``units``, ``voxel_size_um`` and ``lr_voxel_size_um``. Read it with
    ``allow_shared_patient``. ``manifest.json`` is the data card. The same call again leaves all as it is.

    Args:
        folder: where to write.
        scan: of any size; its voxels are cubes, to within 1 %.
        factor: coarse over fine voxel's edge, at least 2.
        frame_averages: of the coarse scan's projections; one coarse scan each.
        noise: standard deviation for one frame, in the scan's units, at least 0; it falls with the square root of
            frames. None takes the phantom's ratio to contrast, 0.1, times the scan's: the difference of mean grey
            values above and below Otsu's threshold of the whole scan.
        seed: of the noise, at least 0; each part, frame average and plane has its own.
        blocks: that test's rows and columns are cut into.
        site: what the manifest says of all parts.
        overwrite: replace another study that stands in the folder.
        progress: show bars on standard error.

    Returns:
        The path of the manifest.

    Raises:
        InputError: if an argument is out of its range, or the scan's voxel size is unknown, its voxels are no cubes, it
            is too small, or holds NaN, infinite values, or one value only.
        OutputError: if the folder holds another study, or cannot be written to.

    Source: David et al., methods: coarse over fine voxel, frame averages. Cutting one specimen is ours.
    """
    folder = Path(folder)
    _refuse_wrong(factor, frame_averages, noise, seed, blocks, site)
    edge = _edge_um(scan)
    how = replace(
        lr_acquisition(), voxel_size_um=factor * edge, psf_sigma_um=_added_sigma_um(edge, factor), noise=False
    )
    # no plane within reach of both sides
    gap = math.ceil(2 * halo_points([how], edge) / factor)
    parts = _cut(scan, factor, blocks, gap)
    settings = {
        "version": bonemonai.__version__, "factor": factor, "frame_averages": list(frame_averages), "noise": noise,
        "seed": seed, "blocks": blocks, "site": site, "input": _described(scan),
    }  # fmt: skip
    manifest = folder / "manifest.csv"
    if _stands(manifest, settings, overwrite=overwrite):
        return manifest
    contrast = _contrast(scan, progress=progress)
    sd = _noise_to_contrast() * contrast if noise is None else noise
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror}.") from error
    with FileLock(folder / ".manifest.lock"):
        if _stands(manifest, settings, overwrite=overwrite):  # another process was faster
            return manifest
        manifest.unlink(missing_ok=True)  # so that, stopped midway, no list mixes two studies
        card = _data_card(scan, settings, parts, sd, contrast, psf_added_um=how.psf_sigma_um)
        write_json(manifest.with_suffix(".json"), card)
        _write_high(folder, scan, parts, factor)
        _write_low(folder, scan, parts, how, settings, sd, progress=progress)
        rows = [_row(part, frames, scan, edge, settings) for part in parts for frames in frame_averages]
        write_manifest(pd.DataFrame(rows), manifest, allow_shared_patient=True)
    return manifest


def _refuse_wrong(
    factor: int, frame_averages: Sequence[int], noise: float | None, seed: int, blocks: int, site: str
) -> None:
    for name, value, least in (("factor", factor, 2), ("blocks", blocks, 1), ("seed", seed, 0)):
        if value < least:
            raise InputError(name, f"must be >= {least}, got {value!r}.")
    if not frame_averages or len(set(frame_averages)) < len(frame_averages) or min(frame_averages) < 1:
        raise InputError("frame_averages", f"must be different numbers >= 1, got {tuple(frame_averages)!r}.")
    if noise is not None and not 0 <= noise < math.inf:
        raise InputError("noise", f"must be a number >= 0, got {noise!r}.")
    if not site.strip() or not site.isprintable():
        raise InputError("site", f"must be a word, got {site!r}.")


def _edge_um(scan: Volume) -> float:
    size = scan.voxel_size_um
    if size is None:
        raise InputError(scan.path, "does not state its voxel size; say --voxel-size-um.")
    edge = float(np.mean(size))
    if max(abs(length - edge) for length in size) > _CUBIC * edge:
        found = " x ".join(f"{length:g}" for length in size)
        raise InputError(scan.path, f"has voxels of {found} um; cubes are due, to within 1 %: resample it first.")
    return float(f"{edge:.10g}")


def _added_sigma_um(edge_um: float, factor: int) -> float:
    """Point spread that is missing to the coarse scan's, once the fine scan has its own."""
    fine, coarse = (how.psf_sigma_um / how.voxel_size_um for how in (hr_acquisition(), lr_acquisition()))
    return edge_um * math.sqrt((coarse * factor) ** 2 - fine**2)


def _noise_to_contrast() -> float:
    """Noise of the phantom's coarse scan, one frame, over the difference of its trabeculae and marrow."""
    bone, marrow = (sum(COMMON_RANGES[name]) / 2 for name in ("trabecular_mg_ha_cm3", "marrow_mg_ha_cm3"))
    return lr_acquisition(1).noise_mg_ha_cm3 / (bone - marrow)


def _contrast(scan: Volume, *, progress: bool) -> float:
    histogram = volume_histogram(scan, progress=progress)
    filled = histogram.counts > 0
    counts, grey = histogram.counts[filled].astype(float), histogram.centers[filled]
    above = grey > threshold_otsu(hist=(counts, grey))
    bone, marrow = (np.average(grey[side], weights=counts[side]) for side in (above, ~above))
    return float(bone - marrow)


def _cut(scan: Volume, factor: int, blocks: int, gap: int) -> list[_Part]:
    planes, rows, columns = (length // factor for length in scan.shape)
    train, val = 3 * planes // 8, planes // 2
    whole = slice(0, rows), slice(0, columns)
    parts = [_Part("train", "train", (slice(0, train), *whole)), _Part("val", "val", (slice(train, val), *whole))]
    down, across = ([slice(*ends) for ends in pairwise(_edges(length, blocks))] for length in (rows, columns))
    for number, (row, column) in enumerate((row, column) for row in down for column in across):
        parts.append(_Part(f"test-{number:02d}", "test", (slice(val + gap, planes), row, column)))
    fewest = (_FEWEST_PLANES, _FEWEST_ACROSS, _FEWEST_ACROSS)
    for part in parts:
        size = [max(0, side.stop - side.start) for side in part.box]
        if any(length < least for length, least in zip(size, fewest, strict=True)):
            # of so many planes an eighth is a part's fewest, and the test's half holds gap and part
            enough = factor * max(8 * _FEWEST_PLANES, 2 * (gap + _FEWEST_PLANES))
            raise InputError(
                scan.path, f"is {scan.shape} voxels, of which {part.name!r} gets {tuple(n * factor for n in size)}; "
                f"{tuple(n * factor for n in fewest)} are due a part: {enough} planes and "
                f"{factor * _FEWEST_ACROSS * blocks} rows and columns are enough; with a smaller factor or fewer "
                "blocks, fewer are."
            )  # fmt: skip
    return parts


def _edges(length: int, blocks: int) -> list[int]:
    return [number * length // blocks for number in range(blocks + 1)]


def _described(scan: Volume) -> dict[str, Any]:
    """What tells the scan from another, and parts of one file apart; no name."""
    return {
        **fingerprint(scan.source), "shape": list(scan.shape), "units": scan.units,
        "affine_lps": np.asarray(scan.affine_lps).tolist(),
    }  # fmt: skip


def _stands(manifest: Path, settings: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether the study is there, whole."""
    card = manifest.with_suffix(".json")
    same = (read_json(card) or {}).get("settings") == settings
    if (manifest.exists() or card.exists()) and not same and not overwrite:
        raise OutputError(manifest, "is of another study; choose another folder, or say overwrite.")
    return same and manifest.exists()


def _write_high(folder: Path, scan: Volume, parts: Sequence[_Part], factor: int) -> None:
    with ExitStack() as files:
        writers = [files.enter_context(_writer(folder / part.name, "hr", scan, part.fine(factor), 1)) for part in parts]
        for first, block in scan.blocks(scan.planes_within(_BLOCK_BYTES)):
            for part, writer in zip(parts, writers, strict=True):
                planes, rows, columns = part.fine(factor)
                start, stop = max(planes.start - first, 0), min(planes.stop - first, len(block))
                if start < stop:
                    writer.write(block[start:stop, rows, columns].astype(np.float32))


def _write_low(
    folder: Path,
    scan: Volume,
    parts: Sequence[_Part],
    how: MicroCTAcquisition,
    settings: Mapping[str, Any],
    noise: float,
    *,
    progress: bool,
) -> None:
    """The coarse scan of the whole, cut into parts, each with noise of its own."""
    factor, edge = settings["factor"], how.voxel_size_um / settings["factor"]
    field = [length // factor * how.voxel_size_um for length in scan.shape]
    scanner = MicroCTScanner(partial(_values, scan), corner_um=(0, 0, 0), field_um=field, sample_um=edge)
    with ExitStack() as files:
        writers = {
            (part.name, frames): files.enter_context(
                _writer(folder / part.name, f"lr_{frames}", scan, part.fine(factor), factor)
            )
            for part in parts
            for frames in settings["frame_averages"]
        }
        scanned = scanner.planes([how], seed=settings["seed"])
        bar = tqdm(scanned, total=scan.shape[0] // factor, desc="coarse planes", disable=not progress)
        for _, number, whole in bar:
            for index, part in enumerate(parts):
                planes, rows, columns = part.box
                if not planes.start <= number < planes.stop:
                    continue
                plane = whole[rows, columns]
                for frames in settings["frame_averages"]:
                    rng = random_numbers(settings["seed"], Draw.RESCAN, index, frames, number)
                    texture = fbp_noise((plane.shape[0], plane.shape[1]), rng)
                    writers[part.name, frames].write(plane + np.float32(noise / math.sqrt(frames)) * texture)


def _values(scan: Volume, grid: ScanGrid) -> NDArray[np.float32]:
    """The scan's voxels as a density; beyond its faces the outermost again."""
    first = np.rint(grid.offset / grid.voxel_size_um - 0.5).astype(int)
    z, y, x = (
        np.clip(np.arange(start, start + count), 0, length - 1)
        for start, count, length in zip(first, grid.shape, scan.shape, strict=True)
    )
    block = scan.read(int(z[0]), int(z[-1]) + 1)
    return np.asarray(block[np.ix_(z - z[0], y, x)], dtype=np.float32)


def _writer(folder: Path, name: str, scan: Volume, box: tuple[slice, slice, slice], step: int) -> OmeZarrWriter:
    """Of a box (fine voxels), in voxels of ``step`` fine ones' edge."""
    # centre of the first voxel
    place = np.diag([step, step, step, 1.0])
    place[:3, 3] = [side.start + (step - 1) / 2 for side in box]
    planes, rows, columns = ((side.stop - side.start) // step for side in box)
    return OmeZarrWriter(
        folder / f"{name}.ome.zarr", shape=(planes, rows, columns), dtype=np.float32,
        voxel_size_um=[step * length for length in scan.voxel_size_um or ()], kind="image", overwrite=True,
        attributes={"units": scan.units, "affine_lps": (np.asarray(scan.affine_lps) @ place).tolist()},
    )  # fmt: skip


def _row(part: _Part, frames: int, scan: Volume, edge_um: float, settings: Mapping[str, Any]) -> dict[str, str]:
    return {
        "patient": _PATIENT,
        "image": f"{part.name}/hr.ome.zarr",
        "lr": f"{part.name}/lr_{frames}.ome.zarr",
        "lr_frames": str(frames),
        "part": part.name,
        "site": settings["site"],
        "split": part.split,
        "units": scan.units,
        "voxel_size_um": f"{edge_um:.10g}",
        "lr_voxel_size_um": f"{settings['factor'] * edge_um:.10g}",
    }


def _data_card(
    scan: Volume,
    settings: Mapping[str, Any],
    parts: Sequence[_Part],
    noise: float,
    contrast: float,
    *,
    psf_added_um: float,
) -> dict[str, Any]:
    factor = settings["factor"]
    return {
        "name": "one scan of bone and coarse scans simulated of it",
        "kind": "real bone, coarse scan simulated",
        "source": f"bonemonai.phantoms.write_rescanned_study, version {bonemonai.__version__}",
        "doi": None,
        "licence": None,
        "licence_note": "that of the scan",
        "leakage": "train, val and test are parts of one specimen, so that scores say nothing about another specimen.",
        "limits": "one specimen, one scanner; the coarse scan is a model's: no beam hardening, rings, scatter or "
        "streaks; noise is the same all over a scan and independent from plane to plane",
        "units": scan.units,
        "voxel_size_um": list(scan.voxel_size_um or ()),
        "factor": factor,
        "psf_added_um": psf_added_um,
        "noise_sd": {f"lr_{frames}": noise / math.sqrt(frames) for frames in settings["frame_averages"]},
        "contrast": contrast,
        "seed": settings["seed"],
        "parts": {
            part.name: {
                "split": part.split,
                "start": [side.start for side in part.fine(factor)],
                "stop": [side.stop for side in part.fine(factor)],
            }
            for part in parts
        },
        "settings": dict(settings),  # with what tells the scan from another
    }
