"""Paper 4 on phantoms: the whole model, all switches off, and no boundary branch, over several seeds; real scans.

``python -m tests.benchmarks.zhang_phantom OUT`` runs every step of the bundle by its own configs and prints what
bundles/lumbar_ct_osteoporosis_multitask/docs/README.md quotes. The same call goes on where it was stopped; several
processes share the runs.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import click
import nibabel
import numpy as np
import pandas as pd
from filelock import FileLock, Timeout

from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "lumbar_ct_osteoporosis_multitask" / "configs"
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "none": {"local_fusion": False, "gates": False, "feature_fusion": False},
    "no_boundary": {"boundary": False},
}


def step(*names: str, **options: Any) -> None:
    from monai.bundle import create_workflow

    start = time.perf_counter()
    files = [str(CONFIGS / f"{name}.json") for name in names]
    create_workflow(config_file=files, logging_file=False, **options).run()
    click.echo(f"{' '.join(names)}: {time.perf_counter() - start:.0f} s")


def one_run(folder: Path, manifest: Path, seed: int, variant: str, options: dict[str, Any]) -> None:
    """Train, and screen the test subjects: slices from the masks, and from the locator along the axis."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = str(folder / "model.pt")
    if not (folder / "trained").exists():
        own = {**VARIANTS[variant], **options}
        step("train", "smoke", manifest_path=str(manifest), seed=seed, checkpoint=weights, overwrite=True, **own)
        (folder / "trained").touch()
    common: dict[str, Any] = {"dataset_dir": str(manifest), "checkpoint": weights, "seed": seed, "overwrite": True}
    if not (folder / "eval" / "average_precision.csv").exists():
        step("inference", "evaluate", "calibrate", **common)
        step("inference", "evaluate", "gradcam", output_dir=str(folder / "eval"), tables_only=True, **common)
    if variant == "full" and not (folder / "axis" / "average_precision.csv").exists():
        axis = {"output_dir": str(folder / "axis"), "tables_only": True, "choose": False}
        step("inference", "evaluate", **axis, **common)
        refined = {"output_dir": str(folder / "refined"), "tables_only": True, "refine": True}
        step("inference", "evaluate", **refined, **common)


def shown(folder: Path, name: str) -> None:
    """What the docs quote of an evaluation."""
    if not (folder / "overlap_scores.csv").exists():
        return
    parts = []
    if (folder / "scores.csv").exists():
        scores = pd.read_csv(folder / "scores.csv")
        own = scores[(scores["level"] == "subject") & (scores["class"] == "all")]
        parts += [f"{row.metric} {row.value:.3f} ({row.low:.3f} to {row.high:.3f})" for row in own.itertuples()]
    overlaps = pd.read_csv(folder / "overlap_scores.csv")
    of_slices = overlaps[overlaps["level"] == "slice"].set_index("metric")["value"]
    parts += [f"Dice {of_slices['dice_index']:.3f}", f"IoU {of_slices['iou']:.3f}"]
    distance = pd.read_csv(folder / "boundary_scores.csv").set_index("metric").loc["hd95_mm"]
    parts.append(f"HD95 {distance['mean_mm']:.2f} (median {distance['median_mm']:.2f}) mm of {distance['slices']:.0f}")
    precision = pd.read_csv(folder / "average_precision.csv", dtype={"iou": str})
    for row in precision[precision["class"].isin(["all", "vertebra"])].itertuples():
        parts.append(f"AP {row[1]} {row.iou} {row.average_precision:.3f}")
    predictions = pd.read_csv(folder / "predictions.csv")
    missed = predictions["refusal"].notna().sum()
    parts.append(f"missed {missed} of {len(predictions)}")
    click.echo(f"{name}: {', '.join(parts)}")


def slices_along_the_axis(folder: Path, manifest: Path, name: str) -> None:
    """How far the slices that the locator chose lie from the middles of the vertebrae."""
    from bonemonai.data import lumbar_pairs, read_lumbar_manifest
    from bonemonai.data.lumbar_slices import open_axial

    if not (folder / "predictions.csv").exists():
        return
    table = pd.read_csv(folder / "predictions.csv")
    off, level_off = [], 0
    for row in lumbar_pairs(read_lumbar_manifest(manifest), "test"):
        own = table[table["subject"] == row["subject"]].set_index("level")["plane"]
        interval = open_axial(row["image"]).slice_interval_mm or 0.0
        for level, plane in zip(("L1", "L2"), row["planes"], strict=True):
            if own[level] >= 0:
                off.append(abs(own[level] - plane) * interval)
                level_off += off[-1] > 20
    values = np.array(off)
    click.echo(
        f"{name}, slices along the axis: {len(values)} chosen, {(values <= 6).sum()} within 6 mm of the middle, "
        f"median {np.median(values):.1f} mm, {level_off} at another vertebra (more than 20 mm off)"
    )


def relabelled(mask: Path, target: Path, values: dict[int, int]) -> None:
    """Copy a mask with other values; what is not named becomes background."""
    image = nibabel.load(mask)
    data = np.asarray(image.dataobj)
    copy = np.zeros(data.shape, dtype=np.uint8)
    for value, new in values.items():
        copy[data == value] = new
    nibabel.save(nibabel.Nifti1Image(copy, image.affine, image.header), target)


def real_study(folder: Path, data: Path) -> tuple[Path, Path]:
    """Manifests of the real scans: two to tune on, one to test. No condition is known of any.

    Neither of the first two shows L1 and L2 whole: T11 and T12 of one, L2 and L3 of the other stand in for them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    siemens, tptbox = data / "ct-totalseg-siemens-dicom", data / "ct-tptbox-l3-subregions"
    verse = data / "ct-verse014-lumbar"
    copies = {
        "siemens": siemens / "dicom",
        "tptbox.nii.gz": tptbox / "sub-ct_label-22_ct.nii.gz",
        "verse.nii.gz": verse / "sub-verse014_ct.nii.gz",
        "verse_mask.nii.gz": verse / "sub-verse014_seg-vert_msk.nii.gz",
    }
    for name, source in copies.items():
        if not (folder / name).exists():
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    relabelled(siemens / "seg_dicom.nii.gz", folder / "siemens_mask.nii.gz", {33: 20, 32: 21})
    relabelled(tptbox / "sub-ct_seg-vert_label-22_msk.nii.gz", folder / "tptbox_mask.nii.gz", {21: 20, 22: 21})
    tune = pd.DataFrame([
        {"patient": "a", "image": "siemens", "mask": "siemens_mask.nii.gz", "units": "HU", "split": "train"},
        {"patient": "b", "image": "tptbox.nii.gz", "mask": "tptbox_mask.nii.gz", "units": "HU", "split": "val"},
    ])  # fmt: skip
    tune.to_csv(folder / "tune.csv", index=False)
    row = {"patient": "c", "image": "verse.nii.gz", "mask": "verse_mask.nii.gz", "units": "HU", "split": "test"}
    pd.DataFrame([row]).to_csv(folder / "test.csv", index=False)
    return folder / "tune.csv", folder / "test.csv"


def real_scans(folder: Path, weights: Path) -> None:
    """L1 and L2 of a real scan after training on phantoms, and after tuning on two other real scans."""
    data = os.environ.get("BONEMONAI_SAMPLE_DATA")
    if not data:
        click.echo("BONEMONAI_SAMPLE_DATA is not set: no real scans")
        return
    tune, test = real_study(folder, (ROOT / data).resolve())
    tuned = folder / "tuned.pt"
    if not tuned.exists():
        step("train", "smoke", "fine_tune", manifest_path=str(tune), initial=str(weights), checkpoint=str(tuned),
             allow_cut=True, slices_per_level=8, batch_size=4, max_epochs=40)  # fmt: skip
    for name, checkpoint in (("phantoms", weights), ("tuned", tuned)):
        out = folder / name
        step("inference", "evaluate", dataset_dir=str(test), checkpoint=str(checkpoint), output_dir=str(out),
             overwrite=True, score_threshold=0.1)  # fmt: skip
        shown(out, f"verse014, {name}")
        table = pd.read_csv(out / "predictions.csv")
        click.echo(table[["level", "plane", "box_score", "tp", "fp", "fn", "hd95_mm"]].to_string(index=False))


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--study", type=click.Path(path_type=Path), help="An existing study of the same settings.")
@click.option("--subjects", default=120, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--matrix", default=512, show_default=True)
@click.option("--epochs", default=None, type=int, help="In place of smoke.json's.")
@click.option("--only", default="", help="Runs by name, parted by commas, such as full_0,none_2; all by default.")
@click.option("--real/--no-real", default=True, show_default=True)
def main(
    out: Path, study: Path | None, subjects: int, seeds: int, matrix: int, epochs: int | None, only: str, real: bool
) -> None:
    """Run it."""
    from bonemonai.phantoms import write_lumbar_study

    warnings.simplefilter("ignore")
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    manifest = (study.resolve() if study else out / "study") / "manifest.csv"
    write_lumbar_study(manifest.parent, subjects=subjects, seed=0, matrix=matrix, levels=("L1", "L2", "L3"),
                       splits=(0.5, 0.1, 0.4))  # fmt: skip
    options = {} if epochs is None else {"max_epochs": epochs}
    runs = [(seed, variant) for variant in VARIANTS for seed in range(seeds)]
    runs = [run for run in runs if not only or f"{run[1]}_{run[0]}" in only.split(",")]
    for seed, variant in runs:
        try:
            with FileLock(out / f".{variant}_{seed}.lock", timeout=0):
                one_run(out / f"{variant}_{seed}", manifest, seed, variant, options)
        except Timeout:
            click.echo(f"{variant}, seed {seed}: another process is at it")
    for seed, variant in runs:
        shown(out / f"{variant}_{seed}" / "eval", f"{variant}, seed {seed}")
    for seed in range(seeds):
        shown(out / f"full_{seed}" / "axis", f"full, seed {seed}, along the axis")
        slices_along_the_axis(out / f"full_{seed}" / "axis", manifest, f"full, seed {seed}")
        shown(out / f"full_{seed}" / "refined", f"full, seed {seed}, refined by the level set")
    if real:
        with FileLock(out / ".real.lock"):
            real_scans(out / "real", out / "full_0" / "model.pt")
    if (out / "full_0" / "eval" / "scores.csv").exists():
        ablation = {key: str(out / f"{name}_0" / "eval") for key, name in (("LF+GC+FF", "full"), ("none", "none"))
                    if (out / f"{name}_0" / "eval" / "scores.csv").exists()}  # fmt: skip
        curves = {name: str(out / name / "model.curve.csv") for name in ("full_0", "none_0") if (out / name).exists()}
        step("report", results={"joint": str(out / "full_0" / "eval")}, ablation=ablation, curves=curves,
             output_dir=str(out / "report"), overwrite=True)  # fmt: skip


if __name__ == "__main__":
    main()
