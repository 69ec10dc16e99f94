"""Bone volume over tissue volume, and bone area over tissue area in each plane."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume
from bonemonai.errors import InputError

_MEMORY = 64e6


class BoneVolumeFraction(NamedTuple):
    """Bone in tissue.

    Attributes:
        bone_voxels: within the tissue.
        tissue_voxels: all of it.
        bv_mm3: BV, millimetres cubed; nan where the voxel size is unknown.
        tv_mm3: TV, millimetres cubed; nan where the voxel size is unknown.
        slices: a row a plane: ``plane``, ``ba_mm2``, ``ta_mm2``, ``ba_ta``; nan where there is no tissue.
    """

    bone_voxels: int
    tissue_voxels: int
    bv_mm3: float
    tv_mm3: float
    slices: pd.DataFrame

    @property
    def bv_tv(self) -> float:
        """BV/TV, 0 to 1; nan where there is no tissue."""
        return self.bone_voxels / self.tissue_voxels if self.tissue_voxels else math.nan


def measure_bone_volume_fraction(
    bone: Volume, tissue: Volume | None = None, *, memory: float = _MEMORY, record: SlabRecord | None = None
) -> BoneVolumeFraction:
    """Count bone within tissue, a few planes at a time.

    Args:
        bone: mask, non-zero in bone; :class:`bonemonai.analysis.BoneSegmentation` makes one of a scan.
        tissue: mask of the same voxels; :class:`bonemonai.analysis.BoneEnvelope` makes one of bone. None takes the
            whole volume.
        memory: bytes of a block, about.
        record: of finished slabs.

    Raises:
        InputError: if the tissue mask lies on other voxels, or is empty.

    Source:
        Bouxsein et al., J Bone Miner Res 25:1468 (2010), table 1: BV, TV, BV/TV.

    Example:
        >>> from bonemonai.data import open_volume
        >>> measure_bone_volume_fraction(open_volume("bone_mask.tif")).bv_tv  # doctest: +SKIP
        0.228
    """
    if tissue is not None:
        refuse_other_grid(tissue, bone)
    area = bone.shape[1] * bone.shape[2]

    def count(start: int, stop: int) -> dict[str, int]:
        marked = bone.read(start, stop) != 0
        inside = None if tissue is None else tissue.read(start, stop) != 0
        if inside is not None:
            marked &= inside
        counts = {}
        for offset, plane in enumerate(marked):
            counts[f"bone {start + offset}"] = int(np.count_nonzero(plane))
            counts[f"tissue {start + offset}"] = area if inside is None else int(np.count_nonzero(inside[offset]))
        return counts

    total = sum_over_slabs("volume", bone.slabs(bone.planes_within(memory)), count, record)
    bones, tissues = (
        np.array([total[f"{name} {plane}"] for plane in range(bone.shape[0])]) for name in ("bone", "tissue")
    )
    if tissue is not None and not tissues.any():
        raise InputError(tissue.path, "marks no tissue.")
    depth, *edges = (math.nan,) * 3 if bone.voxel_size_um is None else (edge / 1000 for edge in bone.voxel_size_um)
    pixel = math.prod(edges)
    share = np.divide(bones, tissues, out=np.full(len(bones), np.nan), where=tissues > 0)
    slices = pd.DataFrame(
        {"plane": range(len(bones)), "ba_mm2": bones * pixel, "ta_mm2": tissues * pixel, "ba_ta": share}
    )
    bone_voxels, tissue_voxels = int(bones.sum()), int(tissues.sum())
    return BoneVolumeFraction(
        bone_voxels, tissue_voxels, bone_voxels * pixel * depth, tissue_voxels * pixel * depth, slices
    )
