from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from ignite.engine import Engine

from bonemonai.analysis.quality_table import QUALITY_FILES, QualityTable
from bonemonai.errors import InputError, OutputError


def batches(count: int = 4) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    high = torch.rand(2 * count, 1, 16, 16, generator=generator)
    low = high + 0.2 * torch.randn(high.shape, generator=generator)
    return [
        {"image": low[2 * n : 2 * n + 2], "high": high[2 * n : 2 * n + 2], "plane": torch.tensor([n, n]),
         "specimen": ["s0", "s1"], "blurred": low[2 * n : 2 * n + 2] * 0 + low.mean()}
        for n in range(count)
    ]  # fmt: skip


def evaluate(path: Path, share: float = 0.5, **options: Any) -> None:
    """A network that takes away so much of the noise."""

    def step(engine: Engine, batch: dict[str, Any]) -> dict[str, Any]:
        return {"pred": (1 - share) * batch["image"] + share * batch["high"]}

    engine = Engine(step)
    QualityTable(path, {"model": "unet"}, restore=lambda value: value, **options).attach(engine)
    engine.run(batches())


def test_each_plane_and_specimen_before_and_after(tmp_path: Path) -> None:
    evaluate(tmp_path)
    planes = pd.read_csv(tmp_path / "planes.csv")
    assert len(planes) == 2 * 4 * 2
    assert sorted(planes["plane"].unique()) == [0, 1, 2, 3]
    specimens = pd.read_csv(tmp_path / "specimens.csv").set_index(["specimen", "method"])
    # half the noise is 6 dB
    for specimen in ("s0", "s1"):
        gain = specimens.loc[(specimen, "dl"), "psnr_db"] - specimens.loc[(specimen, "lr"), "psnr_db"]
        assert gain == pytest.approx(6.02, abs=0.01)
        assert specimens.loc[(specimen, "dl"), "planes"] == 4
    comparison = pd.read_csv(tmp_path / "comparison.csv").set_index("metric")
    assert comparison.loc["ssim", "difference"] > 0
    assert comparison.loc["psnr_db", ["first", "second"]].tolist() == ["lr", "dl"]
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["model"] == "unet"
    assert record["scored"] == {"specimens": 2, "planes": 8}


def test_further_methods_stand_beside(tmp_path: Path) -> None:
    evaluate(tmp_path, further=["blurred"])
    comparison = pd.read_csv(tmp_path / "comparison.csv")
    assert comparison["first"].tolist() == ["lr", "lr", "blurred", "blurred"]


def test_earlier_results_are_kept_unless_told(tmp_path: Path) -> None:
    evaluate(tmp_path)
    with pytest.raises(OutputError, match="exists already"):
        evaluate(tmp_path)
    (tmp_path / "agreement.csv").write_text("of another network")
    evaluate(tmp_path, share=0.0, overwrite=True)
    assert pd.read_csv(tmp_path / "comparison.csv")["difference"].abs().max() < 1e-6
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(QUALITY_FILES)


def test_nothing_is_no_result(tmp_path: Path) -> None:
    table = QualityTable(tmp_path, {})
    with pytest.raises(InputError, match="no plane went through"):
        table._write(None)
