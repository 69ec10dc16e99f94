"""Folders as evaluations of paper 4's models leave them, for tests of its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis import SCREENING_CLASSES, one_vs_rest_table
from bonemonai.losses.multitask_loss import TASKS
from tests.report.screening_runs import write_run

CASES = 12


def write_multitask_run(folder: Path, model: str = "joint", *, extras: bool = True, **options: Any) -> Path:
    """An evaluation, and with ``extras`` the files that paper 3 has not; one network, so no card of a segmentation."""
    write_run(folder, model, **options)
    record = pd.read_json(folder / "results.json", typ="series").drop("segmentation")
    record.to_json(folder / "results.json", indent=2)
    if extras:
        counts = pd.read_csv(folder / "confusion_subject.csv", index_col="diagnosis")
        one_vs_rest_table(counts).to_csv(folder / "one_vs_rest.csv", index=False, float_format="%.6g")
        precision().to_csv(folder / "average_precision.csv", index=False, float_format="%.6g")
        boundary().to_csv(folder / "boundary_scores.csv", index=False, float_format="%.6g")
        np.savez_compressed(folder / "gradcam_examples.npz", **examples())
    return folder


def precision() -> pd.DataFrame:
    values = {"L1": (0.99, 0.8), "L2": (0.97, 0.7), "all": (0.98, 0.75), "vertebra": (0.985, 0.76)}
    rows = [
        (name, iou, value, 21 if name.startswith("L") else 42, 22 if name.startswith("L") else 45)
        for name, pair in values.items()
        for iou, value in zip(("0.50", "0.50:0.95"), pair, strict=True)
    ]
    return pd.DataFrame(rows, columns=["class", "iou", "average_precision", "boxes", "found"])


def boundary() -> pd.DataFrame:
    rows = [("hd95_mm", 1.234, 0.5, 1.1), ("mean_surface_distance_mm", 0.432, 0.2, 0.4)]
    table = pd.DataFrame(rows, columns=["metric", "mean_mm", "sd_mm", "median_mm"])
    return table.assign(slices=40, empty_truth=0, empty_prediction=2, empty_both=0)


def examples(number: int = CASES) -> dict[str, np.ndarray]:
    """Every fourth case is decided wrongly; the first has no map."""
    random = np.random.default_rng(4)
    grid = np.stack(np.mgrid[:32, :32])
    image = np.clip(0.5 + 0.1 * random.normal(size=(number, 2, 32, 32)), 0, 1).astype(np.float16)
    centre = random.uniform(8, 24, (number, 2, 2))
    heat = np.exp(-np.square(grid - centre[..., None, None]).sum(2) / 60)
    heat /= heat.max(axis=(2, 3), keepdims=True)
    heat[:1] = 0
    names = np.array(SCREENING_CLASSES)
    diagnosis = names[np.arange(number) % 3]
    right = np.arange(number) % 4 != 3
    decision = np.where(right, diagnosis, names[(np.arange(number) + 1) % 3])
    subject = np.array([f"subject_{index:02d}" for index in range(number)], dtype=str)
    found = {"image": image, "map": heat.astype(np.float16), "diagnosis": diagnosis, "decision": decision}
    return {**found, "subject": subject, "right": right}


def curve(epochs: int = 12) -> pd.DataFrame:
    """A training of all six tasks, validated every second epoch."""
    epoch = np.arange(1, epochs + 1)
    table = {"epoch": epoch, "loss": 3 * np.exp(-epoch / 5) - 0.5}
    for number, task in enumerate(TASKS):
        table[f"loss_{task}"] = (number + 1) * np.exp(-epoch / (4 + number))
        table[f"weight_{task}"] = 0.5 + 0.1 * number + epoch / 40
    for number, metric in enumerate(("score", "accuracy", "probability", "dice", "found")):
        table[metric] = np.where(epoch % 2 == 0, 0.3 + 0.05 * number + epoch / 30, np.nan)
    return pd.DataFrame(table)
