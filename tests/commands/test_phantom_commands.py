from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.data import open_volume
from tests.command_line import call


def test_phantom(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("phantom", tmp_path / "study", "--planes", "2", "--size", "60", "--patients", "2", "--seed", "5") == 0
    assert str(tmp_path / "study" / "manifest.csv") in capsys.readouterr().out
    assert open_volume(tmp_path / "study" / "O02" / "image").shape == (2, 60, 60)


def test_compression_phantom_replaces_no_other_study_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("compression-phantom", tmp_path / "study", "--samples", "1", "--states", "2", "--size", "16")
    assert call(*arguments) == call(*arguments) == 0
    manifest = tmp_path / "study" / "manifest.csv"
    assert f"manifest: {manifest}" in capsys.readouterr().out
    assert call(*arguments, "--seed", "1") == 4
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"bonemonai: error: {manifest}: is of another study (other seed")
    assert last.endswith("say --overwrite, or choose another folder.")
    assert call(*arguments, "--seed", "1", "--overwrite") == 0
