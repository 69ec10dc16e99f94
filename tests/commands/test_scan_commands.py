from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from bonemonai.networks import LacunaUNet
from tests.command_line import call
from tests.conftest import ROOT
from tests.dicom_files import SERIES, write_series


@pytest.mark.parametrize("kind", ["a.tif", "dicom"])
def test_inspecting_does_not_import_torch(kind: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 5, 6), np.uint8), photometric="minisblack")
    write_series(tmp_path / "dicom", np.zeros((3, 5, 6), np.int16))
    code = (
        "import sys\nfrom bonemonai.__main__ import main\n"
        f"try:\n    main(['inspect', {str(tmp_path / kind)!r}])\n"
        "except SystemExit as stop:\n    assert not stop.code\n"
        "print('heavy:', [name for name in ('torch', 'monai', 'pandas') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "heavy: []" in run.stdout


def test_inspect_lhdl(lhdl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("inspect", lhdl, "--voxel-size-um", "19.5") == 0
    out = capsys.readouterr().out
    for text in ("200 x 200 x 200", "uint8", "19.5 x 19.5 x 19.5 um", "0 to 255"):
        assert text in out


def test_inspect_dumps(tmp_path: Path) -> None:
    array = np.arange(60, dtype=np.uint16).reshape(2, 5, 6)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    assert call("inspect", tmp_path / "a.tif", "--voxel-size-um", "1.6", "--dump", tmp_path / "out") == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), array)
    assert json.loads((tmp_path / "out.json").read_text())["spacing_mm"] == [0.0016] * 3


def test_inspect_lists_series_and_shows_the_chosen_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def other(dataset: Any, plane: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    values = np.zeros((3, 4, 5), np.int16)
    write_series(tmp_path / "a" / "one", values)
    write_series(tmp_path / "a" / "two", values + 70, edit=other)
    assert call("inspect", tmp_path / "a") == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed == [
        "series:      1.2.3: CT, 3 x 4 x 5, 2 x 1.5 x 1.25 mm",
        f"series:      {SERIES}: CT, 3 x 4 x 5, 2 x 1.5 x 1.25 mm",
    ]
    assert call("inspect", tmp_path / "a", "--series", "1.2.3") == 0
    shown = capsys.readouterr().out
    assert "units:       HU" in shown
    assert "range:       70 to 70" in shown
    # what is to be written must be chosen first
    assert call("inspect", tmp_path / "a", "--dump", tmp_path / "out") == 2


def test_plan_takes_the_configs_own_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scan, model = tmp_path / "scan.tif", tmp_path / "model.pt"
    tifffile.imwrite(scan, np.random.default_rng(0).normal(size=(5, 40, 44)).astype(np.float32))
    torch.save(LacunaUNet(width=4).state_dict(), model)
    config = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs" / "inference.json"
    assert call("plan", scan, "--config", config, "--windows", "0", "--checkpoint", model, "--voxel-size-um=2") == 0
    out = capsys.readouterr().out
    assert "forward passes: 5; the network sees each voxel 1.00 times" in out
    assert "time:" not in out
    assert call("plan", scan, "--config", config, "--checkpoint") == 2
    assert "options of the config come as --name value" in capsys.readouterr().err


def test_measure_lhdl(lhdl: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("measure", lhdl, "--voxel-size-um", "19.5", "--measures", "surface")
    assert call(*arguments, "--threshold", "63") == 0
    lines = capsys.readouterr().out.splitlines()
    name, value, unit = lines[0].split()
    assert (name, unit) == ("BV/TV", "1")
    assert float(value) == pytest.approx(0.228, abs=5e-4)
    assert all(len(line.split()) == 3 for line in lines)
    assert call(*arguments, "--threshold", "63", "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "BV/TV"
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("is no mask: it has several values besides 0; say --threshold or --density.\n")


def test_measure_writes_tables_and_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bone = np.zeros((12, 13, 14), np.uint8)
    bone[2:9, 2:10, 2:11] = 255
    lacuna = np.zeros_like(bone)
    lacuna[4:7, 4:7, 4:7] = 1
    for name, array in (("bone", bone), ("lacuna", lacuna)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="minisblack")
    arguments = ["measure", tmp_path / "bone.tif", "--voxel-size-um=2", "--lacunae", tmp_path / "lacuna.tif"]
    files = ["--table", tmp_path / "t.csv", "--slices", tmp_path / "s.csv", "--record", tmp_path / "r.json"]
    assert call(*arguments, *files) == 0
    shown = capsys.readouterr().out
    assert {"Tb.Th", "Tb.Sp", "Tb.N", "Conn.D", "DA.MIL", "Lc.N"} <= {line.split()[0] for line in shown.splitlines()}
    assert len((tmp_path / "t.csv").read_text().splitlines()) == 2
    assert len((tmp_path / "s.csv").read_text().splitlines()) == 13
    assert call(*arguments, *files) == 0
    assert capsys.readouterr().out == shown
    assert call(*arguments, *files, "--threshold", "9") == 3
    assert "r.json: is of another measurement (bone)" in capsys.readouterr().err
    assert call(*arguments) == 2
    assert "takes --lacunae and --table together" in capsys.readouterr().err
