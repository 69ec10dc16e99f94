"""Bone measured in what is made of coarse scans, against the same bone in fine scans (paper 5)."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from bonemonai import __version__
from bonemonai.analysis.between_bone import BetweenBone
from bonemonai.analysis.bone_envelope import CLOSING_UM, BoneEnvelope
from bonemonai.analysis.bone_segmentation import DENSITY_MG_CM3, SIGMA_VOXELS, BoneSegmentation
from bonemonai.analysis.bone_volume_fraction import measure_bone_volume_fraction
from bonemonai.analysis.local_thickness import measure_local_thickness
from bonemonai.analysis.morphometry_agreement import REFERENCE, morphometry_agreement
from bonemonai.analysis.specimen_volumes import specimen_path
from bonemonai.analysis.trabecular_network import measure_trabecular_network
from bonemonai.data.atomic import atomic_path
from bonemonai.data.coarsened_mask import CoarsenedMask
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.data.data_card import NOT_A_DEVICE
from bonemonai.data.fingerprint import fingerprint, full_sha256
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError, OutputError

Area = Literal["envelope", "whole"]
AREAS: tuple[Area, ...] = get_args(Area)
METHODS = ("lr", "bicubic", "dl")
QUANTITIES = {"BA/TA": "1", "BV/TV": "1", "Tb.Th": "mm", "Tb.Sp": "mm", "Conn.D.loops": "1/mm3"}  # with units
MORPHOMETRY_FILES = ("morphometry.csv", "agreement.csv", "overlap.csv", "panels.npz", "morphometry.json")

_PANELS = 4  # specimens of which a plane is kept
_MEMORY = 1e9
_ALL_BONE = 0.95  # of an outline: more is no outline


@dataclass(frozen=True)
class BoneRule:
    """What bone is, and what its area is divided by; the same for every method.

    Attributes:
        density: mg HA/cm3 of calibrated scans, after a Gaussian; None takes the threshold.
        threshold: grey value; voxels above it are bone.
        sigma_voxels: of the Gaussian, in voxels of the image that is measured, as scanners' programs have it: of a
            coarse scan it is twice as many micrometres.
        area: what TA of BA/TA is, for every method: the filled outline of the fine scan's bone, or the whole plane.
        closing_um: of the outline, see :class:`bonemonai.analysis.BoneEnvelope`.

    Raises:
        InputError: if the area is none of both.

    Source:
        David et al., 2.5: Gaussian 1.2, 500 mg HA/cm3. TA is not defined there.
    """

    density: float | None = DENSITY_MG_CM3
    threshold: float | None = None
    sigma_voxels: float = SIGMA_VOXELS
    area: Area = "envelope"
    closing_um: float = CLOSING_UM

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if self.area not in AREAS:
            raise InputError("area", f"must be {' or '.join(AREAS)}, got {self.area!r}.")

    def bone(self, scan: Volume) -> BoneSegmentation:
        """Bone of a scan.

        Args:
            scan: in the units of the rule.
        """
        return BoneSegmentation(scan, density=self.density, threshold=self.threshold, sigma=self.sigma_voxels)


class Overlap(NamedTuple):
    """Bone of a method against bone of the fine scan, within the tissue, on the fine voxels.

    Attributes:
        dice: 2 x shared / (both's sum); nan where neither has bone.
        lost: share of the fine scan's bone that the method has not.
        invented: share of the method's bone that the fine scan has not; nan where it has none.
    """

    dice: float
    lost: float
    invented: float


class MethodMorphometry:
    """Measure each test specimen in the fine scan ("hr"), the coarse one, cubic interpolation and what a network made.

    The coarse scan ("lr") is measured on its own voxels, as whoever has no other scan would. The tissue is the same for
    all methods, so that only bone differs: TA of BA/TA, a mean over planes, is what the fine scan's bone outlines; the
    rest is measured within the manifest's ``tv`` where there is one, so that the cortex is left out, else within that
    outline, too. Pores of Tb.Sp end at the outline. A method that shows no bone in a specimen, or no space, has no
    Tb.Th or Tb.Sp there, and is counted as missing.

    Args:
        output_dir: of the files that :meth:`write` writes.
        rows: see :func:`bonemonai.data.resolution_rows`.
        made: folder of what the network made, see :class:`bonemonai.analysis.SpecimenVolumes`.
        rule: what bone is; by default that of :class:`BoneRule`.
        grey_range: (least, most) that panels are scaled by, in the scans' units.
        measured: folder where each finished measurement of the scans is kept, with what it was made from, so that it
            is not made again; evaluations of several networks may share it, at once, too. By default ``measured`` in
            the output folder, where those of the network always are.
        memory: bytes to work in, about.
        overwrite: replace earlier files.

    Raises:
        InputError: if scans are not calibrated and no threshold is given, a mask does not lie on its scan, or a fine
            scan is there twice.
        OutputError: if there are such files already.

    Source:
        David et al., 2.5 and Fig. 2; all but BA/TA is ours.
    """

    def __init__(
        self,
        output_dir: str | Path,
        rows: Sequence[Mapping[Hashable, Any]],
        made: str | Path,
        *,
        rule: BoneRule | None = None,
        grey_range: Sequence[float],
        measured: str | Path | None = None,
        memory: float = _MEMORY,
        overwrite: bool = False,
    ) -> None:
        self.output_dir, self.made, self.rows = Path(output_dir), Path(made), list(rows)
        self.measured = Path(measured or self.output_dir / "measured")
        self.rule, self.memory, self.overwrite = rule or BoneRule(), memory, overwrite
        self.least, self.most = (float(end) for end in grey_range)
        for path in self.files:
            if path.exists() and not overwrite:
                raise OutputError(path, "exists already; say --overwrite True, or choose another --output_dir.")
        twice = [path for path, count in Counter(str(row["path"]) for row in self.rows).items() if count > 1]
        if twice:
            raise InputError(twice[0], "is scored several times, which makes no specimens more; choose --frames.")
        for row in self.rows:
            self.rule.bone(row["high"])
            self._tv(row, row["high"])

    @property
    def files(self) -> list[Path]:
        """What :meth:`write` writes."""
        return [self.output_dir / name for name in MORPHOMETRY_FILES]

    def write(self, about: Mapping[str, Any], *, progress: bool = False) -> list[Path]:
        """Measure what is left to be measured, and write all.

        ``morphometry.csv`` has ``specimen``, ``method``, ``quantity``, ``value``, ``unit``, ``tissue``;
        ``agreement.csv`` a row a quantity and method, see :func:`morphometry_agreement`; ``overlap.csv`` a row a
        specimen and method, see :class:`Overlap`; ``panels.npz`` middle planes of the first specimens, scaled to
        [0, 1], and their bone; ``morphometry.json`` the rule.

        Args:
            about: provenance; JSON values.
            progress: show a bar on standard error.

        Returns:
            The five files.

        Raises:
            InputError: if a fine scan shows no bone, its outline holds hardly anything but bone, or what the network
                made is not there.
        """
        found: list[dict[str, Any]] = []
        overlaps: list[dict[str, Any]] = []
        jobs = [(row, method) for row in self.rows for method in (REFERENCE, *METHODS)]
        for row, method in tqdm(jobs, desc="morphometry", disable=not progress):
            quantities, overlap = self.measure(row, method)
            place = {"specimen": row["specimen"], "method": method}
            found += [{**place, **each} for each in quantities]
            if overlap is not None:
                overlaps.append({**place, **overlap._asdict()})
        table = pd.DataFrame(found)
        for path, content in zip(
            self.files, (table, morphometry_agreement(table), pd.DataFrame(overlaps)), strict=False
        ):
            with atomic_path(path, overwrite=self.overwrite) as partial:
                content.to_csv(partial, index=False, float_format="%.8g")
        panels: dict[str, Any] = self._panels()
        with atomic_path(self.files[3], overwrite=self.overwrite) as partial, open(partial, "wb") as stream:
            np.savez_compressed(stream, **panels)
        rule = {"bone": self.rule.bone(self.rows[0]["high"]).rule, **vars(self.rule)}
        write_json(self.files[4], {"note": NOT_A_DEVICE, "rule": rule, **about})
        return self.files

    def measure(self, row: Mapping[Hashable, Any], method: str) -> tuple[list[dict[str, Any]], Overlap | None]:
        """Measure a specimen by a method, or find it measured.

        Args:
            row: one of :attr:`rows`.
            method: one of :data:`METHODS`, or "hr".

        Returns:
            ``quantity``, ``value``, ``unit`` and ``tissue`` of each quantity, and the overlap with the fine scan's
            bone; None for the fine scan itself.
        """
        # what a network made is of this evaluation alone
        folder = self.output_dir / "measured" if method == "dl" else self.measured
        path = folder / f"{specimen_path('', str(row['specimen'])).name.removesuffix('.ome.zarr')}_{method}.json"
        key = self._key(row, method)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):  # another evaluation may be at it
            kept = read_json(path)
            if kept is None or kept.get("of") != key:
                scan = self._scan(row, method)
                values, tissue = self._values(row, method, scan)
                overlap = None if method == REFERENCE else self._overlap(row, scan)
                # JSON has no NaN
                kept = {
                    "of": key,
                    "values": {name: _or_none(value) for name, value in values.items()},
                    "tissue": tissue,
                    "overlap": None if overlap is None else [_or_none(share) for share in overlap],
                }
                write_json(path, kept)
        found = [
            {"quantity": name, "value": _or_nan(value), "unit": QUANTITIES[name], "tissue": kept["tissue"][name]}
            for name, value in kept["values"].items()
        ]
        return found, None if kept["overlap"] is None else Overlap(*map(_or_nan, kept["overlap"]))

    def _panels(self) -> dict[str, NDArray[Any]]:
        """Middle planes of the first specimens: grey values of the fine grid, and bone."""
        kept: dict[str, NDArray[Any]] = {}
        names, numbers = [], []
        for index, row in enumerate(self.rows[:_PANELS]):
            plane = row["high"].shape[0] // 2
            for method in (REFERENCE, *METHODS):
                scan = self._scan(row, method)
                shown = row["image"] if method == "lr" else scan
                grey = shown.read(plane, plane + 1)[0].astype(np.float64)
                kept[f"{index}/{method}"] = np.clip((grey - self.least) / (self.most - self.least), 0, 1).astype(
                    np.float16
                )
                kept[f"{index}/{method}/bone"] = _on_fine(self.rule.bone(scan), row, plane, plane + 1)[0]
            names.append(str(row["specimen"]))
            numbers.append(plane)
        return {**kept, "specimen": np.array(names), "plane": np.array(numbers)}

    def _key(self, row: Mapping[Hashable, Any], method: str) -> dict[str, Any]:
        """All that a measurement depends on."""
        sources = {REFERENCE: row["path"], "lr": row["lr"], "bicubic": row["lr"], "dl": self._dl_path(row)}
        key: dict[str, Any] = {
            "version": __version__,
            "method": method,
            "rule": vars(self.rule),
            "source": fingerprint(sources[method]),
            "reference": fingerprint(row["path"]),
            # of a mask that is drawn anew neither the size changes nor what samples see
            "tv": full_sha256(row["tv"]) if row.get("tv") else None,
            **{
                f"{name}_voxels": [row[name].shape, row[name].voxel_size_um, row[name].units]
                for name in ("high", "coarse")
            },
        }
        return dict(json.loads(json.dumps(key)))  # as it is read again

    def _dl_path(self, row: Mapping[Hashable, Any]) -> Path:
        path = specimen_path(self.made, str(row["specimen"]))
        if not path.exists():
            raise InputError(path, "is not there: the network has made no volume of this specimen.")
        return path

    def _scan(self, row: Mapping[Hashable, Any], method: str) -> Volume:
        if method == "dl":
            return open_volume(self._dl_path(row))
        scan: Volume = row[{REFERENCE: "high", "lr": "coarse", "bicubic": "bicubic"}[method]]
        return scan

    def _tv(self, row: Mapping[Hashable, Any], scan: Volume) -> Volume | None:
        """The manifest's tissue on a scan's voxels."""
        if not row.get("tv"):
            return None
        mask, high = open_volume(row["tv"]), row["high"]
        refuse_other_grid(mask, high.base)
        return _laid_on(BoneSegmentation(CroppedVolume(mask, (0, 0, 0), high.shape)), row, scan)  # refuses what is none

    def _outline(self, row: Mapping[Hashable, Any], scan: Volume) -> tuple[Volume | None, str]:
        """What the fine scan's bone outlines, on a scan's voxels, and what it is in words."""
        if self.rule.area == "whole":
            return None, "whole plane"
        envelope = BoneEnvelope(self.rule.bone(row["high"]), closing_um=self.rule.closing_um)
        return _laid_on(envelope, row, scan), f"{envelope.rule}, of the fine scan"

    def _values(
        self, row: Mapping[Hashable, Any], method: str, scan: Volume
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Of each quantity the value, and the tissue that it was measured in."""
        bone, (outline, area), tv = self.rule.bone(scan), self._outline(row, scan), self._tv(row, scan)
        tissue, words = (outline, area) if tv is None else (tv, "mask of the manifest")
        shares = measure_bone_volume_fraction(bone, outline, memory=self.memory / 8).slices["ba_ta"]
        if method == REFERENCE:
            self._refuse_reference(scan, bone, shares)
        volume = measure_bone_volume_fraction(bone, tissue, memory=self.memory / 8)
        phases = (bone, BetweenBone(bone, outline))
        thickness, space = (
            measure_local_thickness(phase, tissue, memory=self.memory).mean_mm if self._ends(phase) else math.nan
            for phase in phases
        )
        network = measure_trabecular_network(bone, tissue, memory=self.memory / 8)
        values = [float(shares.mean()), volume.bv_tv, thickness, space, network.loops_per_mm3]
        tissues = {name: area if name == "BA/TA" else words for name in QUANTITIES}
        return dict(zip(QUANTITIES, values, strict=True)), tissues

    def _refuse_reference(self, scan: Volume, bone: BoneSegmentation, shares: pd.Series[float]) -> None:
        if not shares.max() > 0:
            raise InputError(scan.path, f"shows no bone ({bone.rule}).")
        if self.rule.area == "envelope" and shares.mean() > _ALL_BONE:
            raise InputError(
                scan.path, f"is {100 * shares.mean():.0f} % bone within the outline of its bone: a crop of trabeculae, "
                "which has none; say --area whole."
            )  # fmt: skip

    def _ends(self, phase: Volume) -> bool:
        """Whether a phase is there, and something besides: otherwise it has no thickness."""
        blocks = (block for _, block in phase.blocks(phase.planes_within(self.memory / 8)))
        found = {(bool(block.any()), bool(block.all())) for block in blocks}
        return any(some for some, _ in found) and not all(every for _, every in found)

    def _overlap(self, row: Mapping[Hashable, Any], scan: Volume) -> Overlap:
        high: Volume = row["high"]
        bone, truth, tissue = self.rule.bone(scan), self.rule.bone(high), self._tv(row, high)
        shared = own = true = 0
        for slab in high.slabs(high.planes_within(self.memory / 16)):
            ours = _on_fine(bone, row, slab.start, slab.stop)
            wanted = truth.read(slab.start, slab.stop) != 0
            if tissue is not None:
                inside = tissue.read(slab.start, slab.stop) != 0
                ours, wanted = ours & inside, wanted & inside
            shared += int(np.count_nonzero(ours & wanted))
            own, true = own + int(np.count_nonzero(ours)), true + int(np.count_nonzero(wanted))
        return Overlap(
            2 * shared / (own + true) if own + true else math.nan,
            1 - shared / true if true else math.nan,
            1 - shared / own if own else math.nan,
        )


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value


def _laid_on(fine: Volume, row: Mapping[Hashable, Any], scan: Volume) -> Volume:
    """A mask of the fine scan's voxels on those of any scan of the pair.

    Pairs are registered voxel by voxel; what headers say of their places may differ.
    """
    mask = CoarsenedMask(fine, row["factor"]) if scan.shape == row["coarse"].shape else fine
    mask.affine_lps = scan.affine_lps
    return mask


def _on_fine(bone: Volume, row: Mapping[Hashable, Any], start: int, stop: int) -> NDArray[np.bool_]:
    """Planes of a mask on the fine voxels; a coarse voxel's count for all fine ones in it."""
    high = row["high"]
    if bone.shape == high.shape:
        return np.asarray(bone.read(start, stop) != 0)
    factor = row["factor"]
    last = min(-(-stop // factor), bone.shape[0])
    first = min(start // factor, last - 1)
    marked = bone.read(first, last) != 0
    for axis in range(3):
        marked = marked.repeat(factor, axis=axis)
    # a fine scan may be longer than its coarse one by less than a coarse voxel: its outermost voxels count again
    planes = np.clip(np.arange(start, stop) - first * factor, 0, marked.shape[0] - 1)
    beyond = [(0, max(0, size - marked.shape[axis])) for axis, size in ((1, high.shape[1]), (2, high.shape[2]))]
    padded = np.pad(marked[planes], ((0, 0), *beyond), mode="edge")
    return np.asarray(padded[:, : high.shape[1], : high.shape[2]])
