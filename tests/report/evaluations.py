"""Folders as evaluations of paper 1's models leave them, for tests of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis import pool_folds, write_classification_results

CLASSES = ["healthy", "osteoporotic"]
TRAINED = {"data": "a phantom", "kind": "synthetic", "patients": {"train": 4, "test": 2}}


def predict(subjects: Sequence[int], seed: int) -> pd.DataFrame:
    """Patches of subjects, even ones healthy; right more often than not."""
    random = np.random.default_rng(seed)
    rows = [(f"subject_{n:02d}", CLASSES[n % 2], plane, 0, 0) for n in subjects for plane in range(10)]
    table = pd.DataFrame(rows, columns=["subject", "diagnosis", "plane", "row", "column"])
    right = np.where(table["diagnosis"] == "healthy", 0.5, -0.5)
    table["logit_healthy"] = right + random.normal(size=len(table))
    return table.assign(logit_osteoporotic=0.0)


def write_examples(folder: Path, predictions: pd.DataFrame, seed: int, *, image_seed: int = 0) -> None:
    """Two patches a subject, the same for each model unless the image's seed differs; the last map is empty."""
    chosen = predictions.groupby("subject", sort=False).head(2)
    random, of_map = np.random.default_rng([image_seed, len(chosen)]), np.random.default_rng(seed)
    grid = np.stack(np.mgrid[:55, :55])
    centres = random.uniform(8, 47, (len(chosen), 4, 2))
    mask = (np.square(grid - centres[..., None, None]).sum(2) < 16).any(1)
    image = np.clip(0.7 + 0.05 * random.normal(size=mask.shape) - 0.5 * mask, 0, 1).astype(np.float16)
    looks = of_map.uniform(10, 45, (len(chosen), 2))
    heat = np.exp(-np.square(grid - looks[..., None, None]).sum(1) / 150).astype(np.float16)
    heat[-1] = 0
    names = {key: chosen[key].to_numpy(str) for key in ("subject", "diagnosis")}
    decision = np.where(chosen["logit_healthy"] > 0, *CLASSES)
    np.savez_compressed(folder / "gradcam_examples.npz", image=image, mask=mask, map=heat, decision=decision, **names)


def write_evaluation(
    folder: Path,
    name: str,
    subjects: Sequence[int] = range(6),
    *,
    seed: int = 0,
    trained: Any = TRAINED,
    tested: str = "synthetic",
    image_seed: int = 0,
) -> Path:
    """What evaluate_classification.json leaves, and the learning curve that lies beside the weights."""
    folder.mkdir(parents=True)
    predictions = predict(subjects, seed)
    predictions.to_csv(folder / "predictions.csv", index=False)
    cam = predictions[["subject", "diagnosis", "plane", "row", "column"]].assign(decision="healthy", area=0.1)
    cam["share"] = np.where(np.arange(len(cam)) % 5 == 0, np.nan, 0.1 + 0.01 * seed)
    cam["share_features"] = cam["share"] / 2
    cam.to_csv(folder / "gradcam.csv", index=False)
    write_examples(folder, predictions, seed, image_seed=image_seed)
    epochs = np.arange(1, 21)
    curve = {"epoch": epochs, "loss": 0.7 * np.exp(-epochs / (10 + seed)), "patch_accuracy": 0.5 + epochs / (60 + seed)}
    pd.DataFrame(curve).to_csv(folder / "model.curve.csv", index=False)
    weights = {"sha256": f"{seed:064x}", "trained_on": trained, "calibration": {"temperature": 1.7}}
    about = {
        "bonemonai": "0.1.0",
        "configs": {"train.json": "ab" * 32},
        "seed": 5,
        "weights": weights,
        "tested_on": tested,
    }
    write_classification_results(folder, model=name, about=about)
    return folder


def write_cross_validation(folder: Path, name: str, *, seed: int = 0) -> Path:
    pairs = [(0, 1), (2, 3), (4, 5)]
    folds = [write_evaluation(folder / f"fold_{n:02d}", name, pair, seed=seed + n) for n, pair in enumerate(pairs)]
    pool_folds(folder, folds, model=name)
    return folder


def write_segmentation(folder: Path, lacunae: float, background: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(f"lacuna_dsc,{lacunae}\nbackground_dsc,{background}\n")
    return folder


def write_runs(root: Path) -> dict[str, dict[str, Path]]:
    """Segmentations, one of which found nothing to score, and cross-validations: option to model to folder."""
    return {
        "segmentation": {
            "unet-1": write_segmentation(root / "u1", 0.61234, 0.98765),
            "unet-2": write_segmentation(root / "u2", float("nan"), 0.9),
            "swin": write_segmentation(root / "swin", 0.5, 0.9),
        },
        "classification": {
            "vgg16": write_cross_validation(root / "vgg16", "vgg16", seed=3),
            "mga": write_cross_validation(root / "mga", "mga"),
        },
    }
