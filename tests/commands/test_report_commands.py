from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from tests.command_line import call


def test_report_is_of_one_patient(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written = [tmp_path / "report.html", tmp_path / "scores.csv"]
    with mock.patch("bonemonai.report.lacuna_report.write_lacuna_report", return_value=written) as report:
        assert call("report", tmp_path, "--manifest", "m.csv", "--patient", "007") == 0
    report.assert_called_once_with(tmp_path, manifest=Path("m.csv"), patient="007", progress=True)
    assert capsys.readouterr().out.splitlines() == [f"written: {path}" for path in written]


def test_demo_runs_where_it_is_told() -> None:
    with mock.patch("bonemonai.demo.run_demo") as demo:
        assert call("demo", "elsewhere") == call("demo") == 0
    assert [each.args for each in demo.call_args_list] == [(Path("elsewhere"),), (Path("demo"),)]
