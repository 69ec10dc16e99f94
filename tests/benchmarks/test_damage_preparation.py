"""The benchmark runs, and both of its sides give the same; its times are not judged here."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner

from tests.benchmarks import damage_preparation


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_runs_at_a_small_size_and_both_sides_agree(dtype: str) -> None:
    run = CliRunner().invoke(damage_preparation.main, ["--size", "48", "--runs", "1", "--dtype", dtype])
    assert run.exit_code == 0, run.output
    assert re.search(r"ratio: \d+\.\d+", run.output)
    most, mean = (float(value) for value in re.findall(r"\d\.\de[-+]\d+", run.output))
    assert most <= (1e-6 if dtype == "uint16" else 1e-2)
    assert mean <= 1e-4
