"""Scans of a specimen under load become volumes that can be compared, and a manifest of their slices (paper 2)."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import SimpleITK
from filelock import FileLock, Timeout
from tqdm import tqdm

from bonemonai.data.atomic import atomic_path
from bonemonai.data.cropped_volume import CroppedVolume, centre_box
from bonemonai.data.data_card import copy_data_card
from bonemonai.data.fingerprint import Snapshot, fingerprint
from bonemonai.data.histogram import StreamingHistogram
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import patient_key, read_manifest, write_manifest
from bonemonai.data.matched_volume import MatchedVolume, fine_histogram
from bonemonai.data.median_volume import MedianVolume
from bonemonai.data.ome_zarr_writer import OmeZarrWriter
from bonemonai.data.registration import Registration, register_rigid
from bonemonai.data.resampled_volume import Interpolation, ResampledVolume, refuse_interpolation
from bonemonai.data.volume import Volume, open_volume, split_part
from bonemonai.errors import InputError, OutputError, ResumeError

logger = logging.getLogger(__name__)

PLANES = ("XY", "XZ", "YZ")  # at right angles to plane, row and column
MASKS = ("crack", "ring")
Matching = Literal["sample", "bone", "none"]
_DOUBTFUL = 0.25  # correlation of a registered scan with the first, below which it should be looked at


class ScanPreparation:
    """Register, crop, match grey values, filter: one OME-Zarr a scan, and ``slices.csv``, a row a slice.

    Each scan is brought to the first loading state of its sample (transform stored as ``scan_0001.tfm``), cut to a box
    in the middle, matched to the histogram of a reference, and median-filtered; ``scan_0001.json`` says how. Scans
    that are done are passed over when the same call is given again, what is not whole is made anew; several processes
    may be given the same call. Whatever the size of a scan, a few of its planes are held at a time.

    Args:
        manifest_path: a row a scan: ``patient`` (the sample), ``image``, ``load_state`` (1, 2, ...; the lowest of a
            sample is unloaded), optionally ``bone``, ``voxel_size_um``, and the truth masks ``crack`` and ``ring`` of
            phantoms, which are cut likewise.
        output_dir: of the prepared scans and ``slices.csv``.
        crop_size: edge of the box in voxels, one number or (planes, rows, columns); None keeps all of a scan.
        slices_per_plane: slices of XY, of XZ and of YZ, evenly spaced; None takes all there are.
        registered: scans lie right already; none is registered.
        matching: reference of the histogram: the first scan of the "sample", or the first scan of all of the same
            "bone"; "none" leaves grey values as they are, as the paper's ablation does.
        median: filter; not to is the other half of the ablation.
        interpolation: of registered scans, see :class:`bonemonai.data.resampled_volume.ResampledVolume`.
        seed: of registration.
        memory: bytes of a scan that may be held at once, about.
        overwrite: replace scans that were prepared otherwise.
        progress: show bars on standard error.

    Raises:
        InputError: if an option or the manifest is not as said, or a sample has one loading state twice.

    Source:
        Shen et al., 2.1. Size of the crop and reference of the matching are ours: the paper gives neither.
    """

    def __init__(
        self,
        manifest_path: str | Path,
        output_dir: str | Path,
        *,
        crop_size: int | Sequence[int] | None = 300,
        slices_per_plane: int | None = 300,
        registered: bool = False,
        matching: Matching = "sample",
        median: bool = True,
        interpolation: Interpolation = "bspline",
        seed: int = 0,
        memory: float = 256e6,
        overwrite: bool = False,
        progress: bool = True,
    ) -> None:
        if matching not in ("sample", "bone", "none"):
            raise InputError("matching", f"must be sample, bone or none, got {matching!r}.")
        if slices_per_plane is not None and slices_per_plane < 1:
            raise InputError("slices_per_plane", f"must be >= 1 (slices), got {slices_per_plane}.")
        if seed < 0:
            raise InputError("seed", f"must be >= 0, got {seed}.")
        refuse_interpolation(interpolation)
        self.manifest_path, self.output_dir = Path(manifest_path), Path(output_dir)
        self.crop_size, self.slices_per_plane = crop_size, slices_per_plane
        self.registered, self.matching, self.median = bool(registered), matching, bool(median)
        self.interpolation, self.seed, self.memory = interpolation, seed, memory
        self.overwrite, self.progress = overwrite, progress
        self.scans = read_scans(self.manifest_path, by_bone=matching == "bone")
        self._histograms: dict[int, StreamingHistogram] = {}

    def run(self) -> Path | None:
        """Prepare the scans that are left and that no other process works on.

        Returns:
            The manifest of slices; None while other processes are at work on scans: whoever ends last writes it.

        Raises:
            InputError: if a scan cannot be read or registered, is too small, or states no voxel size.
            ResumeError: if scans were prepared otherwise.
            OutputError: if the folder cannot be written to.
        """
        self._check()
        try:
            self.output_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(self.output_dir, f"cannot be written to: {error.strerror or error}.") from error
        for number in tqdm(self.scans.index, desc="preparing scans", disable=not self.progress):
            try:
                with FileLock(self.output_dir / f".{_name(number)}.lock", timeout=0):
                    self._prepare(number)
            except Timeout:
                logger.info("%s: another process works on it.", _name(number))
        left = [number for number in self.scans.index if not self._is_done(number)]
        if left:
            logger.warning("scans %s are not done yet: whoever ends last writes slices.csv, or the next call.", left)
            return None
        # two processes may both find that nothing is left
        with FileLock(self.output_dir / ".slices.lock"):
            return self._write_slices()

    def prepared(self, number: int) -> Volume:
        """A scan as it will be written, computed as it is read.

        Args:
            number: of the scan's row in the manifest.
        """
        cut = self._cut(number)[0]
        # matching never turns the order of two values, so the median may come first: on integers it is faster
        volume = MedianVolume(cut) if self.median else cut
        if self.matching != "none" and (reference := self._reference(number)) != number:
            volume = MatchedVolume(volume, self._histogram(number, cut), self._histogram(reference))
        return volume

    def _check(self) -> None:
        """Refuse by headers, before hours are spent, what would be refused in the end."""
        for number in self.scans.index:
            scan, grid = self._open(number), self._open(self._row(number, "first"))
            if scan.voxel_size_um is None or grid.voxel_size_um is None:
                raise InputError(scan.path, "states no voxel size; give it in the manifest's column voxel_size_um.")
            for extent in centre_box(grid, self.crop_size)[1]:
                slice_numbers(extent, self.slices_per_plane)
            if self.registered and scan.shape != grid.shape:
                raise InputError(scan.path, f"has shape {scan.shape}, its sample's first scan {grid.shape}.")
            if not np.allclose(scan.voxel_size_um, grid.voxel_size_um, rtol=1e-6):
                raise InputError(
                    scan.path, f"has voxels of {scan.voxel_size_um} um, its sample's first scan {grid.voxel_size_um}."
                )
            for mask in self._masks(number):
                self._open_mask(number, mask, scan)

    def _prepare(self, number: int) -> None:
        path, record = self._output(number, ".ome.zarr"), self._output(number, ".json")
        if self._is_done(number):
            logger.info("%s is prepared already.", _name(number))
            return
        expected = self._fingerprint(number)
        if self._made_from(number) not in (None, expected) and not self.overwrite:
            raise ResumeError(
                path,
                "was prepared from other data or with other options; ask for overwrite, or choose another folder.",
            )
        # slices.csv never lists scans that were prepared in different ways
        with FileLock(self.output_dir / ".slices.lock"):
            for stale in (self._slices, self._slices.with_suffix(".json"), record, self._output(number, ".tfm")):
                stale.unlink(missing_ok=True)
        _, registration, outside = self._cut(number)
        about: dict[str, Any] = {
            "fingerprint": expected,
            "options": self._options,
            "source": fingerprint(self._path(number, "image")),
        }
        about["registration"] = None if registration is None else {**registration.describe(), "outside": outside}
        if registration is not None and registration.correlation < _DOUBTFUL:
            logger.warning(
                "%s: after registration grey values correlate by %.2f only: look at it.",
                path.name, registration.correlation,
            )  # fmt: skip
        if outside:
            logger.warning(
                "%s: %.1f %% of the box lie outside the scan and repeat its faces.", path.name, 100 * outside
            )
        image = self.prepared(number)
        # beside OME's metadata, which have no units of values
        self._write(image, path, kind="image", attributes={"preparation": about, "units": image.units})
        outputs = [path]
        for mask in self._masks(number):
            outputs.append(self._output(number, f"_{mask}.ome.zarr"))
            self._write(self._cut(number, mask)[0], outputs[-1], kind="label", attributes={})
        if registration is not None:
            outputs.append(self._output(number, ".tfm"))
            with atomic_path(outputs[-1]) as partial:
                # SimpleITK knows the format by the name's ending
                text = partial.with_suffix(".tfm")
                SimpleITK.WriteTransform(registration.transform, str(text))
                text.replace(partial)
        write_json(record, {**about, "files": {file.name: _digest(file) for file in outputs}})
        self._cuts.clear()

    def _write(
        self, volume: Volume, path: Path, *, kind: Literal["label", "image"], attributes: dict[str, Any]
    ) -> None:
        writer = OmeZarrWriter(
            path,
            shape=volume.shape,
            dtype=volume.dtype,
            voxel_size_um=volume.voxel_size_um or (),
            kind=kind,
            overwrite=True,
            attributes=attributes,
        )
        # half a dozen copies of a block are held on its way through the filters
        together = volume.planes_within(self.memory / 6)
        with writer, tqdm(total=volume.shape[0], desc=path.name, disable=not self.progress, leave=False) as bar:
            for start, block in volume.blocks(max(together, min(16, volume.shape[0]))):
                if block.dtype.kind == "f" and not np.isfinite(block).all():
                    raise InputError(
                        volume.path,
                        f"planes {start} to {start + len(block) - 1} of the box hold NaN or infinite values.",
                    )
                writer.write(block)
                bar.update(len(block))

    def _cut(self, number: int, column: str = "image") -> tuple[Volume, Registration | None, float]:
        """The box of a scan, or of its mask, on the grid of the sample's first scan."""
        first = self._row(number, "first")
        scan, grid = self._open(number), self._open(first)
        volume = scan
        if column != "image":
            volume = self._open_mask(number, column, scan)
        start, size = centre_box(grid, self.crop_size)
        if self.registered or number == first:
            return CroppedVolume(volume, start, size), None, 0.0
        if number not in self._cuts:
            self._cuts[number] = register_rigid(grid, scan, seed=self.seed)
        registration = self._cuts[number]
        interpolation = self.interpolation if column == "image" else "nearest"
        resampled = ResampledVolume(volume, registration.transform, start, size, interpolation)
        return resampled, registration, resampled.outside

    @cached_property
    def _cuts(self) -> dict[int, Registration]:
        return {}

    @property
    def _slices(self) -> Path:
        return self.output_dir / "slices.csv"

    def _open(self, number: int) -> Volume:
        return open_volume(self._path(number, "image"), voxel_size_um=self._path(number, "voxel_size_um") or None)

    def _open_mask(self, number: int, column: str, scan: Volume) -> Volume:
        volume = open_volume(self._path(number, column), voxel_size_um=scan.voxel_size_um)
        if volume.shape != scan.shape:
            raise InputError(volume.path, f"has shape {volume.shape}, its scan {scan.shape}.")
        return volume

    def _output(self, number: int, ending: str) -> Path:
        return self.output_dir / f"{_name(number)}{ending}"

    def _masks(self, number: int) -> list[str]:
        return [mask for mask in MASKS if self._path(number, mask)]

    def _path(self, number: int, column: str) -> str:
        return str(self.scans.loc[number, column]) if column in self.scans else ""

    def _row(self, number: int, column: str) -> int:
        return int(str(self.scans.loc[number, column]))

    def _reference(self, number: int) -> int:
        return self._row(number, "first" if self.matching == "sample" else "first_of_bone")

    def _histogram(self, number: int, volume: Volume | None = None) -> StreamingHistogram:
        """Of a scan's box; those of references are kept."""
        if volume is not None:
            return fine_histogram(volume, memory=self.memory)
        if number not in self._histograms:
            self._histograms[number] = fine_histogram(self._cut(number)[0], memory=self.memory)
        return self._histograms[number]

    @cached_property
    def _options(self) -> dict[str, Any]:
        return {
            "crop_size": None if self.crop_size is None
            else [int(edge) for edge in np.broadcast_to(np.asarray(self.crop_size), (3,))],
            "registered": self.registered, "matching": self.matching, "median": self.median,
            "interpolation": self.interpolation, "seed": self.seed,
        }  # fmt: skip

    def _fingerprint(self, number: int) -> str:
        """Of what a prepared scan depends on: its files, those of its references, options, versions."""
        roles = [number, self._row(number, "first")]
        if self.matching != "none":
            roles.append(self._reference(number))
        rows = sorted(set(roles))
        scans = [(_source_digest(self._path(row, "image")), self._path(row, "voxel_size_um")) for row in rows]
        masks = {mask: _source_digest(self._path(number, mask)) for mask in self._masks(number)}
        packages = [version(name) for name in ("bonemonai", "SimpleITK", "numpy")]
        text = json.dumps([[rows.index(role) for role in roles], scans, masks, self._options, packages])
        return hashlib.sha256(text.encode()).hexdigest()

    def _made_from(self, number: int) -> str | None:
        """Fingerprint of what stands in a scan's place, "" if it has none, None if nothing stands there."""
        image, record = self._output(number, ".ome.zarr"), self._output(number, ".json")
        if not image.exists() and not record.exists():
            return None
        known = read_json(record)
        if known is None:
            # a scan that was not finished says it in its own attributes
            attributes = (read_json(image / "zarr.json") or {}).get("attributes", {})
            known = attributes.get("bonemonai", {}).get("preparation", {})
        return str(known.get("fingerprint", ""))

    def _is_done(self, number: int) -> bool:
        """Whether a scan was prepared from the same, and is still what was written."""
        record = read_json(self._output(number, ".json")) or {}
        if record.get("fingerprint") != self._fingerprint(number):
            return False
        files = {name: self.output_dir / name for name in record.get("files", {})}
        return all(file.exists() and _digest(file) == record["files"][name] for name, file in files.items())

    def _write_slices(self) -> Path:
        rows = []
        for number, scan in self.scans.iterrows():
            row = int(str(number))
            image = self._output(row, ".ome.zarr")
            kept = {name: scan[name] for name in ("bone", "site") if name in scan}
            kept |= {mask: str(self._output(row, f"_{mask}.ome.zarr")) for mask in self._masks(row)}
            for plane, extent in zip(PLANES, open_volume(image).shape, strict=True):
                for index in slice_numbers(extent, self.slices_per_plane):
                    rows.append({"patient": scan["patient"], "image": str(image), "load_state": str(scan["load_state"]),
                                 "plane": plane, "index": str(index), **kept})  # fmt: skip
        path = self.output_dir / "slices.csv"
        table = pd.DataFrame(rows).fillna("")
        write_manifest(table, path, root=".")
        copy_data_card(self.manifest_path, path, preparation=self._options)
        logger.info("%s: %d slices of %d scans.", path, len(table), len(self.scans))
        return path


def read_scans(manifest_path: str | Path, *, by_bone: bool = False) -> pd.DataFrame:
    """Read a manifest of scans under load.

    Args:
        manifest_path: see :class:`ScanPreparation`.
        by_bone: whether the column ``bone`` is needed.

    Returns:
        The manifest, ``load_state`` a number, and with it ``first`` and ``first_of_bone``: the rows of the first
        loading state of the sample, and of the first sample of that bone.

    Raises:
        InputError: if a column is missing, a loading state is no number or stands twice.
    """
    scans = read_manifest(manifest_path)
    for column in ("load_state", *(["bone"] if by_bone else [])):
        if column not in scans:
            raise InputError(manifest_path, f"has no column {column!r}.")
    for row in scans.index[scans["bone"] == ""] if by_bone else ():
        raise InputError(manifest_path, f"image {row + 1}: column 'bone' is empty.")
    for row, state in enumerate(scans["load_state"]):
        if not (state.isascii() and state.isdigit() and int(state) > 0):
            raise InputError(manifest_path, f"image {row + 1}: load_state must be a number from 1, got {state!r}.")
    scans["load_state"] = scans["load_state"].astype(int)
    keys = scans["patient"].map(patient_key)
    doubled = scans[pd.DataFrame({"key": keys, "state": scans["load_state"]}).duplicated()]
    for row in doubled.index:
        raise InputError(manifest_path, f"image {row + 1}: {scans.loc[row, 'patient']} has that loading state already.")
    scans["first"] = scans.groupby(keys)["load_state"].transform(lambda states: states.idxmin())
    bone = scans["bone"] if "bone" in scans else pd.Series("", index=scans.index)
    scans["first_of_bone"] = scans.groupby(bone)["first"].transform("first")
    return scans


def slice_numbers(extent: int, number: int | None) -> list[int]:
    """Numbers of slices, evenly spaced over an axis, its ends left out alike.

    Args:
        extent: slices there are.
        number: wanted; None takes all.

    Raises:
        InputError: if there are fewer.

    Example:
        >>> slice_numbers(10, 2)
        [2, 7]
    """
    if number is None:
        return list(range(extent))
    if number > extent:
        raise InputError(
            "slices_per_plane", f"must be at most the box's {extent} slices, got {number}; choose a smaller number."
        )
    return [int(position) for position in np.floor((np.arange(number) + 0.5) * extent / number)]


def _digest(path: str | Path) -> str:
    return str(fingerprint(path)["sha256_sampled"])


def _source_digest(path: str) -> str:
    """Names, sizes, times, samples."""
    return f"{_digest(path)} {Snapshot(split_part(path)[0]).digest}"


def _name(number: Any) -> str:
    return f"scan_{int(number):04d}"


def refuse_other_preparation(path: str | Path, weights: Mapping[str, Any]) -> None:
    """Raise if a scan was not prepared like those that weights were trained on: a network would not see what it knows.

    Args:
        path: a scan, or a manifest (.csv) of scans.
        weights: their card, see :func:`bonemonai.engines.weights_card`; one that does not say is not refused.

    Raises:
        InputError: naming the scan and what differs.
    """
    wanted: dict[str, Any] = (weights.get("trained_on") or {}).get("preparation") or {}
    is_manifest = Path(path).suffix.lower() == ".csv"
    images = read_manifest(path, allow_shared_patient=True)["image"].unique() if is_manifest else [str(path)]
    for image in images if wanted else ():
        kept = read_json(Path(image) / "zarr.json") or {}
        options = ((kept.get("attributes") or {}).get("bonemonai") or {}).get("preparation", {}).get("options") or {}
        for name in ("matching", "median"):
            if options.get(name) != wanted.get(name):
                raise InputError(
                    image, f"was prepared with {name} {options.get(name)}, the scans that the weights know with "
                    f"{wanted.get(name)}: prepare it alike (bonemonai prepare), or set check_preparation to False."
                )  # fmt: skip
