"""A whole study of lumbar CT on disk: DICOM series of three vendors, masks, truth, a manifest with splits, a card."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import write_manifest
from bonemonai.errors import OutputError
from bonemonai.phantoms.lumbar_acquisition import VENDORS, Vendor
from bonemonai.phantoms.lumbar_anatomy import LumbarAnatomy
from bonemonai.phantoms.lumbar_cohort import CLASSES, LumbarCase, lumbar_cases
from bonemonai.phantoms.lumbar_ct import LumbarCT
from bonemonai.phantoms.lumbar_dicom import FakePatient, write_dicom_series
from bonemonai.phantoms.lumbar_subject import LEVELS, VBMD_RANGES, LumbarLevel


def write_lumbar_study(
    folder: str | Path,
    *,
    subjects: int = 12,
    seed: int = 0,
    matrix: int = 512,
    levels: Sequence[LumbarLevel] = LEVELS,
    interval_mm: float = 3.0,
    splits: Sequence[float] = (0.6, 0.2, 0.2),
    field_of_view_mm: float | None = None,
    vendors: Sequence[Vendor] = VENDORS,
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write lumbar CT scans of subjects of three density classes as DICOM, with truth.

    Each subject gets a folder: ``dicom`` (one CT series, see
    :func:`bonemonai.phantoms.lumbar_dicom.write_dicom_series`), ``mask.nii.gz`` (bodies of L1 to L5, 20 to 24),
    ``vertebrae.nii.gz`` (whole vertebrae, the same labels), both on the scan's grid, and ``truth.json``.
    ``manifest.csv`` has a row each: ``patient`` (a pseudonym), ``image``, ``mask``, ``vertebrae``, ``label`` ("normal",
    "low bone mass", "osteoporosis"), ``split`` and ``site`` (the vendor); ``manifest.json`` is the data card. The fake
    names and dates in the DICOM headers stand nowhere else.

    The same call continues what was stopped; several at once share the subjects.

    Args:
        folder: where to write.
        subjects: how many, at least 1; three or more for one of each class.
        seed: of the study.
        matrix: rows and columns, at least 32.
        levels: of L1 to L5, what the slices must show whole.
        interval_mm: from slice to slice.
        splits: shares of train, val and test, by class and patient; of three subjects or more each gets one at least.
        field_of_view_mm: edge length of the slices; None holds the trunk.
        vendors: whose scanners there are.
        overwrite: replace another study that stands in the folder.
        progress: show a bar on standard error.

    Returns:
        The path of the manifest.

    Raises:
        InputError: if an argument is out of its range.
        OutputError: if the folder holds another study, or cannot be written to.

    Source: Tang et al., "CNN-based qualitative detection of bone mineral density via diagnostic CT slices for
        osteoporosis screening", section 2; classes and limits as in :mod:`bonemonai.phantoms.lumbar_subject`.
    """
    folder = Path(folder)
    cases = lumbar_cases(subjects, seed, interval_mm=interval_mm, splits=splits, vendors=vendors)
    scan: dict[str, Any] = {"matrix": matrix, "levels": list(levels), "field_of_view_mm": field_of_view_mm}
    LumbarCT(LumbarAnatomy(cases[0].subject), cases[0].acquisition, **scan)  # refuses what is out of range
    settings = {
        "version": bonemonai.__version__, "subjects": subjects, "seed": seed, "interval_mm": interval_mm,
        "splits": [float(share) for share in splits], "vendors": list(vendors), **scan,
    }  # fmt: skip
    manifest, card = folder / "manifest.csv", folder / "manifest.json"
    if not overwrite and manifest.exists() and (read_json(card) or {}).get("settings") != settings:
        raise OutputError(manifest, "is of another study; choose another folder, or say overwrite.")
    late: list[LumbarCase] = []
    with tqdm(total=subjects, desc="phantom scans", disable=not progress) as bar:
        for wait, batch in ((0, cases), (-1, late)):  # what others were at is waited for, in case they give up
            for case in batch:
                try:
                    with _lock(folder, case, wait):
                        _write_case(folder / case.patient, case, scan, settings, overwrite)
                except Timeout:
                    late.append(case)
                else:
                    bar.update()
    with FileLock(folder / ".manifest.lock"):
        write_json(card, _data_card(cases, settings))
        write_manifest(pd.DataFrame([_row(case) for case in cases]), manifest)
    return manifest


def _lock(folder: Path, case: LumbarCase, wait: float) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror}.") from error
    return FileLock(folder / f".{case.patient}.lock", timeout=wait)


def _row(case: LumbarCase) -> dict[str, str]:
    return {
        "patient": case.patient,
        "image": f"{case.patient}/dicom",
        "mask": f"{case.patient}/mask.nii.gz",
        "vertebrae": f"{case.patient}/vertebrae.nii.gz",
        "label": case.subject.label,
        "split": case.split,
        "site": case.acquisition.vendor,
    }


def _write_case(
    folder: Path, case: LumbarCase, scan: Mapping[str, Any], settings: Mapping[str, Any], overwrite: bool
) -> None:
    """One subject, its truth last; what is there of the same study stays."""
    made = (read_json(folder / "truth.json") or {}).get("settings")
    if made == settings:
        return
    if made is not None and not overwrite:
        raise OutputError(folder, "is of another study; choose another folder, or say overwrite.")
    (folder / "truth.json").unlink(missing_ok=True)
    found = LumbarCT(LumbarAnatomy(case.subject), case.acquisition, **scan).scan()
    seed = int(settings["seed"])
    patient = FakePatient(case.number, case.subject.sex, case.subject.age_years, seed)
    write_dicom_series(folder / "dicom", found.hu, found.affine_lps, case.acquisition, patient, overwrite=True)
    for name, labels in (("mask", found.mask), ("vertebrae", found.vertebrae)):
        _write_mask(folder / f"{name}.nii.gz", labels, found.affine_lps)
    write_json(folder / "truth.json", {"patient": case.patient, **found.truth, "settings": dict(settings)})


def _write_mask(path: Path, labels: NDArray[np.uint8], affine_lps: NDArray[np.float64]) -> None:
    """As compressed NIfTI-1; the same labels give the same bytes."""
    ras = (np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine_lps)[:, [2, 1, 0, 3]]
    image = nibabel.Nifti1Image(labels.transpose(2, 1, 0), ras)
    image.header.set_xyzt_units("mm")
    image.set_sform(ras, code="scanner")
    image.set_qform(ras, code="scanner")
    with atomic_path(path) as partial:
        partial.write_bytes(gzip.compress(image.to_bytes(), compresslevel=1, mtime=0))


def _data_card(cases: Sequence[LumbarCase], settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": "bonemonai lumbar CT phantom",
        "kind": "synthetic",
        "source": f"bonemonai.phantoms.write_lumbar_study, version {bonemonai.__version__}",
        "doi": None,
        "licence": "Apache-2.0",
        "modality": "CT, as DICOM series with the header habits of three vendors",
        "drawn": "T12 to sacrum, organs, table; mineral by class; kVp, kernel, dose, contrast, scale and noise vary",
        "limits": "ellipsoid organs, random trabecular structure, no projections; no measured anatomy and no patients",
        "shape": None,
        "seed": settings["seed"],
        "voxel_size_um": None,
        "units": "HU",
        "classes": {name: list(limits) for name, limits in VBMD_RANGES.items()},
        "class_unit": "mg/cm3, trabecular mineral, mean of L1 and L2",
        "patients": {name: sum(case.subject.label == name for case in cases) for name in CLASSES},
        "labels": {"20": "L1", "21": "L2", "22": "L3", "23": "L4", "24": "L5"},
        "settings": dict(settings),
    }
