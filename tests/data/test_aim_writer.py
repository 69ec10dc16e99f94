from __future__ import annotations

from pathlib import Path

import numpy as np
import py_aimio
import pytest

from bonemonai.data import open_volume
from bonemonai.data.aim_writer import MURINE_70_KVP, AimWriter
from bonemonai.data.scanco_volume import DensityCalibration
from bonemonai.errors import InputError

DENSITY = np.random.default_rng(0).uniform(-191, 1200, (5, 7, 11)).astype(np.float32)
SIZE = (12.5, 11.0, 10.0)


def write(path: Path, density: np.ndarray = DENSITY, **options: object) -> AimWriter:
    writer = AimWriter(path, shape=density.shape, voxel_size_um=SIZE, **options)  # type: ignore[arg-type]
    with writer:
        writer.write(density[:2])
        writer.write(density[2:])
    return writer


def test_our_reader_gives_the_same_densities_within_rounding(tmp_path: Path) -> None:
    writer = write(tmp_path / "a.aim", position=(3, 2, 1))
    volume = open_volume(tmp_path / "a.aim")
    assert (volume.format, volume.units, volume.warnings) == ("Scanco AIM", "mg HA/cm3", [])
    assert volume.voxel_size_um == pytest.approx(SIZE, rel=1e-6)
    np.testing.assert_allclose(volume.affine_lps[:3, 3], [0.015, 0.0275, 0.04375], rtol=1e-6)  # type: ignore[index]
    np.testing.assert_allclose(volume.read(), DENSITY, atol=MURINE_70_KVP.slope / 2 + 1e-4, rtol=0)
    # a second rounding changes nothing
    np.testing.assert_array_equal(writer.stored(volume.read()), writer.stored(DENSITY))


def test_bytes_are_those_of_aimio(tmp_path: Path) -> None:
    writer = write(tmp_path / "ours.aim", position=(3, 2, 1), log={"Energy [V]": 70000})
    log = py_aimio.aim_info(str(tmp_path / "ours.aim"))["processing_log"]
    meta = {"position": (1, 2, 3), "dimensions": (11, 7, 5), "element_size": [um / 1000 for um in reversed(SIZE)]}
    py_aimio.write_aim(str(tmp_path / "theirs.aim"), writer.stored(DENSITY), {**meta, "processing_log": log}, "native")
    assert (tmp_path / "ours.aim").read_bytes() == (tmp_path / "theirs.aim").read_bytes()


def test_aimio_reads_the_density_and_the_log(tmp_path: Path) -> None:
    write(tmp_path / "a.aim", log={"Energy [V]": 70000, "No. projections per 180": 2000})
    density, _meta = py_aimio.read_aim(str(tmp_path / "a.aim"), density=True)
    np.testing.assert_allclose(density, DENSITY, atol=0.05, rtol=0)
    log = py_aimio.log_to_dict(py_aimio.aim_info(str(tmp_path / "a.aim"))["processing_log"])
    assert (log["Energy [V]"], log["No. projections per 180"], log["Mu_Scaling"]) == (70000, 2000, 4096)


def test_another_calibration(tmp_path: Path) -> None:
    calibration = DensityCalibration(1603.51904 / 8192, -391.209015)
    writer = write(tmp_path / "a.aim", calibration=calibration, mu_scaling=8192)
    assert writer.calibration == pytest.approx(calibration, rel=1e-9)
    np.testing.assert_allclose(open_volume(tmp_path / "a.aim").read(), DENSITY, atol=0.1, rtol=0)


def test_same_densities_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.aim")
    assert (tmp_path / "a.aim").read_bytes() == (tmp_path / "b.aim").read_bytes()


@pytest.mark.parametrize("value", [5000.0, -4000.0, np.nan])
def test_densities_that_16_bits_do_not_hold(value: float, tmp_path: Path) -> None:
    density = DENSITY.copy()
    density[4, 0, 0] = value
    with pytest.raises(InputError, match=r"a\.aim: holds -3145 to 2762 mg HA/cm3 at its calibration, got"):
        write(tmp_path / "a.aim", density)
    assert list(tmp_path.iterdir()) == []


def test_long_names_would_run_into_their_values(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="28 letters at most"):
        AimWriter(tmp_path / "a.aim", shape=(1, 1, 1), voxel_size_um=SIZE, log={"a" * 29: 1})
