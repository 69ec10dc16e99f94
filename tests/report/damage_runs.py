"""Folders as cross-validations of paper 2's models leave them, for tests of the report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis import pool_damage_folds, write_damage_results, write_sweep_table

TRAINED = {"data": "a phantom", "kind": "synthetic"}


def predict(subject: str, seed: int, *, states: int = 15, limit: float = 0.6, noise: float = 0.6) -> pd.DataFrame:
    """Slices of a subject at all states; damage shows from a share of the load on."""
    random = np.random.default_rng(seed)
    rows = [(subject, s, plane, i) for s in range(1, states + 1) for plane in ("XY", "XZ", "YZ") for i in range(20)]
    table = pd.DataFrame(rows, columns=["subject", "load_state", "plane", "index"])
    lean = np.tanh(14 * (table["load_state"] / states - limit)) + noise * random.normal(size=len(table))
    return table.assign(logit_pristine=-lean, logit_failed=lean)


def write_validation(
    folder: Path, model: str, *, count: int = 4, seed: int = 0, leakage: str = "",
    trained: Mapping[str, Any] | None = TRAINED, tested: str = "synthetic", **options: Any,
) -> Path:  # fmt: skip
    """A pooled cross-validation of so many folds, each of another test subject."""
    folders = []
    for number in range(count):
        place = folder / f"fold_{number:02d}"
        place.mkdir(parents=True)
        subject = f"subject_{number:02d}"
        predict(subject, seed + number, **options).to_csv(place / "predictions.csv", index=False, float_format="%.9g")
        split = {"test": [subject], "val": [f"subject_{(number + 1) % max(count, 2):02d}"]}
        split |= {"leakage": leakage} if leakage else {}
        about = {"weights": {"sha256": weights_of(place.name), "trained_on": trained}, "seed": 7, "tested_on": tested}
        write_damage_results(place, model=model, about=about, split=split)
        folders.append(place)
    pool_damage_folds(folder, folders, model=model)
    return folder


def weights_of(fold: str) -> str:
    """The sha256 that is said of a fold's weights."""
    return f"{int(fold.removeprefix('fold_')):064d}"


def best_fold(folder: Path) -> str:
    return str(json.loads((folder / "results.json").read_text())["best_fold"])


def write_gradcam(
    folder: Path, *, subject: str = "subject_00", states: int = 15, size: int = 64, weights: str | None = None
) -> Path:
    """One slice through all states; the crack opens from state 10 on, and the map of state 1 is empty."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    rows, columns = np.mgrid[:size, :size]
    bone = 0.7 - 0.3 * np.exp(-((rows - 20) ** 2 + (columns - 40) ** 2) / 60)
    images, maps, cracks, table = [], [], [], []
    for state in range(1, states + 1):
        crack = (np.abs(columns - size // 3 - rows // 8) < (state - 8) / 3) & (state >= 10)
        heat = np.exp(-((columns - size // 3 - rows // 8) ** 2) / 90) * (state > 1)
        images.append(np.clip(np.where(crack, 0.1, bone) + 0.03 * random.normal(size=bone.shape), 0, 1))
        maps.append(heat)
        cracks.append(crack)
        share = float(heat[crack].sum() / heat.sum()) if state > 1 else np.nan
        decision = "failed" if state > 9 else "pristine"
        table.append((subject, state, "XY", 150, decision, share, crack.mean(), 0.02, 0.04))
    names = [
        "subject",
        "load_state",
        "plane",
        "index",
        "decision",
        "crack_share",
        "crack_area",
        "ring_share",
        "ring_area",
    ]
    found = pd.DataFrame(table, columns=names)
    found.to_csv(folder / "gradcam.csv", index=False)
    labels = {name: found[name].to_numpy(str) for name in ("subject", "plane", "decision")}
    labels |= {name: found[name].to_numpy(np.int64) for name in ("load_state", "index")}
    arrays = {"image": np.float16(images), "map": np.float16(maps), "crack": np.array(cracks)}
    np.savez_compressed(folder / "gradcam_states.npz", **arrays, **labels)
    about = {} if weights is None else {"weights": {"sha256": weights}}
    (folder / "gradcam.json").write_text(json.dumps({"layer": "conv", **about}))
    return folder


def write_runs(folder: Path) -> dict[str, Any]:
    """Arguments of the report: both bones, a mixed deal, a sweep, Grad-CAM."""
    results = {
        "cortical/fine_tuning": write_validation(folder / "a", "fine_tuning", seed=10, states=20, noise=0.4),
        "cortical/cnn": write_validation(folder / "b", "cnn", seed=20, states=20),
        "trabecular/cnn": write_validation(folder / "c", "cnn", seed=30, noise=0.8),
        "cortical/cnn/mixed": write_validation(folder / "d", "cnn", seed=40, states=20, leakage="planes are dealt"),
    }
    settings = [
        {"parameter": name, "value": value, "baseline": value in (3, 1e-4), "folder": results[key]}
        for name, value, key in [
            ("layers", 4, "trabecular/cnn"), ("layers", 3, "cortical/cnn"), ("learning_rate", 1e-3, "trabecular/cnn"),
            ("learning_rate", 1e-4, "cortical/cnn"), ("learning_rate", 1e-5, "cortical/cnn/mixed"),
        ]
    ]  # fmt: skip
    write_sweep_table(folder / "sweep", settings)
    weights = weights_of(best_fold(results["cortical/cnn"]))
    gradcam = {"cortical/cnn": write_gradcam(folder / "gradcam", states=20, weights=weights)}
    return {"results": results, "sweep": {"cortical": folder / "sweep"}, "gradcam": gradcam}
