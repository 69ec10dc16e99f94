from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine

from bonemonai.analysis import read_predictions
from bonemonai.engines import PredictionTable

LOGITS = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))


def batch(first: int, last: int) -> dict[str, object]:
    numbers = list(range(first, last))
    return {
        "subject": [f"subject_{n:02d}" for n in numbers],
        "diagnosis": ["healthy" if n % 2 else "osteoporotic" for n in numbers],
        "plane": torch.tensor(numbers), "patch_row": [55 * n for n in numbers],
        "patch_column": torch.zeros(len(numbers), dtype=torch.int64),
    }  # fmt: skip


def test_a_row_a_patch_with_the_same_float32(tmp_path: Path) -> None:
    def step(engine: Engine, data: dict[str, object]) -> dict[str, object]:
        planes = data["plane"]
        return {"pred": LOGITS[planes]}  # type: ignore[index]

    engine = Engine(step)
    handler = PredictionTable(tmp_path / "out" / "predictions.csv", ["healthy", "osteoporotic"])
    handler.attach(engine)
    for _ in range(2):  # a second run starts anew
        engine.run([batch(0, 3), batch(3, 5)])
    table = read_predictions(tmp_path / "out" / "predictions.csv")
    assert table["plane"].tolist() == [0, 1, 2, 3, 4]
    assert table["row"].tolist() == [0, 55, 110, 165, 220]
    assert table["diagnosis"].tolist() == ["osteoporotic", "healthy"] * 2 + ["osteoporotic"]
    logits = table[["logit_healthy", "logit_osteoporotic"]].to_numpy(np.float32)
    np.testing.assert_array_equal(logits, LOGITS.numpy())
    assert len(handler.table) == 5
