"""Folders as the evaluation of paper 5 leaves them, with numbers that tests choose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis.image_quality import compare_methods, specimen_quality
from bonemonai.analysis.method_morphometry import METHODS, QUANTITIES
from bonemonai.analysis.morphometry_agreement import REFERENCE, morphometry_agreement

SPECIMENS = [f"subject_{number:02d} femur 1 frame" for number in range(4)]
# what each method adds to the fine scan's value, as a share of it: the mean over specimens, and their spread
GOOD = {"lr": (0.2, 0.1), "bicubic": (0.1, 0.05), "dl": (0.01, 0.01)}
MISLEADING = {**GOOD, "dl": (-0.3, 0.1)}
LOST = {"lr": 0.3, "bicubic": 0.2, "dl": 0.1}


def write_evaluation(
    folder: Path,
    errors: dict[str, tuple[float, float]] | None = None,
    *,
    bone: bool = True,
    lost: dict[str, float] | None = None,
    count: int = 4,
    **record: Any,
) -> Path:
    """An evaluation of four specimens or fewer, of two planes each; the network's image is the best."""
    folder.mkdir(parents=True)
    names = SPECIMENS[:count]
    planes = pd.DataFrame(
        [{"specimen": name, "plane": plane, "method": method, "squared_error": error * (1 + 0.1 * number),
          "psnr_db": -10 * np.log10(error * (1 + 0.1 * number)), "ssim": 0.9 - 10 * error}
         for number, name in enumerate(names) for plane in (0, 1)
         for method, error in (("lr", 0.01), ("dl", 0.003), ("bicubic", 0.008))]
    )  # fmt: skip
    specimens = specimen_quality(planes)
    comparison = pd.concat([compare_methods(specimens, other, "dl").assign(first=other, second="dl")
                            for other in ("lr", "bicubic")])  # fmt: skip
    tables = {"planes": planes, "specimens": specimens, "comparison": comparison}
    if bone:
        rng, rows = np.random.default_rng(0), []
        for quantity, unit in QUANTITIES.items():
            for name in names:
                true = rng.uniform(0.2, 0.3)
                rows.append((name, REFERENCE, quantity, true, unit))
                rows += [(name, method, quantity, true * (1 + rng.normal(*(errors or GOOD)[method])), unit)
                         for method in METHODS]  # fmt: skip
        morphometry = pd.DataFrame(rows, columns=["specimen", "method", "quantity", "value", "unit"])
        tables |= {
            "morphometry": morphometry.assign(tissue="whole plane"),
            "agreement": morphometry_agreement(morphometry),
            "overlap": pd.DataFrame([{"specimen": name, "method": method, "dice": 0.9, "invented": 0.05, "lost": share}
                                     for name in names for method, share in (lost or LOST).items()]),
        }  # fmt: skip
        write_panels(folder / "panels.npz", names[:1])
    for name, table in tables.items():
        table.to_csv(folder / f"{name}.csv", index=False)
    trained = {"kind": "synthetic", "site": "femur", "frames": 1, "scans": ["0123456789abcdef"]}
    about = {"site": "femur", "frames": 1, "tested_on": "synthetic", "seed": 0,
             "weights": {"sha256": "ab" * 32, "trained_on": trained}, **record}  # fmt: skip
    (folder / "results.json").write_text(json.dumps(about))
    if bone:
        rule = {"bone": ">= 500 mg HA/cm3", "area": "whole"}
        (folder / "morphometry.json").write_text(json.dumps({"rule": rule, **about}))
    return folder


def write_panels(path: Path, names: list[str]) -> None:
    """One plane of each specimen: a bright square, which the network makes smaller."""
    arrays: dict[str, Any] = {"specimen": np.array(names), "plane": np.ones(len(names), int)}
    for index, _ in enumerate(names):
        for method in (REFERENCE, *METHODS):
            bone = np.zeros((40, 48), bool)
            bone[10:20, 10 : (28 if method == "dl" else 30)] = True
            arrays |= {f"{index}/{method}": bone.astype(np.float16), f"{index}/{method}/bone": bone}
    np.savez_compressed(path, **arrays)
