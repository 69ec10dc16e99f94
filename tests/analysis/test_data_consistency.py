from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from skimage.measure import block_reduce

from bonemonai.analysis import data_consistency
from bonemonai.analysis.data_consistency import write_data_consistency
from bonemonai.data import open_volume
from bonemonai.errors import InputError, OutputError
from tests.data.test_upsampled_volume import Held


def scans(noise: float = 50.0) -> tuple[np.ndarray, np.ndarray]:
    """A fine scan, and a coarse one that is its mean with noise."""
    rng = np.random.default_rng(4)
    fine = np.where(rng.random((24, 36, 48)) > 0.8, 900.0, 50.0).astype(np.float32)
    coarse = block_reduce(fine, (2, 2, 2), np.mean) + rng.normal(0, noise, (12, 18, 24))
    return coarse.astype(np.float32), fine


def test_the_difference_is_the_mean_less_what_was_measured(tmp_path: Path) -> None:
    coarse, fine = scans()
    found = write_data_consistency(tmp_path, Held(coarse, 0.02), Held(fine, 0.01), trained_range=(0, 700))
    expected = block_reduce(fine.astype(np.float64), (2, 2, 2), np.mean) - coarse
    volume = open_volume(tmp_path / "difference.ome.zarr")
    np.testing.assert_allclose(volume.read(), expected, atol=1e-3)
    assert volume.voxel_size_um == pytest.approx((20, 20, 20))
    assert volume.units == "mg HA/cm3"
    np.testing.assert_allclose(volume.affine_lps, Held(coarse, 0.02).affine_lps)
    assert found["mean_difference"] == pytest.approx(expected.mean(), abs=1e-6)
    assert found["sd_difference"] == pytest.approx(expected.std(), rel=1e-6)
    assert found["largest_difference"] == pytest.approx(np.abs(expected).max(), rel=1e-6)
    assert found["beyond_training"] == pytest.approx(((coarse < 0) | (coarse > 700)).mean())
    # noise is a fifth in cubes of 27 voxels
    assert found["sd_smooth"] == pytest.approx(50 / 27**0.5, rel=0.25)
    assert json.loads((tmp_path / "consistency.json").read_text())["voxels"] == 12 * 18 * 24


def test_bone_that_was_invented_shows(tmp_path: Path) -> None:
    coarse, fine = scans(noise=0)
    clean = write_data_consistency(tmp_path / "a", Held(coarse, 0.02), Held(fine, 0.01))
    assert clean["rms_difference"] < 1e-4
    fine[4:12, 8:16, 8:16] = 900
    found = write_data_consistency(tmp_path / "b", Held(coarse, 0.02), Held(fine, 0.01))
    assert found["sd_smooth"] > 30
    difference = open_volume(tmp_path / "b" / "difference.ome.zarr").read()
    assert difference[2:6, 4:8, 4:8].mean() > 300
    assert np.abs(difference[8:]).max() < 1e-3


def test_blocks_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse, fine = scans()
    whole = write_data_consistency(tmp_path / "a", Held(coarse, 0.02), Held(fine, 0.01))
    monkeypatch.setattr(data_consistency, "_BLOCK_BYTES", 8 * 3 * 18 * 24 * 4)  # three planes
    parts = write_data_consistency(tmp_path / "b", Held(coarse, 0.02), Held(fine, 0.01))
    assert parts == pytest.approx(whole)
    first, second = (open_volume(tmp_path / name / "difference.ome.zarr").read() for name in "ab")
    np.testing.assert_array_equal(first, second)


def test_refusals(tmp_path: Path) -> None:
    coarse, fine = scans()
    with pytest.raises(InputError, match="no whole multiple"):
        write_data_consistency(tmp_path, Held(coarse, 0.02), Held(fine[:-1], 0.01))
    with pytest.raises(InputError, match="no whole multiple"):
        write_data_consistency(tmp_path, Held(coarse, 0.02), Held(coarse, 0.02))
    with pytest.raises(InputError, match="does not state its voxel size"):
        write_data_consistency(tmp_path, Held(coarse, None), Held(fine, 0.01))
    elsewhere = Held(fine, 0.01)
    elsewhere.affine_lps = elsewhere.affine_lps.copy()
    elsewhere.affine_lps[0, 3] += 5
    with pytest.raises(InputError, match="does not lie on its scan"):
        write_data_consistency(tmp_path, Held(coarse, 0.02), elsewhere)
    holed = coarse.copy()
    holed[5, 6, 7] = np.nan
    with pytest.raises(InputError, match="holds NaN in planes"):
        write_data_consistency(tmp_path, Held(holed, 0.02), Held(fine, 0.01))
    assert not (tmp_path / "difference.ome.zarr").exists()
    other = Held(fine, 0.01)
    other.units = "raw"
    with pytest.raises(InputError, match="raw"):
        write_data_consistency(tmp_path, Held(coarse, 0.02), other)
    write_data_consistency(tmp_path, Held(coarse, 0.02), Held(fine, 0.01))
    with pytest.raises(OutputError):
        write_data_consistency(tmp_path, Held(coarse, 0.02), Held(fine, 0.01))
