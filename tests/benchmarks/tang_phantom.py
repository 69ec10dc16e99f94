"""Paper 3 on phantoms: both networks over several seeds, a threshold of mean HU beside them, real scans, the report.

``python -m tests.benchmarks.tang_phantom OUT`` runs every step of the bundle by its own configs and prints what
bundles/lumbar_ct_osteoporosis_screening/docs/README.md quotes. The same call goes on where it was stopped.
"""

from __future__ import annotations

import os
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "lumbar_ct_osteoporosis_screening" / "configs"
SHOWN = ("accuracy", "auc")


def step(*names: str, **options: Any) -> None:
    from monai.bundle import create_workflow

    start = time.perf_counter()
    files = [str(CONFIGS / f"{name}.json") for name in names]
    create_workflow(config_file=files, logging_file=False, **options).run()
    click.echo(f"{' '.join(names)}: {time.perf_counter() - start:.0f} s")


def mean_hu(manifest: Path, output: Path) -> None:
    """Mean HU in the true bodies, 3 mm from their surface: two thresholds, chosen on the training subjects."""
    from bonemonai.analysis import measure_density
    from bonemonai.data import CONDITIONS, read_lumbar_manifest
    from bonemonai.data.lumbar_slices import open_axial

    if not output.exists():
        rows = []
        for row in read_lumbar_manifest(manifest).to_dict("records"):
            scan, mask = open_axial(row["image"]), open_axial(row["mask"])
            table = measure_density(scan.read(), mask.read(), scan.voxel_size_um or ()).set_index("vertebra")
            rows.append({"split": row["split"], "label": row["label"], "hu": table.loc["mean of bodies", "mean_hu"]})
        pd.DataFrame(rows).to_csv(output, index=False)
    table = pd.read_csv(output)
    truth = table["label"].map(list(CONDITIONS).index).to_numpy()
    hu, train, test = table["hu"].to_numpy(), table["split"] == "train", table["split"] == "test"
    cuts = np.quantile(hu[train], np.linspace(0, 1, 41))
    # denser bone is the first class
    right = {(low, high): float(((2 - (hu[train] > low) - (hu[train] > high)) == truth[train]).mean())
             for low in cuts for high in cuts if low <= high}  # fmt: skip
    low, high = max(right, key=lambda pair: right[pair])
    found = ((2 - (hu[test] > low) - (hu[test] > high)) == truth[test]).mean()
    click.echo(f"mean HU, thresholds {low:.0f} and {high:.0f}: train {right[low, high]:.3f}, test {found:.3f}")


def real_scans(folder: Path, weights: Path) -> None:
    """Marks on two real scans, whose masks are of whole vertebrae; no condition is known of either."""
    data = os.environ.get("BONEMONAI_SAMPLE_DATA")
    if not data:
        click.echo("BONEMONAI_SAMPLE_DATA is not set: no real scans")
        return
    root = (ROOT / data).resolve()
    scans = {
        "verse014": ("ct-verse014-lumbar/sub-verse014_ct.nii.gz", "ct-verse014-lumbar/sub-verse014_seg-vert_msk.nii.gz",
                     {"L1": 20, "L2": 21, "L3": 22, "L4": 23, "L5": 24}),
        "totalseg": ("ct-totalseg-siemens-dicom/dicom", "ct-totalseg-siemens-dicom/seg_dicom.nii.gz",
                     {"T11": 33, "T12": 32}),
    }  # fmt: skip
    for name, (image, mask, levels) in scans.items():
        out = folder / name
        out.mkdir(parents=True, exist_ok=True)
        manifest = out / "manifest.csv"
        copy = "image" + "".join(Path(image).suffixes)
        for there, target in ((copy, image), ("mask.nii.gz", mask)):
            if not (out / there).exists():
                (shutil.copytree if (root / target).is_dir() else shutil.copy)(root / target, out / there)
        row = {"patient": name, "image": copy, "mask": "mask.nii.gz", "units": "HU",
               "split": "test"}  # fmt: skip
        pd.DataFrame([row]).to_csv(manifest, index=False)
        options = {"dataset_dir": str(manifest), "levels": levels, "overwrite": True,
                   "output_dir": str(out / "eval"), "segmentation": str(weights / "segmentation.pt"),
                   "checkpoint": str(weights / "model.pt")}  # fmt: skip
        step("inference", "evaluate", **options)
        scores = pd.read_csv(out / "eval" / "overlap_scores.csv")
        click.echo(f"{name}: " + ", ".join(f"{r.level} {r.metric} {r.value:.3f}" for r in scores.itertuples()))


def one_seed(folder: Path, manifest: Path, seed: int, options: dict[str, dict[str, Any]]) -> None:
    weights = {"segmentation": folder / "segmentation.pt", "checkpoint": folder / "model.pt"}
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "trained"
    common = {"manifest_path": str(manifest), "seed": seed, "overwrite": True}
    if not done.exists():
        step(
            "train_segmentation", "smoke", checkpoint=str(weights["segmentation"]), **common, **options["segmentation"]
        )
        step("train_classification", "smoke_classification", checkpoint=str(weights["checkpoint"]), **common,
             **options["classification"])  # fmt: skip
        done.touch()
    screen = {"dataset_dir": str(manifest), **{key: str(path) for key, path in weights.items()}, **options["screening"]}
    step("inference", "evaluate", "calibrate", **screen)
    step("inference", "evaluate", output_dir=str(folder / "eval"), overwrite=True, **screen)
    scores = pd.read_csv(folder / "eval" / "scores.csv")
    for row in scores[scores["metric"].isin(SHOWN)].drop_duplicates(["level", "class", "metric"]).itertuples():
        click.echo(f"seed {seed} {row.level} {row[2]} {row.metric}: {row.value:.3f}")
    overlaps = pd.read_csv(folder / "eval" / "overlap_scores.csv")
    for row in overlaps.itertuples():
        click.echo(f"seed {seed} {row.level} {row.metric}: {row.value:.4f} ({row.low:.4f} to {row.high:.4f})")


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--subjects", default=120, show_default=True)
@click.option("--seeds", default=3, show_default=True)
@click.option("--study-seed", default=0, show_default=True)
@click.option("--matrix", default=512, show_default=True)
@click.option("--epochs", default=10, show_default=True, help="Of the segmentation.")
@click.option("--classification-epochs", default=24, show_default=True)
def main(
    out: Path, subjects: int, seeds: int, study_seed: int, matrix: int, epochs: int, classification_epochs: int
) -> None:
    """Run it."""
    from bonemonai.phantoms import write_lumbar_study

    warnings.simplefilter("ignore")
    out = out.resolve()
    manifest = out / "study" / "manifest.csv"
    if not manifest.exists():
        write_lumbar_study(manifest.parent, subjects=subjects, seed=study_seed, matrix=matrix,
                           levels=("L1", "L2", "L3"), splits=(0.5, 0.2, 0.3))  # fmt: skip
    mean_hu(manifest, out / "mean_hu.csv")
    options = {
        "segmentation": {"constant_epochs": epochs * 2 // 3, "decay_epochs": epochs - epochs * 2 // 3,
                         "slices_per_level": 2, "slices_between": 3},
        "classification": {"max_epochs": classification_epochs, "image_size": 512, "crop_size": 224},
        "screening": {},
    }  # fmt: skip
    for seed in range(seeds):
        one_seed(out / f"seed_{seed}", manifest, seed, options)
    real_scans(out / "real", out / "seed_0")
    if (out / "seed_0" / "eval").exists():
        step("report", results={"bcc_net": str(out / "seed_0" / "eval")}, output_dir=str(out / "report"),
             overwrite=True, readers=str(ROOT / "data_manifests" / "paper_tang_readers.csv"))  # fmt: skip


if __name__ == "__main__":
    main()
