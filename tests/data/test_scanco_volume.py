from __future__ import annotations

import re
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.data.scanco_volume import density_calibration
from bonemonai.errors import InputError
from tests.contracts import VolumeContract
from tests.scanco_files import write_isq

ARRAY = np.arange(5 * 7 * 11, dtype=np.int16).reshape(5, 7, 11) * 30 - 4000


class TestIsq(VolumeContract):
    voxel_size_um = (10.0, 12.0, 14.0)
    dtypes = ("int16",)

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write_isq(folder / "scan.isq", array.astype(np.int16), slope=None)


def test_isq_in_mg_ha_per_cm3(tmp_path: Path) -> None:
    """The header's slope is a density per 1/cm, as ITK and VTK read it; stored values are mu_scaling a 1/cm."""
    volume = open_volume(write_isq(tmp_path / "C0001.ISQ", ARRAY))
    assert (volume.units, volume.dtype) == ("mg HA/cm3", np.dtype(np.float32))
    np.testing.assert_allclose(volume.read(), 1603.5 * (ARRAY / 4096) - 391.25, rtol=1e-6)


def test_isq_without_calibration_is_raw_and_says_so(tmp_path: Path) -> None:
    for path in (
        write_isq(tmp_path / "a.isq", ARRAY, slope=None),
        write_isq(tmp_path / "b.isq", ARRAY, units=b"1/cm"),
    ):
        volume = open_volume(path)
        assert (volume.units, volume.dtype) == ("raw", np.dtype(np.int16))
        assert volume.warnings == ["the header states no density calibration; values are raw."]


@pytest.mark.parametrize(
    ("slope", "intercept", "scaling"),
    [
        (0.39, -391, 4096),
        (-1600, -391, 4096),
        (1600, 1e9, 4096),
        (1600, -391, 0),
        (float("nan"), 0, 4096),
        (1600, None, 1),
    ],
)
def test_calibration_that_no_scanner_has_is_refused(slope: float, intercept: float, scaling: float) -> None:
    with pytest.raises(InputError, match="density calibration"):
        density_calibration(slope, intercept, scaling, "mg HA/ccm", Path("a.isq"))


@pytest.mark.parametrize("change", [-1, -600, 512, 2000])
def test_isq_of_another_length_than_its_header_says(change: int, tmp_path: Path) -> None:
    path = write_isq(tmp_path / "a.isq", ARRAY)
    content = path.read_bytes()
    path.write_bytes(content[:change] if change < 0 else content + bytes(change))
    with pytest.raises(InputError, match="its header says"):
        open_volume(path)


def test_isq_with_values_beyond_its_header(tmp_path: Path) -> None:
    path = write_isq(tmp_path / "a.isq", ARRAY, value_range=(-100, 100))
    with pytest.raises(InputError, match="the header or the values were changed"):
        open_volume(path).read()


def test_real_aim_in_mg_ha_per_cm3(sample_data: Path) -> None:
    volume = open_volume(sample_data / "hrpqct-trabecular-aim" / "TRAB_1240.AIM")
    assert (volume.shape, volume.units, volume.format) == ((126, 108, 108), "mg HA/cm3", "Scanco AIM")
    assert volume.voxel_size_um == pytest.approx((60.6985, 60.6997, 60.6997), rel=1e-5)
    values = volume.read()
    # by hand, from the header's numbers
    assert values.min() == pytest.approx(1662.52405 * -575 / 8192 - 398.609009, rel=1e-6)
    assert values.max() == pytest.approx(1662.52405 * 7958 / 8192 - 398.609009, rel=1e-6)
    assert values.mean() == pytest.approx(1662.52405 * 2492.40747 / 8192 - 398.609009, abs=0.01)
    np.testing.assert_array_equal(volume.read(50, 53), values[50:53])


def test_real_aim_segmentation_is_labels_where_the_scan_is_dense(sample_data: Path) -> None:
    folder = sample_data / "hrpqct-trabecular-aim"
    scan, mask = open_volume(folder / "TRAB_1240.AIM"), open_volume(folder / "TRAB_1240_SEG.AIM")
    assert mask.units == "raw"
    np.testing.assert_allclose(mask.affine_lps, scan.affine_lps)
    inside = mask.read() != 0
    assert 0.12 < inside.mean() < 0.14
    assert scan.read()[inside].mean() > 2 * scan.read()[~inside].mean()


def test_real_aim_whose_header_was_put_before_other_values(sample_data: Path) -> None:
    path = sample_data / "hrpqct-trabecular-aim" / "TRAB_1240_MANIPULATED_HEADER.AIM"
    with pytest.raises(InputError, match=r"holds 415 to 6963; its processing log says -575 to 7958"):
        open_volume(path).read(0, 1)


def test_aim_edited_or_cut_short(sample_data: Path, tmp_path: Path) -> None:
    content = (sample_data / "hrpqct-trabecular-aim" / "TRAB_1237.AIM").read_bytes()
    path = tmp_path / "a.AIM"
    changes = {
        b"Scaled by factor": (b" 8192", b" 4096", "scaled by"),
        b"Minimum value": (b"-0.05969", b"-0.15969", "not the same"),
        b"Density: slope": (b"1.66252405e+03", b"1.66252405e-03", "no scanner has"),
    }
    for name, (before, after, cause) in changes.items():
        old = re.search(name + b" +" + re.escape(before), content).group()  # type: ignore[union-attr]
        new = old.replace(before, after)
        path.write_bytes(content.replace(old, new))
        with pytest.raises(InputError, match=cause):
            open_volume(path)
    path.write_bytes(content[:-4000])
    with pytest.raises(InputError, match="its header says"):
        open_volume(path)


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "py_aimio", None)
    with pytest.raises(InputError, match=r"pip install 'bonemonai\[scanco\]'"):
        open_volume(write_isq(tmp_path / "a.isq", ARRAY))


def test_patient_named_in_the_header_stays_there(sample_data: Path, tmp_path: Path) -> None:
    path = tmp_path / "scan.AIM"
    shutil.copy(sample_data / "hrpqct-trabecular-aim" / "TRAB_1240.AIM", path)
    assert "DBQ_153" not in str(vars(open_volume(path)))


def test_version_number_behind_the_name(tmp_path: Path) -> None:
    assert open_volume(write_isq(tmp_path / "C0001234.ISQ;1", ARRAY)).shape == ARRAY.shape


@pytest.mark.parametrize("edge", [3, 8, 82])
def test_extents_in_whole_micrometres_that_round_the_voxel_size(edge: int, tmp_path: Path) -> None:
    """3.5 um: the slice increment is an integer and says 4."""
    path = write_isq(tmp_path / "a.isq", ARRAY, voxel_um=(edge, edge, edge))
    content = bytearray(path.read_bytes())
    planes, rows, columns = ARRAY.shape
    struct.pack_into("<3i", content, 56, *(round(n * (edge + 0.5)) for n in (columns, rows, planes)))
    struct.pack_into("<2i", content, 68, edge + 1, edge + 1)
    path.write_bytes(content)
    assert open_volume(path).voxel_size_um[0] == pytest.approx(edge + 0.5, rel=0.05)  # type: ignore[index]
