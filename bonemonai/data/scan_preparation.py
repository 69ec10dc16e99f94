"""Scans of a specimen under load become volumes that can be compared, and a manifest of their slices (paper 2)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK
from filelock import FileLock, Timeout
from tqdm import tqdm

from bonemonai.data.atomic import atomic_path
from bonemonai.data.blockwise_writing import write_blockwise
from bonemonai.data.cropped_volume import CroppedVolume, centre_box
from bonemonai.data.data_card import copy_data_card
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.histogram import StreamingHistogram
from bonemonai.data.loaded_scans import LoadedScans, Matching
from bonemonai.data.matched_volume import MatchedVolume, fine_histogram
from bonemonai.data.median_volume import MedianVolume
from bonemonai.data.preparation_record import PreparationRecord, preparation_fingerprint
from bonemonai.data.registration import Registration, register_rigid
from bonemonai.data.resampled_volume import Interpolation, ResampledVolume, refuse_interpolation
from bonemonai.data.slice_list import slice_numbers, write_slice_list
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError, OutputError, ResumeError

logger = logging.getLogger(__name__)

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
        self._loaded = LoadedScans(self.manifest_path, matching)
        self.scans = self._loaded.table
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
                with FileLock(self.output_dir / f".{self._record(number).name}.lock", timeout=0):
                    self._prepare(number)
            except Timeout:
                logger.info("%s: another process works on it.", self._record(number).name)
        left = [number for number in self.scans.index if not self._record(number).is_done(self._fingerprint(number))]
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
        if (reference := self._loaded.reference(number)) != number:
            volume = MatchedVolume(volume, self._histogram(number, cut), self._histogram(reference))
        return volume

    def _check(self) -> None:
        """Refuse by headers, before hours are spent, what would be refused in the end."""
        for number in self.scans.index:
            grid = self._loaded.refuse_unlike_first(number, registered=self.registered)
            for extent in centre_box(grid, self.crop_size)[1]:
                slice_numbers(extent, self.slices_per_plane)

    def _prepare(self, number: int) -> None:
        record, expected = self._record(number), self._fingerprint(number)
        if record.is_done(expected):
            logger.info("%s is prepared already.", record.name)
            return
        if record.made_from() not in (None, expected) and not self.overwrite:
            raise ResumeError(
                record.image,
                "was prepared from other data or with other options; ask for overwrite, or choose another folder.",
            )
        # slices.csv never lists scans that were prepared in different ways
        with FileLock(self.output_dir / ".slices.lock"):
            for stale in (self._slices, self._slices.with_suffix(".json"), record.file(".json"), record.file(".tfm")):
                stale.unlink(missing_ok=True)
        _, registration, outside = self._cut(number)
        about: dict[str, Any] = {
            "fingerprint": expected,
            "options": self._options,
            "source": fingerprint(self._loaded.path(number)),
        }
        about["registration"] = None if registration is None else {**registration.describe(), "outside": outside}
        if registration is not None and registration.correlation < _DOUBTFUL:
            logger.warning(
                "%s: after registration grey values correlate by %.2f only: look at it.",
                record.image.name, registration.correlation,
            )  # fmt: skip
        if outside:
            logger.warning(
                "%s: %.1f %% of the box lie outside the scan and repeat its faces.", record.image.name, 100 * outside
            )
        image = self.prepared(number)
        # beside OME's metadata, which have no units of values
        self._write(image, record.image, attributes={"preparation": about, "units": image.units})
        outputs = [record.image]
        for mask in self._loaded.masks(number):
            outputs.append(record.file(f"_{mask}.ome.zarr"))
            self._write(self._cut(number, mask)[0], outputs[-1], kind="label")
        if registration is not None:
            outputs.append(record.file(".tfm"))
            with atomic_path(outputs[-1]) as partial:
                # SimpleITK knows the format by the name's ending
                text = partial.with_suffix(".tfm")
                SimpleITK.WriteTransform(registration.transform, str(text))
                text.replace(partial)
        record.write(about, outputs)
        self._cuts.clear()

    def _write(self, volume: Volume, path: Path, **options: Any) -> None:
        # half a dozen copies of a block are held on its way through the filters
        write_blockwise(volume, path, memory=self.memory / 6, progress=self.progress, **options)

    def _cut(self, number: int, column: str = "image") -> tuple[Volume, Registration | None, float]:
        """The box of a scan, or of its mask, on the grid of the sample's first scan."""
        first = self._loaded.first(number)
        scan, grid = self._loaded.open(number), self._loaded.open(first)
        volume = scan if column == "image" else self._loaded.open_mask(number, column, scan)
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

    def _record(self, number: int) -> PreparationRecord:
        return PreparationRecord(self.output_dir, number)

    def _fingerprint(self, number: int) -> str:
        return preparation_fingerprint(self._loaded, number, self._options)

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

    def _write_slices(self) -> Path:
        scans = []
        for number, scan in self.scans.iterrows():
            row = int(str(number))
            record = self._record(row)
            kept = {name: str(scan[name]) for name in ("patient", "load_state", "bone", "site") if name in scan}
            kept |= {mask: str(record.file(f"_{mask}.ome.zarr")) for mask in self._loaded.masks(row)}
            scans.append({**kept, "image": str(record.image)})
        count = write_slice_list(self._slices, scans, self.slices_per_plane)
        copy_data_card(self.manifest_path, self._slices, preparation=self._options)
        logger.info("%s: %d slices of %d scans.", self._slices.name, count, len(scans))
        return self._slices
