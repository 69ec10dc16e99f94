"""A whole phantom study on disk: TIFF stacks of several subjects, truth masks, a manifest and its data card."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.data.manifest import write_manifest
from bonemonai.data.splits import split_by_ratio
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.phantoms.srmct_lacunae import POPULATIONS, Diagnosis, SRMicroCTPhantom, population_of

_DTYPES = {"image": "float32", "lacunae": "uint8", "bone": "uint8"}


@dataclass(frozen=True)
class _Subject:
    patient: str
    diagnosis: Diagnosis
    phantom: SRMicroCTPhantom


def write_srmct_study(
    folder: str | Path,
    *,
    shape: tuple[int, int, int] = (48, 330, 330),
    patients_per_class: int = 3,
    labelled_per_class: int | None = None,
    seed: int = 0,
    voxel_size_um: float = 1.6,
    effect: float = 1.0,
    progress: bool = False,
) -> Path:
    """Write healthy and osteoporotic subjects and split them by patient.

    Each subject gets a folder with ``image`` (float32), ``lacunae`` and ``bone`` (uint8 truth) as TIFF stacks.
    Every third subject has the paper's erroneous grey range [-1, 0]. ``manifest.csv`` lists them with an
    80/10/10 split by patient, ``manifest.json`` is the data card. What is there already is replaced.

    Args:
        folder: where to write.
        shape: of each scan, (planes, rows, columns).
        patients_per_class: healthy, and as many osteoporotic.
        labelled_per_class: training patients of each class whose masks the manifest names as labels, for
            semi-supervision; None names all.
        seed: of the first subject; the others count on from it. Also of the split.
        voxel_size_um: edge length of a voxel.
        effect: by how much more than in the literature the diagnoses differ, see
            :func:`bonemonai.phantoms.population_of`.
        progress: show a bar on standard error.

    Returns:
        The path of the manifest.

    Raises:
        OutputError: if the folder cannot be written to.
    """
    folder = Path(folder)
    subjects = _subjects(shape, patients_per_class, seed, voxel_size_um, effect)
    rows = []
    with tqdm(total=shape[0] * len(subjects), desc="phantom planes", disable=not progress) as bar:
        for subject in subjects:
            _write_subject(folder / subject.patient, subject.phantom, bar)
            rows.append(
                {
                    "patient": subject.patient,
                    "image": f"{subject.patient}/image",
                    "label": f"{subject.patient}/lacunae",
                    "mask": f"{subject.patient}/bone",
                    "diagnosis": subject.diagnosis,
                    "site": "phantom",
                    "voxel_size_um": f"{voxel_size_um:g}",
                    "grey_range": subject.phantom.grey_range,
                }
            )
    manifest = split_by_ratio(pd.DataFrame(rows), seed=seed, stratify="diagnosis")
    if labelled_per_class is not None:
        train = manifest[manifest["split"] == "train"]
        beyond = train.index[train.groupby("diagnosis").cumcount() >= labelled_per_class]
        manifest.loc[beyond, "label"] = ""
    write_manifest(manifest, folder / "manifest.csv")
    with atomic_path(folder / "manifest.json") as partial:
        partial.write_text(json.dumps(_data_card(shape, seed, voxel_size_um, effect), indent=2) + "\n")
    return folder / "manifest.csv"


def _subjects(
    shape: tuple[int, int, int], patients_per_class: int, seed: int, voxel_size_um: float, effect: float
) -> list[_Subject]:
    subjects = []
    for index in range(2 * patients_per_class):
        diagnosis: Diagnosis = "healthy" if index % 2 == 0 else "osteoporotic"
        name = f"{'H' if diagnosis == 'healthy' else 'O'}{index // 2 + 1:02d}"
        phantom = SRMicroCTPhantom(
            shape,
            seed + index,
            diagnosis,
            grey_range="negative" if index % 3 == 1 else "positive",
            voxel_size_um=voxel_size_um,
            effect=effect,
        )
        subjects.append(_Subject(name, diagnosis, phantom))
    return subjects


def _write_subject(folder: Path, phantom: SRMicroCTPhantom, bar: tqdm[Any]) -> None:
    size = (phantom.voxel_size_um,) * 3
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(
                TiffStackWriter(folder / name, shape=phantom.shape, dtype=dtype, voxel_size_um=size, overwrite=True)
            )
            for name, dtype in _DTYPES.items()
        }
        for _, block in phantom.blocks():
            for name, writer in writers.items():
                writer.write(getattr(block, name))
            bar.update(len(block.image))


def _data_card(shape: tuple[int, int, int], seed: int, voxel_size_um: float, effect: float) -> dict[str, object]:
    return {
        "name": "bonemonai SR-microCT lacuna phantom",
        "kind": "synthetic",
        "source": f"bonemonai.phantoms.write_srmct_study, version {bonemonai.__version__}",
        "doi": None,
        "licence": "Apache-2.0",
        "shape": list(shape),
        "seed": seed,
        "voxel_size_um": [voxel_size_um] * 3,
        "units": "raw (arbitrary grey values)",
        "classes": {name: population_of(name, effect)._asdict() for name in POPULATIONS},
        **({"effect": effect} if effect != 1 else {}),
    }
