"""Folders as screenings of paper 3 with known truth leave them, for tests of scores and of the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bonemonai.analysis import SCREENING_CLASSES, write_screening_scores

PHANTOM = {"data": "bonemonai lumbar CT phantom", "kind": "synthetic"}
CARD: dict[str, Any] = {"sha256": "ab" * 32, "trained_on": PHANTOM}


def predict(
    seed: int = 0, *, per_class: int = 7, slices: int = 4, copies: int = 0, masks: bool = True, skill: float = 1.2
) -> pd.DataFrame:
    """Slices of subjects of each class; the second slice of the first subject is refused."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(3 * per_class):
        lean = random.normal(skill * (number % 3 - 1), 0.7)
        for index in range(slices):
            for copy in range(copies + 1):
                refused = number == 0 and index == 1
                grade = lean + random.normal(0, 0.3)
                logits = {
                    name: np.nan if refused else -2.0 * (grade - centre) ** 2
                    for name, centre in zip(SCREENING_CLASSES, (-1.2, 0, 1.2), strict=True)
                }
                counts = dict(zip(("tp", "fp", "fn"), random.integers([900, 0, 0], [1000, 60, 60]), strict=True))
                counts |= {"tp": 0, "fp": 0, "fn": 950} if refused else {}
                rows.append(
                    {
                        "subject": f"subject_{number:02d}", "scan": f"scan_{number:04d}",
                        "diagnosis": SCREENING_CLASSES[number % 3], "plane": 10 + index, "copy": copy, "pixels": 950,
                        "area_mm2": 950.0, "components": 1, "at_border": False,
                        "refusal": "no vertebra was marked" if refused else "", **(counts if masks else {}),
                        "level": f"L{1 + index % 5}", **{f"logit_{name}": value for name, value in logits.items()},
                        **{f"probability_{name}": value for name, value in logits.items()},
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def write_run(
    folder: Path, model: str = "bcc_net", *, temperature: float = 1.0, tested: str = "synthetic", seed: int = 0,
    weights: dict[str, Any] | None = None, segmentation: dict[str, Any] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """A screening of a model, scored."""
    folder.mkdir(parents=True)
    predict(seed, **options).to_csv(folder / "predictions.csv", index=False)
    about = {
        "weights": CARD if weights is None else weights, "tested_on": tested, "seed": 5,
        "segmentation": {**CARD, "sha256": "cd" * 32} if segmentation is None else segmentation,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps({"note": "Research software.", **about}))
    write_screening_scores(folder, model=model, about=about, temperature=temperature)
    return folder
