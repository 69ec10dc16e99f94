"""The benchmark runs; its figures are not judged here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tests.benchmarks import streaming


def test_runs_at_a_small_size_and_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = ["exact", "exact forward", "gaussian", "MONAI 0.25"]
    streaming.main(["--case", "small", "--rounds", "1", "--csv", str(tmp_path / "t.csv"), "--ways", *ways])
    table = pd.read_csv(tmp_path / "t.csv")
    assert table["way"].tolist() == ways
    assert (table["seconds"] > 0).all()
    assert len(capsys.readouterr().out.splitlines()) == 1 + len(ways)
