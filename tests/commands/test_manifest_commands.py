from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from tests.command_line import call


def test_manifest_is_built_checked_and_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(6):
        (tmp_path / f"P{number}").mkdir()
        values = np.random.default_rng(number).integers(0, 9, (3, 4, 5)).astype(np.uint8)
        tifffile.imwrite(tmp_path / f"P{number}" / "ct.tif", values, photometric="minisblack")
    assert call("manifest", "build", tmp_path) == 0
    assert "manifest.csv (6 images of 6 patients)" in capsys.readouterr().out
    assert call("manifest", "split", tmp_path / "manifest.csv", "--ratio", "60,20,20") == 0
    assert call("manifest", "check", tmp_path / "manifest_ratio_00.csv") == 0
    assert "train:          4 images of 4 patients" in capsys.readouterr().out
    (tmp_path / "P5" / "ct.tif").write_bytes((tmp_path / "P0" / "ct.tif").read_bytes())
    assert call("manifest", "check", tmp_path / "manifest.csv") == 2
    assert "ct.tif holds the pixels of ct.tif, which stands under another patient" in capsys.readouterr().err
    assert call("manifest", "check", tmp_path / "manifest.csv", "--no-pixels") == 0
    assert call("manifest", "build", tmp_path) == 4
