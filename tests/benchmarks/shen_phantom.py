"""Paper 2 on phantoms: twenty folds a bone, detection limits, the ablation, a mixed deal, Grad-CAM, the report.

``python -m tests.benchmarks.shen_phantom OUT`` runs every step of the bundle by its own configs and prints what
bundles/bone_srmct_damage_classification/docs/README.md quotes. The same call goes on where it was stopped; given to
several processes, each takes other folds.
"""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd

from bonemonai.data.json_file import read_json
from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "bone_srmct_damage_classification" / "configs"
BONES = ("cortical", "trabecular")
SCALE = "preprocessing#transforms#0"


def step(*names: str, **options: Any) -> None:
    from monai.bundle import create_workflow

    start = time.perf_counter()
    files = [str(CONFIGS / f"{name}.json") for name in names]
    create_workflow(config_file=files, logging_file=False, **options).run()
    click.echo(f"{' '.join(names)}: {time.perf_counter() - start:.0f} s")


def prepare(folder: Path, bone: str, *, size: int, slices: int, states: int, seed: int) -> None:
    """Make the study and prepare it twice: as the paper does, and without matching and median."""
    from bonemonai.phantoms import write_compression_study

    raw = folder / "raw" / "manifest.csv"
    if not raw.exists():
        write_compression_study(raw.parent, bone=bone, samples=5, states=states, shape=(size,) * 3, seed=seed)
    common = {"manifest_path": str(raw), "crop_size": size, "slices_per_plane": slices, "registered": True}
    step("prepare", output_dir=str(folder / "prepared"), **common)
    step("prepare", "without_processing", output_dir=str(folder / "unprocessed"), **common)


def cross_validate(folder: Path, name: str, bone: str, manifest: str, **options: Any) -> None:
    out = folder / name
    path = str(folder / manifest / "slices.csv")
    step("cross_validate", bone=bone, scale="smoke", output_dir=str(out), manifest_path=path, **options)
    if not (out / "scores.csv").exists():
        return
    record = read_json(out / "results.json") or {}
    band = pd.read_csv(out / "detection_band.csv").set_index("load_state")
    click.echo(f"\n{bone} {name}: best {record['best_fold']}")
    click.echo(pd.read_csv(out / "scores.csv").round(3).to_string(index=False))
    click.echo(f"overall accuracy by state, over folds:\n{band.round(3).T.to_string()}\n")


def one_number(folder: Path, bone: str, folds: int) -> None:
    """What the mean grey value of a slice tells, as the network gets it: a threshold chosen on the training samples."""
    from bonemonai.data import SliceDataset, manifest_items, read_damage_fold
    from bonemonai.transforms import SaturateIntensityd

    path = folder / "prepared" / "slices.csv"
    scale = SaturateIntensityd("image", 0.5, 99.5)
    rows = [row for row in manifest_items(read_damage_fold(path, 0)) if row["label"]]
    items = SliceDataset(rows, transform=lambda item: {"mean": float(scale(item)["image"].mean())}, progress=False)
    means = {(row["image"], row["plane"], row["index"]): items[k]["mean"] for k, row in enumerate(rows)}
    found = []
    for fold in range(folds):
        table = read_damage_fold(path, fold)
        table = table[table["label"] != ""]
        grey = np.array([means[key] for key in zip(table["image"], table["plane"], table["index"], strict=True)])
        failed, train = (table["label"] == "failed").to_numpy(), (table["split"] == "train").to_numpy()
        test = (table["split"] == "test").to_numpy()
        # below or above the threshold, whichever is right more often
        right = {(cut, sign): ((sign * grey[train] > sign * cut) == failed[train]).mean()
                 for cut in np.quantile(grey[train], np.linspace(0, 1, 101)) for sign in (-1, 1)}  # fmt: skip
        cut, sign = max(right, key=lambda pair: right[pair])
        found.append(((sign * grey[test] > sign * cut) == failed[test]).mean())
    click.echo(
        f"{bone}: mean grey value alone: accuracy {np.mean(found):.3f}, SD {np.std(found, ddof=1):.3f}, {folds} folds"
    )


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--size", default=112, show_default=True, help="Edge of a scan, voxels.")
@click.option("--image-size", default=96, show_default=True, help="Of a slice as the network gets it, pixels.")
@click.option("--slices", default=56, show_default=True, help="A plane and scan.")
@click.option("--states", default=8, show_default=True, help="Loading states.")
@click.option("--epochs", default=8, show_default=True)
@click.option("--learning-rate", default=3e-4, show_default=True)
@click.option("--batch-size", default=20, show_default=True)
@click.option("--layers", default=4, show_default=True)
@click.option("--kernel-size", default=5, show_default=True)
@click.option("--shear", default=0.2, show_default=True)
@click.option("--folds", default=20, show_default=True)
@click.option("--side-folds", default=2, show_default=True, help="Of the ablation and of the mixed deal.")
@click.option("--seed", default=0, show_default=True)
@click.option("--bones", default=",".join(BONES), show_default=True)
def main(
    out: Path, size: int, slices: int, states: int, folds: int, side_folds: int, seed: int, bones: str, epochs: int,
    **options: Any,
) -> None:  # fmt: skip
    warnings.filterwarnings("ignore", category=UserWarning)
    from bonemonai.inferers import tune_allocator

    tune_allocator()
    training = {**options, "max_epochs": epochs}
    side = {"folds": list(range(side_folds)), "seed": seed}
    results, gradcam = {}, {}
    for bone in bones.split(","):
        folder = out.resolve() / bone
        prepare(folder, bone, size=size, slices=slices, states=states, seed=seed)
        cross_validate(folder, "cnn", bone, "prepared", folds=list(range(folds)), options=training, seed=seed)
        one_number(folder, bone, folds)
        # nothing is to be seen at state 2: what is told apart then is not damage. Scaled from the least to the largest
        # value, as scans are that nobody has looked at: percentiles clip impulse noise, and hide it from the network
        early = {**training, "failed_state": 2, f"{SCALE}#lower": 0, f"{SCALE}#upper": 100}
        for name in ("prepared", "unprocessed"):
            cross_validate(folder, f"state_2_{name}", bone, name, options=early, **side)
        cross_validate(folder, "mixed", bone, "prepared", deal="random", allow_leakage=True, options=training, **side)
        best = (read_json(folder / "cnn" / "results.json") or {}).get("best_fold")
        if best and not (folder / "gradcam" / "gradcam.csv").exists():
            overlay = ["trabecular"] if bone == "trabecular" else []
            step("train", *overlay, "smoke", "gradcam", manifest_path=str(folder / "prepared" / "slices.csv"), every=4,
                 fold=int(best.removeprefix("fold_")), checkpoint=str(folder / "cnn" / best / "model.pt"),
                 output_dir=str(folder / "gradcam"), **options)  # fmt: skip
        results |= {f"{bone}/cnn": str(folder / "cnn"), f"{bone}/cnn/mixed": str(folder / "mixed")}
        gradcam[f"{bone}/cnn"] = str(folder / "gradcam")
    step("report", results=results, gradcam=gradcam, output_dir=str(out.resolve() / "report"), overwrite=True)


if __name__ == "__main__":
    main()
