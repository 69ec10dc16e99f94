from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
from ignite.engine import Engine

from bonemonai.analysis import GradCAMExamples
from bonemonai.analysis.screening_scores import SCREENING_CLASSES


def found(subject: str, label: str, decided: str, *, missing: bool = False) -> Any:
    rows = []
    for plane in (7, 3):
        logits = {f"logit_{name}": 2.0 * (name == decided) for name in SCREENING_CLASSES}
        rows.append({"plane": plane, "refusal": "", **logits})
    if missing:
        rows[1] |= {"plane": -1, "refusal": "no slice of L2 was found"}
    planes = [7] if missing else [7, 3]
    return SimpleNamespace(
        scan=SimpleNamespace(subject=subject, label=label), table=pd.DataFrame(rows),
        crops={plane: np.full((4, 4), plane / 10, dtype=np.float32) for plane in planes},
        attention={plane: np.full((4, 4), plane * 1e-9, dtype=np.float32) for plane in planes},
    )  # fmt: skip


def run(path: Path, outputs: list[Any], **options: Any) -> None:
    engine = Engine(lambda engine, batch: batch)
    GradCAMExamples(path, **options).attach(engine)
    engine.run(outputs)


def test_cases_of_each_condition_right_and_wrong(tmp_path: Path) -> None:
    path = tmp_path / "gradcam_examples.npz"
    cases = [found(f"s{number}", "normal", "normal") for number in range(4)]
    cases += [found("s4", "normal", "osteoporosis"), found("s5", "osteoporosis", "osteoporosis", missing=True)]
    cases += [None, found("s6", "", "normal")]
    run(path, cases, most=2)
    stored = np.load(path, allow_pickle=False)
    assert stored["subject"].tolist() == ["s0", "s1", "s4", "s5"]
    assert stored["right"].tolist() == [True, True, False, True]
    assert stored["decision"].tolist() == ["normal", "normal", "osteoporosis", "osteoporosis"]
    assert stored["image"].shape == stored["map"].shape == (4, 2, 4, 4)
    # the larger of both maps has a maximum of 1, however small the gradients are
    np.testing.assert_allclose(stored["map"][0].max(axis=(1, 2)), [1, 3 / 7], rtol=1e-3)
    np.testing.assert_allclose(stored["image"][0].max(axis=(1, 2)), [0.7, 0.3], rtol=1e-3)
    assert not stored["image"][3, 1].any()
    assert not stored["map"][3, 1].any()


def test_without_cases_there_is_no_file(tmp_path: Path) -> None:
    path = tmp_path / "gradcam_examples.npz"
    path.write_bytes(b"of an earlier run")
    run(path, [None])
    assert not path.exists()
