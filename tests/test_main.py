from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

import bonemonai
from tests.command_line import call

HEAVY = ("torch", "monai", "pandas", "ignite", "scipy", "skimage", "matplotlib", "zarr", "numpy")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["inspect", "--help"], ["plan", "--help"], ["measure", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bonemonai.__main__ import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit as stop:\n    assert not stop.code\n"
        f"print('heavy:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in run.stdout


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert bonemonai.__version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["inspect", "nowhere"], "bonemonai: error: nowhere: no such file or folder."),
        (["inspekt"], "bonemonai: error: bonemonai: No such command 'inspekt'."),  # newer clicks guess what was meant
        (["inspect"], "bonemonai: error: bonemonai inspect: Missing argument 'PATH'."),
        (["phantom", "out", "--size", "10"], "bonemonai: error: bonemonai phantom: Invalid value for '--size'"),
        (["report", "out", "--manifest", "m.csv", "--patient", "P"], "bonemonai: error: m.csv: no such manifest."),
    ],
)
def test_refusals_are_one_line_and_exit_2(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_place_that_cannot_be_written_exits_4(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8), photometric="minisblack")
    assert call("inspect", tmp_path / "a.tif", "--dump", tmp_path / "file" / "out") == 4
    assert "cannot be written" in capsys.readouterr().err
