"""The morphometry of a scan: all its numbers in one list."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from bonemonai import __version__
from bonemonai.analysis.between_bone import BetweenBone
from bonemonai.analysis.bone_envelope import BoneEnvelope
from bonemonai.analysis.bone_segmentation import BoneSegmentation
from bonemonai.analysis.bone_surface import measure_bone_surface
from bonemonai.analysis.bone_volume_fraction import BoneVolumeFraction, measure_bone_volume_fraction
from bonemonai.analysis.lacuna_objects import measure_lacuna_objects
from bonemonai.analysis.local_thickness import measure_local_thickness
from bonemonai.analysis.measured_subject import Subject, lie_on
from bonemonai.analysis.mid_axes import MidAxes
from bonemonai.analysis.quantities import Quantity
from bonemonai.analysis.slab_arrays import SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.analysis.trabecular_network import measure_trabecular_network
from bonemonai.data.atomic import atomic_path
from bonemonai.data.fingerprint import fingerprint
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

GROUPS = ("surface", "thickness", "network")


class Measurement(NamedTuple):
    """What was found.

    Attributes:
        quantities: in the order in which they are told; BV/TV first.
        slices: a row a plane; see :class:`bonemonai.analysis.BoneVolumeFraction`.
        lacunae: a row a lacuna; see :func:`bonemonai.analysis.measure_lacuna_objects`. None if none were asked for.
    """

    quantities: list[Quantity]
    slices: pd.DataFrame
    lacunae: pd.DataFrame | None = None

    def write(self, *, slices: Path | None = None, lacunae: Path | None = None) -> None:
        """Write tables as CSV; what stands in their place is replaced.

        Args:
            slices: file for :attr:`slices`; None writes none.
            lacunae: file for :attr:`lacunae`; None writes none.
        """
        for path, table, index in ((slices, self.slices, None), (lacunae, self.lacunae, "lacuna")):
            if path is not None and table is not None:
                with atomic_path(path) as partial:
                    table.to_csv(partial, index=index is not None, index_label=index)


def measure_bone(
    subject: Subject,
    *,
    groups: Sequence[str] = GROUPS,
    lacunae: Volume | None = None,
    memory: float = 1e9,
    record: Path | None = None,
) -> Measurement:
    """Measure bone, a few planes at a time; BV/TV always, the rest by group.

    Tb.Th and Tb.Sp are means of :func:`bonemonai.analysis.measure_local_thickness`. Balls of Tb.Sp reach beyond a
    tissue mask that is given, and not beyond an envelope, outside of which is air. Tb.N is one over the mean distance
    of mid-axes, as the field's programs have it: axes are a voxel or two thick, which is taken off each distance, so
    that plates 240 um apart give 4.5 a mm at 10 um and 5.0 at 20 um in place of 4.2. Compare it between scans of one
    voxel size only; ``1/(Tb.Th+Tb.Sp)``, that of spheres, has no such bias. ``.plate`` is what would be if bone were
    plates. Tb.* mean trabecular bone where the tissue is: with a cortex in it they are of both.

    Args:
        subject: from :func:`find_subject`.
        groups: of :data:`GROUPS`.
        lacunae: mask of them on the same voxels; they are measured as objects.
        memory: bytes to work in, about.
        record: JSON file of finished slabs, beside which a folder of its name and ``.d`` holds what lines do not; with
            them a run that was stopped goes on where it was. One that is there is continued.

    Raises:
        InputError: if there is no bone, a mask cannot be used, or something cannot be measured.
        ResumeError: if the record is of another measurement or mask of lacunae, or a file beside it is damaged.
    """
    unknown = sorted(set(groups) - set(GROUPS))
    if unknown:
        raise InputError("measures", f"must be of {', '.join(GROUPS)}, got {', '.join(unknown)}.")
    done = None if record is None else SlabRecord(record, _fingerprint(subject, memory))
    volume = measure_bone_volume_fraction(subject.bone, subject.tissue, memory=memory / 8, record=done)
    if not volume.bone_voxels:
        raise InputError(subject.bone.path, f"holds no bone ({subject.rules[0]}) in the tissue ({subject.rules[1]}).")
    found = _volumes(volume)
    if "surface" in groups:
        found += _surface(subject, volume, memory, done)
    if "thickness" in groups:
        found += _thickness(subject, memory, done)
    if "network" in groups:
        found += _network(subject, memory, done)
    table = None
    if lacunae is not None:
        if subject.tissue is not None:
            # their number would be of the whole volume, and BV of the tissue
            raise InputError(lacunae.path, "is counted in whole volumes only; leave --tv out.")
        lie_on(lacunae, subject.bone)
        kept = None if done is None else SlabArrays(done, "lacunae", fingerprint(lacunae.source))
        table = measure_lacuna_objects(BoneSegmentation(lacunae), memory=memory, kept=kept)
        found += lacuna_quantities(table, volume.bv_mm3)
    return Measurement([*found, *_words(subject)], volume.slices, table)


def lacuna_quantities(table: pd.DataFrame, bone_volume_mm3: float) -> list[Quantity]:
    """Numbers of lacunae; density from an unbiased frame, the rest medians of those that no border cuts.

    Args:
        table: of :func:`bonemonai.analysis.measure_lacuna_objects`.
        bone_volume_mm3: BV that they lie in; with bone by a threshold, lacunae, which are dark, are not of it.
    """
    number = int((~table["touches_last"]).sum())
    whole = table[~table["touches_first"] & ~table["touches_last"]]
    rows = [Quantity("Lc.N", number, "1"), Quantity("Lc.N/BV", number / bone_volume_mm3, "1/mm3")]
    shown = (("Lc.V", "volume_um3", "um3"), ("Lc.sphericity", "sphericity", "1"), ("Lc.elongation", "elongation", "1"),
             ("Lc.flatness", "flatness", "1"), ("Lc.spacing", "spacing_um", "um"))  # fmt: skip
    return rows + [
        Quantity(f"{name}.median", float(whole[column].dropna().median()), unit) for name, column, unit in shown
    ]


def _volumes(volume: BoneVolumeFraction) -> list[Quantity]:
    share = volume.slices["ba_ta"]
    return [
        Quantity("BV/TV", volume.bv_tv, "1"),
        Quantity("BV", volume.bv_mm3, "mm3"),
        Quantity("TV", volume.tv_mm3, "mm3"),
        Quantity("BA/TA", float(share.mean()), "1"),
        Quantity("BA/TA.SD", float(share.std(ddof=0)), "1"),
    ]


def _surface(subject: Subject, volume: BoneVolumeFraction, memory: float, done: SlabRecord | None) -> list[Quantity]:
    surface = measure_bone_surface(subject.bone, subject.tissue, memory=memory / 8, record=done)
    bs = surface.bs_bv_per_mm * volume.bv_mm3
    return [
        Quantity("BS", bs, "mm2"),
        Quantity("BS/BV", surface.bs_bv_per_mm, "1/mm"),
        Quantity("BS/TV", bs / volume.tv_mm3, "1/mm"),
        Quantity("Tb.Th.plate", surface.thickness_plate_mm, "mm"),
        Quantity("Tb.Sp.plate", 2 * (volume.tv_mm3 - volume.bv_mm3) / bs if bs else math.inf, "mm"),
        Quantity("Tb.N.plate", bs / volume.tv_mm3 / 2, "1/mm"),
        Quantity("DA.MIL", surface.anisotropy, "1"),
    ]


def _thickness(subject: Subject, memory: float, done: SlabRecord | None) -> list[Quantity]:
    within = subject.tissue if isinstance(subject.tissue, BoneEnvelope) else None
    phases = {
        "Tb.Th": subject.bone,
        "Tb.Sp": BetweenBone(subject.bone, within),
        "mid-axes": BetweenBone(MidAxes(subject.bone, memory=memory), within),
    }
    found = {
        name: measure_local_thickness(phase, subject.tissue, memory=memory, record=done, stage=name)
        for name, phase in phases.items()
    }
    rows = []
    for name in ("Tb.Th", "Tb.Sp"):
        mean, sd, largest, _ = found[name]
        rows += [Quantity(name, mean, "mm"), Quantity(f"{name}.SD", sd, "mm"), Quantity(f"{name}.max", largest, "mm")]
    return [
        *rows,
        Quantity("Tb.N", 1 / found["mid-axes"].mean_mm, "1/mm"),
        Quantity("1/(Tb.Th+Tb.Sp)", 1 / (found["Tb.Th"].mean_mm + found["Tb.Sp"].mean_mm), "1/mm"),
    ]


def _network(subject: Subject, memory: float, done: SlabRecord | None) -> list[Quantity]:
    network = measure_trabecular_network(subject.bone, subject.tissue, memory=memory, record=done)
    rows = [Quantity("Euler", network.euler, "1"), Quantity("Conn.D", network.density_per_mm3, "1/mm3")]
    rows += [
        Quantity("Conn.D.loops", network.loops_per_mm3, "1/mm3"),
        Quantity("pieces", network.pieces, "1"),
        Quantity("cavities", network.cavities, "1"),
    ]
    if subject.tissue is None:
        rows.append(Quantity("Conn.D.edge-corrected", network.density_edge_corrected_per_mm3, "1/mm3"))
    return rows


def _fingerprint(subject: Subject, memory: float) -> dict[str, Any]:
    """All that counts depend on; memory, because it says where slabs end."""
    return {
        "bone": {**fingerprint(subject.bone.source), "rule": subject.rules[0]},
        "tissue": {**(fingerprint(subject.tissue.source) if subject.tissue else {}), "rule": subject.rules[1]},
        "voxel_size_um": list(subject.bone.voxel_size_um or ()),
        "memory": memory,
        "version": __version__,
    }


def _words(subject: Subject) -> list[Quantity]:
    size = subject.bone.voxel_size_um or ()
    return [
        *(Quantity(f"voxel.{axis}", edge, "um") for axis, edge in zip(("plane", "row", "column"), size, strict=True)),
        Quantity("bone", subject.rules[0], "-"),
        Quantity("tissue", subject.rules[1], "-"),
    ]
