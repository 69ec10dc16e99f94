"""A whole study of mouse bones on disk: HR and LR microCT of one place, truth, a manifest with splits, a data card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

import bonemonai
from bonemonai.data.aim_writer import AimWriter
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.manifest import write_manifest
from bonemonai.data.nifti_writer import NiftiWriter
from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.volume import scaling_affine_lps
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms.microct_acquisition import MicroCTAcquisition, hr_acquisition, lr_acquisition
from bonemonai.phantoms.microct_scanner import MicroCTScanner
from bonemonai.phantoms.murine_bone import CORTICAL, MARROW, TRABECULAR, MurineBone
from bonemonai.phantoms.murine_cohort import MurineCase, field_corner_um, murine_cases, split_specimens
from bonemonai.phantoms.murine_specimen import SITES
from bonemonai.phantoms.scan_grid import ScanGrid

FileFormat = Literal["aim", "nifti"]
FORMATS: tuple[FileFormat, ...] = get_args(FileFormat)
UNITS = "mg HA/cm3"

_SUFFIX: Mapping[FileFormat, str] = {"aim": ".aim", "nifti": ".nii"}
_SLAB = 16
_FILES = 2  # which files a specimen has: a study of another number is another study


def write_murine_study(
    folder: str | Path,
    *,
    specimens_per_site: int = 3,
    seed: int = 0,
    hr_shape: tuple[int, int, int] = (64, 400, 400),
    frame_averages: Sequence[int] = (1, 3),
    misalignment_um: float = 0.0,
    file_format: FileFormat = "aim",
    overwrite: bool = False,
    progress: bool = False,
) -> Path:
    """Write microCT of mouse femurs and lumbar vertebrae at 10 um (HR) and 20 um (LR), with truth.

    Each specimen gets a folder: ``hr`` and, for each frame average, ``lr_1`` and so on, calibrated to mg HA/cm3; on
    HR's grid, as built, ``mask.nii`` (1 is bone), ``tissue.nii`` (see :meth:`bonemonai.phantoms.MurineBone.tissue`) and
    ``tv.nii`` (1 is the trabecular compartment, bone and marrow, as an operator's contours would mark it);
    ``truth.json``. AIM states its calibration itself; NIfTI cannot say what its values are, so that readers must be
    told ``units`` as the manifest gives them.

    ``manifest.csv`` has a row a specimen and frame average: ``patient``, ``image`` (HR), ``lr``, ``lr_frames``,
    ``mask``, ``tissue``, ``tv``, ``site`` ("femur", "spine"), ``split`` (by specimen, 44 to 12 to 15 within each site),
    ``units``, ``voxel_size_um`` and ``lr_voxel_size_um``. ``manifest.json`` is the data card. The same call
    continues what was stopped; several at once share the specimens.

    Args:
        folder: where to write.
        specimens_per_site: at least 1; of less than 3 some splits stay empty.
        seed: of the study.
        hr_shape: of HR scans, (planes, rows, columns), even numbers from 16 on; the paper's slices are 400 x 400. A
            femur's first plane lies just above its growth plate, a vertebra's planes round its body's middle. A field
            too small for the bone shows its lateral wall.
        frame_averages: of LR's projections; one LR scan each.
        misalignment_um: standard deviation of LR's offset from HR along each axis, told by truth.json alone; below half
            of LR's voxel.
        file_format: "aim" or "nifti", of HR and LR.
        overwrite: replace another study that stands in the folder.
        progress: show a bar on standard error.

    Returns:
        The path of the manifest.

    Raises:
        InputError: if an argument is out of its range.
        OutputError: if the folder holds another study, or cannot be written to.

    Source: David et al., "Deep learning models improve spatial resolution of microCT images across murine femur and
        spine", methods: voxel sizes, projections, frame averages, sites, split.
    """
    folder = Path(folder)
    settings = {
        "version": bonemonai.__version__, "files": _FILES, "specimens_per_site": specimens_per_site, "seed": seed,
        "hr_shape": list(hr_shape), "frame_averages": list(frame_averages), "misalignment_um": misalignment_um,
        "file_format": file_format,
    }  # fmt: skip
    _refuse_wrong(settings)
    cases = murine_cases(specimens_per_site, seed, misalignment_um=misalignment_um)
    manifest, card = folder / "manifest.csv", folder / "manifest.json"
    if not overwrite and manifest.exists() and (read_json(card) or {}).get("settings") != settings:
        raise OutputError(manifest, "is of another study; choose another folder, or say overwrite.")
    if manifest.exists() and (read_json(card) or {}).get("settings") != settings:
        manifest.unlink(missing_ok=True)  # so that, stopped midway, no list mixes two studies
    late: list[MurineCase] = []
    with tqdm(total=len(cases), desc="phantom scans", disable=not progress) as bar:
        for wait, batch in ((0, cases), (-1, late)):  # what others were at is waited for, in case they give up
            for case in batch:
                try:
                    with _lock(folder, case.patient, wait):
                        _write_case(folder / case.patient, case, settings, overwrite)
                except Timeout:
                    late.append(case)
                else:
                    bar.update()
    with FileLock(folder / ".manifest.lock"):
        write_json(card, _data_card(settings))
        rows = pd.DataFrame([_row(case, frames, settings) for case in cases for frames in frame_averages])
        write_manifest(split_specimens(rows, seed), manifest)
    return manifest


def _refuse_wrong(settings: Mapping[str, Any]) -> None:
    shape, frames, shift = settings["hr_shape"], settings["frame_averages"], settings["misalignment_um"]
    if settings["specimens_per_site"] < 1:
        raise InputError("specimens_per_site", f"must be >= 1, got {settings['specimens_per_site']!r}.")
    if settings["seed"] < 0:
        raise InputError("seed", f"must be >= 0, got {settings['seed']!r}.")
    if len(shape) != 3 or any(edge < 16 or edge % 2 for edge in shape):
        raise InputError("hr_shape", f"must be three even numbers >= 16, got {tuple(shape)!r}.")
    if not frames or len(set(frames)) < len(frames) or min(frames) < 1:
        raise InputError("frame_averages", f"must be different numbers >= 1, got {tuple(frames)!r}.")
    if not 0 <= shift < 10:
        raise InputError("misalignment_um", f"must be within [0, 10), got {shift!r}.")
    if settings["file_format"] not in FORMATS:
        raise InputError("file_format", f"must be {' or '.join(FORMATS)}, got {settings['file_format']!r}.")


def _lock(folder: Path, patient: str, wait: float) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(folder, f"cannot be written: {error.strerror}.") from error
    return FileLock(folder / f".{patient}.lock", timeout=wait)


def _write_case(folder: Path, case: MurineCase, settings: Mapping[str, Any], overwrite: bool) -> None:
    """One specimen, its truth last; what is there of the same study stays."""
    made = (read_json(folder / "truth.json") or {}).get("settings")
    if made == settings:
        return
    if made is not None and not overwrite:
        raise OutputError(folder, "is of another study; choose another folder, or say overwrite.")
    (folder / "truth.json").unlink(missing_ok=True)
    bone, hr = MurineBone(case.specimen), hr_acquisition()
    planes, rows, columns = settings["hr_shape"]
    field = [edge * hr.voxel_size_um for edge in (planes, rows, columns)]
    corner = field_corner_um(bone, field)
    scanner = MicroCTScanner(bone.density, corner_um=corner, field_um=field)
    acquisitions = {"hr": hr} | {f"lr_{n}": lr_acquisition(n, case.lr_offset_um) for n in settings["frame_averages"]}
    with ExitStack() as files:
        writers = [
            files.enter_context(_image_writer(folder / name, settings["file_format"], scanner.shape(how), how))
            for name, how in acquisitions.items()
        ]
        for index, _, plane in scanner.planes(list(acquisitions.values()), seed=case.specimen.seed):
            writers[index].write(plane)
    grid = ScanGrid((planes, rows, columns), hr.voxel_size_um, np.eye(3) * hr.voxel_size_um,
                    np.array(corner) + hr.voxel_size_um / 2)  # fmt: skip
    counts = _write_truth_masks(folder, bone, grid)
    space = counts[TRABECULAR] + counts[MARROW]
    truth = {
        "patient": case.patient,
        "bv_tv": round(counts[TRABECULAR] / space, 6) if space else None,
        "drawn_tb_th_um": round(case.specimen.tb_th_um, 3),
        "drawn_tb_sp_um": round(case.specimen.tb_sp_um, 3),
        "specimen": asdict(case.specimen),
        "field_corner_um": list(corner),
        "lr_offset_um": list(case.lr_offset_um),
        "settings": dict(settings),
    }
    write_json(folder / "truth.json", truth)


def _image_writer(
    path: Path, file_format: FileFormat, shape: tuple[int, int, int], how: MicroCTAcquisition
) -> StackWriter:
    size, path = (how.voxel_size_um,) * 3, path.with_name(path.name + _SUFFIX[file_format])
    if file_format == "aim":
        log = {"Energy [V]": 70000, "Intensity [uA]": 200, "No. projections per 180": how.projections,
               "Frame averages": how.frames}  # fmt: skip
        return AimWriter(path, shape=shape, voxel_size_um=size, log=log, overwrite=True)
    affine = scaling_affine_lps(size, [how.voxel_size_um / 2000] * 3)
    return NiftiWriter(path, shape=shape, dtype=np.float32, voxel_size_um=size, affine_lps=affine, overwrite=True)


def _write_truth_masks(folder: Path, bone: MurineBone, grid: ScanGrid) -> list[int]:
    """Bone, tissues and trabecular compartment as built, a few planes at a time; return the voxels of each tissue."""
    size, counts = (grid.voxel_size_um,) * 3, np.zeros(5, dtype=np.int64)
    affine = scaling_affine_lps(size, [grid.voxel_size_um / 2000] * 3)
    options: dict[str, Any] = {"shape": grid.shape, "dtype": np.uint8, "voxel_size_um": size, "affine_lps": affine}
    with (
        NiftiWriter(folder / "mask.nii", overwrite=True, **options) as mask,
        NiftiWriter(folder / "tissue.nii", overwrite=True, **options) as tissues,
        NiftiWriter(folder / "tv.nii", overwrite=True, **options) as compartment,
    ):
        for start in range(0, grid.shape[0], _SLAB):
            shape = (min(_SLAB, grid.shape[0] - start), *grid.shape[1:])
            tissue = bone.tissue(grid._replace(shape=shape, offset=grid.offset + grid.matrix[:, 0] * start))
            counts += np.bincount(tissue.ravel(), minlength=5)
            mask.write(np.isin(tissue, (CORTICAL, TRABECULAR)).astype(np.uint8))
            tissues.write(tissue)
            compartment.write(np.isin(tissue, (TRABECULAR, MARROW)).astype(np.uint8))
    return [int(count) for count in counts]


def _row(case: MurineCase, frames: int, settings: Mapping[str, Any]) -> dict[str, str]:
    suffix, site = _SUFFIX[settings["file_format"]], case.specimen.site
    return {
        "patient": case.patient,
        "image": f"{case.patient}/hr{suffix}",
        "lr": f"{case.patient}/lr_{frames}{suffix}",
        "lr_frames": str(frames),
        "mask": f"{case.patient}/mask.nii",
        "tissue": f"{case.patient}/tissue.nii",
        "tv": f"{case.patient}/tv.nii",
        "site": site,
        "split": "",
        "units": UNITS,
        "voxel_size_um": f"{hr_acquisition().voxel_size_um:g}",
        "lr_voxel_size_um": f"{lr_acquisition().voxel_size_um:g}",
    }


def _data_card(settings: Mapping[str, Any]) -> dict[str, Any]:
    acquisitions = {"hr": hr_acquisition()} | {f"lr_{n}": lr_acquisition(n) for n in settings["frame_averages"]}
    return {
        "name": "bonemonai murine phantom",
        "kind": "synthetic",
        "source": f"bonemonai.phantoms.write_murine_study, version {bonemonai.__version__}",
        "doi": None,
        "licence": "Apache-2.0",
        "modality": "microCT",
        "drawn": "distal femur and lumbar vertebra: shell with canals, rods and plates; blur, voxels, correlated noise",
        "limits": "no measured anatomy, no growth plates; no beam hardening, rings, scatter or streaks; noise is the "
        "same all over a scan and independent from plane to plane",
        "shape": list(settings["hr_shape"]),
        "seed": settings["seed"],
        "voxel_size_um": [hr_acquisition().voxel_size_um] * 3,
        "units": UNITS,
        "acquisitions": {
            name: {
                "voxel_size_um": how.voxel_size_um,
                "psf_sigma_um": how.psf_sigma_um,
                "projections": how.projections,
                "frames": how.frames,
                "noise_mg_ha_cm3": round(how.noise_mg_ha_cm3, 3),
            }
            for name, how in acquisitions.items()
        },
        "specimens": dict.fromkeys(SITES, settings["specimens_per_site"]),
        "tissues": {"0": "outside", "1": "shell", "2": "trabecula", "3": "marrow", "4": "canal"},
        "settings": dict(settings),
    }
