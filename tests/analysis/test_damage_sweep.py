from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bonemonai.analysis import write_sweep_table
from bonemonai.errors import InputError


def pooled(folder: Path, mean: float, sd: float | None = 0.01) -> Path:
    folder.mkdir(parents=True)
    rows = [("accuracy_failed", 0.2, 0.3, 20), ("accuracy", mean, sd, 20)]
    pd.DataFrame(rows, columns=["metric", "mean", "sd", "folds"]).to_csv(folder / "scores.csv", index=False)
    return folder


def test_settings_become_rows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    base = pooled(tmp_path / "base", 0.9)
    settings: list[dict[str, Any]] = [
        {"parameter": "layers", "value": 3, "folder": base, "baseline": True},
        {"parameter": "layers", "value": 4, "folder": str(pooled(tmp_path / "four", 0.8, None))},
        {"parameter": "layers", "value": 5, "folder": tmp_path / "not yet"},
        {"parameter": "learning_rate", "value": 1e-4, "folder": base, "baseline": True},
    ]
    with caplog.at_level(logging.WARNING):
        table = write_sweep_table(tmp_path / "out", settings)
    assert table["mean"].tolist() == [0.9, 0.8, 0.9]
    stored = pd.read_csv(tmp_path / "out" / "sweep.csv", dtype=str, keep_default_na=False)
    assert stored.to_numpy().tolist() == [
        ["layers", "3", "True", "0.9", "0.01", "20"],
        ["layers", "4", "False", "0.8", "", "20"],
        ["learning_rate", "0.0001", "True", "0.9", "0.01", "20"],
    ]
    assert list(stored) == ["parameter", "value", "baseline", "mean", "sd", "folds"]
    assert "layers = 5 has not been pooled yet and is left out" in caplog.text
    assert str(tmp_path) not in caplog.text


def test_nothing_pooled_is_an_empty_table(tmp_path: Path) -> None:
    assert write_sweep_table(tmp_path, [{"parameter": "layers", "value": 3, "folder": tmp_path / "no"}]).empty
    assert pd.read_csv(tmp_path / "sweep.csv").empty


def test_refusals(tmp_path: Path) -> None:
    setting = {"parameter": "layers", "value": 3, "folder": pooled(tmp_path / "a", 0.9)}
    with pytest.raises(InputError, match=r"settings\[0\]: lacks value, folder"):
        write_sweep_table(tmp_path, [{"parameter": "layers"}])
    with pytest.raises(InputError, match=r"settings\[1\]: gives layers = 3 a second time"):
        write_sweep_table(tmp_path, [setting, setting])
    for damaged in ("", "metric,mean\naccuracy,1\n", "metric,mean,sd,folds\nother,1,1,1\n",
                    "metric,mean,sd,folds\naccuracy,7,1,1\n", "metric,mean,sd,folds\naccuracy,x,1,1\n",
                    "metric,mean,sd,folds\naccuracy,.5,0,1\naccuracy,.6,0,1\n"):  # fmt: skip
        (tmp_path / "a" / "scores.csv").write_text(damaged)
        with pytest.raises(InputError, match=r"scores\.csv: holds no accuracy over folds"):
            write_sweep_table(tmp_path, [setting])
    assert not (tmp_path / "sweep.csv").exists()
