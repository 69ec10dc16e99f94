"""Paper 1 on phantoms, over seeds: U-Net-2 against U-Net-1, mask-guided attention against plain VGG16.

``python -m tests.benchmarks.poles_phantom OUT`` runs every step of the bundle by its own configs and prints what
bundles/femur_srmct_osteoporosis_mga/docs/README.md quotes. The same call goes on where it was stopped.
"""

from __future__ import annotations

import json
import time
import warnings
from pathlib import Path
from typing import Any

import click
import pandas as pd

from tests.conftest import ROOT

CONFIGS = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs"


def step(*names: str, **options: Any) -> float:
    from monai.bundle import create_workflow

    start = time.perf_counter()
    files = [str(CONFIGS / f"{name}.json") for name in names]
    create_workflow(config_file=files, logging_file=False, **options).run()
    return time.perf_counter() - start


def study(folder: Path, seed: int, effect: float) -> None:
    """Six patients; of the four to train on two are labelled, four slices each, as in the paper."""
    from bonemonai.phantoms import write_srmct_study

    if not (folder / "manifest.csv").exists():
        write_srmct_study(folder, labelled_per_class=1, seed=seed, effect=effect)
    for number, name in ((4, "few"), (20, "many")):
        if not (folder / f"{name}.csv").exists():
            step(
                "select_slices",
                manifest_path=str(folder / "manifest.csv"),
                number=number,
                output=str(folder / f"{name}.csv"),
            )


def segmentation(folder: Path, seed: int, epochs: int) -> list[dict[str, Any]]:
    """Train both networks, and U-Net-1 with as many steps as U-Net-2; score them on every plane of the test patient."""
    rows = []
    common = {"dataset_dir": str(folder), "seed": seed}
    # twice as many slices are twice as many steps an epoch: without the control, longer training passes for more data
    for name, manifest, times in (("1", "few.csv", 1), ("2", "few_pseudo.csv", 1), ("1_long", "few.csv", 2)):
        model, out = folder / f"unet_{name}.pt", folder / f"unet_{name}"
        if not (folder / manifest).exists():
            step(
                "inference", "pseudo_label", manifest_path=str(folder / "few.csv"), checkpoint=str(folder / "unet_1.pt")
            )
        seconds = None
        if not model.exists():
            seconds = step("train_segmentation", "smoke", manifest_path=str(folder / manifest), checkpoint=str(model),
                           max_epochs=times * epochs, plane_step=1, val_interval=5, **common)  # fmt: skip
        if not (out / "metrics.csv").exists():
            step("train_segmentation", "smoke", "evaluate", manifest_path=str(folder / "manifest.csv"),
                 checkpoint=str(model), output_dir=str(out), plane_step=1, **common)  # fmt: skip
        table = pd.read_csv(out / "metrics.csv", header=None)
        values = dict(zip(table.iloc[:, 0], table.iloc[:, 1], strict=True))
        rows.append({"seed": seed, "model": f"unet-{name}", "seconds": seconds, **values})
    return rows


def classification(
    folder: Path, seed: int, models: list[str], folds: list[int], options: dict[str, Any]
) -> list[dict[str, Any]]:
    """Cross-validate; folds 0, 4 and 8 test each of six patients once."""
    rows = []
    if not (folder / "many_masks.csv").exists():
        step("inference", "pseudo_label", "predict_masks", manifest_path=str(folder / "many.csv"),
             checkpoint=str(folder / "unet_2.pt"))  # fmt: skip
    for model in models:
        out = folder / f"classify_{model}"
        seconds = step("cross_validate", manifest_path=str(folder / "many_masks.csv"), model=model, folds=folds,
                       scale="smoke_classification", output_dir=str(out), options=options, seed=seed)  # fmt: skip
        scores = pd.read_csv(out / "scores.csv").set_index(["level", "metric"])["value"]
        gradcam = json.loads((out / "results.json").read_text())["gradcam"]
        rows.append({
            "seed": seed, "model": model, "seconds": seconds, "patch accuracy": scores["patch", "accuracy"],
            "patch f1": scores["patch", "f1"], "patient accuracy": scores["patient", "accuracy"],
            "share": gradcam["share"], "area": gradcam["area"], "enrichment": gradcam["enrichment"],
            "without map": gradcam["patches_without_map"],
        })  # fmt: skip
    return rows


@click.command()
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--seeds", default=3, show_default=True, help="Studies, each with a seed of its own.")
@click.option("--effect", default=6.0, show_default=True, help="Of the diagnosis; 1 is the literature's.")
@click.option("--segmentation-epochs", default=60, show_default=True)
@click.option("--epochs", default=40, show_default=True, help="Of the classifiers.")
@click.option("--models", default="vgg16,mga", show_default=True)
@click.option("--folds", default="0,4,8", show_default=True)
@click.option("--part", type=click.Choice(["segmentation", "all"]), default="all", show_default=True)
def main(
    out: Path, seeds: int, effect: float, segmentation_epochs: int, epochs: int, models: str, folds: str, part: str
) -> None:
    warnings.filterwarnings("ignore", category=UserWarning)
    from bonemonai.inferers import tune_allocator

    tune_allocator()
    segmented: list[dict[str, Any]] = []
    classified: list[dict[str, Any]] = []
    for seed in range(seeds):
        folder = out.resolve() / f"seed_{seed}"
        study(folder, 100 * seed, effect)
        segmented += segmentation(folder, seed, segmentation_epochs)
        if part == "all":
            classified += classification(
                folder, seed, models.split(","), [int(fold) for fold in folds.split(",")], {"max_epochs": epochs}
            )
    for name, rows in (("segmentation", segmented), ("classification", classified)):
        if rows:
            table = pd.DataFrame(rows)
            of = f"_{models.replace(',', '_')}" if name == "classification" else ""
            table.to_csv(out / f"{name}{of}.csv", index=False)
            print(f"\n{table.round(4).to_string(index=False)}")
            print(table.groupby("model").mean(numeric_only=True).drop(columns="seed").round(4).to_string())


if __name__ == "__main__":
    main()
