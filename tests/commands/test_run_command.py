from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from bonemonai.errors import InputError
from tests.command_line import call

RUN = "bonemonai.sharing.bundle_run.run_bundle"


def test_what_is_typed_is_what_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch(RUN, return_value=tmp_path / "r.json") as run:
        words = ["--overlay=smoke", "--overlay=own.json", "--set=a=3", "--set=b=x", "--record=r.json"]
        assert call("run", tmp_path, "train", *words, "--trust-code=f00") == 0
    run.assert_called_once_with(
        tmp_path, "train", ("smoke", "own.json"), {"a": 3, "b": "x"}, trust_code="f00", record=Path("r.json")
    )
    assert capsys.readouterr().out == f"record: {tmp_path / 'r.json'}\n"


@pytest.mark.parametrize("traceback", [False, True])
def test_a_refusal_shows_where_only_if_asked(traceback: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with mock.patch(RUN, side_effect=InputError("a", "is wrong.")):
        assert call("run", "b", "train", *(["--traceback"] if traceback else [])) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "bonemonai: error: a: is wrong."
    assert (len(lines) > 1) == traceback
    assert any("Traceback" in line for line in lines) == traceback


def test_an_option_without_a_value_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run", "b", "train", "--set", "a") == 2
    assert "--set: takes id=value, got 'a'." in capsys.readouterr().err


def test_cures_are_what_can_be_typed_here(capsys: pytest.CaptureFixture[str]) -> None:
    cause = "exists already; say --overwrite True, or choose another --checkpoint; see --trust-code f00."
    with mock.patch(RUN, side_effect=InputError("a", cause)):
        assert call("run", "b", "train") == 2
    said = "exists already; say --set overwrite=True, or choose another --checkpoint; see --trust-code f00."
    assert capsys.readouterr().err == f"bonemonai: error: a: {said}\n"
