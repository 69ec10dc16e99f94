from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from bonemonai.data import dicom_pixels, dicom_volume, dump_volume, inspect_volume, open_volume
from bonemonai.data import inspection as module
from tests.dicom_files import write_series


def test_lhdl_in_words(lhdl: Path) -> None:
    lines = inspect_volume(open_volume(lhdl, voxel_size_um=19.5))
    assert lines["shape"].startswith("200 x 200 x 200")
    assert (lines["planes"], lines["dtype"], lines["range"]) == ("200", "uint8", "0 to 255")
    assert lines["voxel size"] == "19.5 x 19.5 x 19.5 um"
    assert lines["extent"] == "3.9 x 3.9 x 3.9 mm"


def test_unknowns_are_said(tmp_path: Path) -> None:
    array = np.array([[[1.5, np.nan], [np.inf, -2]]], np.float32)
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    lines = inspect_volume(open_volume(tmp_path / "a.tif"))
    assert lines["voxel size"] == "unknown"
    assert lines["orientation"].startswith("not stated")
    assert lines["range"] == "-2.0 to 1.5, and 2 NaN or infinite values"
    assert "voxel size" in lines["warning"]


def test_large_volumes_are_sampled_and_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.arange(10 * 12, dtype=np.uint8).reshape(10, 3, 4), photometric="minisblack")
    volume = open_volume(tmp_path / "a.tif")
    monkeypatch.setattr(module, "_SAMPLED_BYTES", 30)
    assert inspect_volume(volume)["range"] == "0 to 107 (in 3 of 10 planes; --full reads all)"
    assert inspect_volume(volume, full=True)["range"] == "0 to 119"


def test_orientation_names_directions(tmp_path: Path) -> None:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])  # RAS: columns run to the left, rows to the posterior
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), affine), tmp_path / "a.nii")
    volume = open_volume(tmp_path / "a.nii")
    assert module.orientation(volume) == "planes to Superior, rows to Posterior, columns to Left"


def test_dump(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.int16).reshape(4, 3, 2)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "a.nii")
    files = dump_volume(open_volume(tmp_path / "a.nii"), tmp_path / "out" / "a.b")
    assert [file.name for file in files] == ["a.b.npy", "a.b.json"]
    np.testing.assert_array_equal(np.load(files[0]), array.T)
    facts = json.loads(files[1].read_text())
    assert facts["spacing_mm"] == [4.0, 3.0, 2.0]
    assert facts["affine_lps"] == [[0, 0, -2, 0], [0, -3, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]]
    assert isinstance(facts["warnings"], list)


def test_dump_without_voxel_size_says_null(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 6), np.uint8), photometric="minisblack")
    facts = json.loads(dump_volume(open_volume(tmp_path / "a.tif"), tmp_path / "a")[1].read_text())
    assert facts["affine_lps"] is facts["spacing_mm"] is None
    assert facts["warnings"]


def test_of_thousands_of_dicom_slices_a_few_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series(tmp_path / "a", np.tile(np.arange(20).reshape(4, 5), (100, 1, 1)), shuffled=False)
    decoded: list[Path] = []
    monkeypatch.setattr(
        dicom_volume,
        "stored_values",
        lambda path, *rest: decoded.append(path) or dicom_pixels.stored_values(path, *rest),
    )
    assert inspect_volume(open_volume(folder))["range"] == "0 to 19 (in 20 of 100 planes; --full reads all)"
    assert len(decoded) == 20


def test_planes_of_one_value_are_said(tmp_path: Path) -> None:
    array = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    array[1] = 7
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="minisblack")
    assert inspect_volume(open_volume(tmp_path / "a.tif"))["range"] == "0 to 59; 1 plane(s) of one value"
