"""What is measured: which voxels are bone, and which tissue they lie in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bonemonai.analysis.bone_envelope import CLOSING_UM, BoneEnvelope
from bonemonai.analysis.bone_segmentation import DENSITY_MG_CM3, BoneSegmentation
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        bone: mask, voxel size known.
        tissue: mask of the same voxels; None is the whole volume.
        rules: what bone and tissue are, in words.
    """

    bone: Volume
    tissue: Volume | None
    rules: tuple[str, str]


def find_subject(
    scan: Volume,
    *,
    mask: Volume | None = None,
    threshold: float | None = None,
    density: float | None = None,
    tissue: str | Path | None = None,
    closing_um: float | None = None,
) -> Subject:
    """Say what bone is in a scan, and what tissue it lies in.

    Args:
        scan: grey values, densities, or a mask of bone.
        mask: of bone, on the scan's voxels; then neither threshold nor density is due.
        threshold: grey value; voxels above it are bone.
        density: mg HA/cm3; by default 500 of a calibrated scan, and of others none.
        tissue: "whole", "envelope", or the path of a mask; by default the envelope where bone is found by its density,
            as David et al. measured BA/TA, and else the whole volume.
        closing_um: of the envelope, which must then be the tissue; see :class:`bonemonai.analysis.BoneEnvelope`.

    Raises:
        InputError: if the voxel size is unknown, two ways to find bone are given, a mask lies on other voxels, or there
            is no envelope to be closed.
    """
    if scan.voxel_size_um is None:
        raise InputError(scan.path, "does not state its voxel size; say --voxel-size-um.")
    if mask is not None:
        if threshold is not None or density is not None:
            raise InputError(mask.path, "says what bone is; leave --threshold and --density out.")
        lie_on(mask, scan)
        bone = BoneSegmentation(mask)
    else:
        if threshold is None and density is None and scan.units == "mg HA/cm3":
            density = DENSITY_MG_CM3
        bone = BoneSegmentation(scan, density=density, threshold=threshold)
    if tissue is None:
        tissue = "whole" if density is None else "envelope"
    if closing_um is not None and tissue != "envelope":
        raise InputError("closing-um", "closes the envelope of bone, which is not the tissue here; say --tv envelope.")
    if tissue == "whole":
        return Subject(bone, None, (bone.rule, "whole volume"))
    if tissue == "envelope":
        envelope = BoneEnvelope(bone, closing_um=CLOSING_UM if closing_um is None else closing_um)
        return Subject(bone, envelope, (bone.rule, envelope.rule))
    given = open_volume(tissue)
    lie_on(given, scan)
    return Subject(bone, BoneSegmentation(given), (bone.rule, "mask given"))  # refuses what is no mask


def lie_on(mask: Volume, scan: Volume) -> None:
    """Refuse a mask of other voxels; one that does not state its voxel size gets the scan's.

    Args:
        mask: to use with the scan.
        scan: whose voxels it must lie on.

    Raises:
        InputError: if shapes or places differ.
    """
    refuse_other_grid(mask, scan)
    if mask.affine_lps is None:
        mask.affine_lps = scan.affine_lps
