from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.analysis import BoneEnvelope, BoneSegmentation, measure_bone_volume_fraction, measure_overlap
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume


@pytest.mark.parametrize("planes", [1, 3, 7])
def test_counts_do_not_depend_on_blocks(planes: int) -> None:
    random = np.random.default_rng(1)
    bone, tissue = ((random.random((7, 8, 9)) < share).astype(np.uint8) for share in (0.3, 0.7))
    tissue[2] = 0
    found = measure_bone_volume_fraction(ArrayVolume(bone), ArrayVolume(tissue), memory=planes * 72)
    both = bone & tissue
    assert found.bv_tv == both.sum() / tissue.sum()
    assert found.bv_mm3 == pytest.approx(both.sum() * 2 * 1.5 * 1.25e-9)
    assert found.tv_mm3 == pytest.approx(tissue.sum() * 2 * 1.5 * 1.25e-9)
    np.testing.assert_allclose(found.slices["ba_mm2"], both.sum(axis=(1, 2)) * 1.5 * 1.25e-6)
    np.testing.assert_allclose(found.slices["ta_mm2"], tissue.sum(axis=(1, 2)) * 1.5 * 1.25e-6)
    assert np.flatnonzero(found.slices["ba_ta"].isna()).tolist() == [2]
    assert found.slices["ba_ta"][3] == both[3].sum() / tissue[3].sum()


def test_lhdl(lhdl: Path) -> None:
    bone = BoneSegmentation(open_volume(lhdl, voxel_size_um=19.5), threshold=63)
    found = measure_bone_volume_fraction(bone)
    assert found.bv_tv == pytest.approx(0.228, abs=5e-4)
    assert found.tv_mm3 == pytest.approx(3.9**3)


def test_density_of_a_real_scan(sample_data: Path) -> None:
    """The segmentation that comes with the scan is that of 320 mg HA/cm3, not smoothed."""
    folder = sample_data / "hrpqct-trabecular-aim"
    pytest.importorskip("py_aimio")
    bone = BoneSegmentation(open_volume(folder / "TRAB_1240.AIM"), density=320, sigma=0)
    made = open_volume(folder / "TRAB_1240_SEG.AIM")
    assert measure_overlap(bone, made).dsc > 0.97
    found, theirs = (measure_bone_volume_fraction(mask).bv_tv for mask in (bone, made))
    assert found == pytest.approx(theirs, abs=0.004)


def test_envelope_of_a_tube() -> None:
    radius = np.hypot(*np.mgrid[-20:21, -22:23])
    tube = ArrayVolume(np.stack([(radius < 18) & (radius > 14)] * 3).astype(np.uint8), (10, 10, 10))
    found = measure_bone_volume_fraction(tube, BoneEnvelope(tube))
    assert found.bv_tv == pytest.approx(1 - 14**2 / 18**2, rel=0.03)
    assert measure_bone_volume_fraction(tube).bv_tv < found.bv_tv


def test_is_resumed(tmp_path: Path) -> None:
    bone = ArrayVolume(np.ones((4, 5, 6), np.uint8))
    first = measure_bone_volume_fraction(bone, memory=30, record=SlabRecord(tmp_path / "r.json", {}))
    bone.values = np.zeros_like(bone.values)  # is not read again
    again = measure_bone_volume_fraction(bone, memory=30, record=SlabRecord(tmp_path / "r.json", {}))
    assert first[:4] == again[:4]
    assert again.bv_tv == 1


def test_without_voxel_size_there_is_a_ratio_still() -> None:
    found = measure_bone_volume_fraction(ArrayVolume(np.ones((2, 3, 4), np.uint8), None))
    assert found.bv_tv == 1
    assert np.isnan(found.bv_mm3)


def test_refusals() -> None:
    bone = ArrayVolume(np.ones((2, 3, 4), np.uint8))
    with pytest.raises(InputError, match="marks no tissue"):
        measure_bone_volume_fraction(bone, ArrayVolume(np.zeros((2, 3, 4), np.uint8)))
    with pytest.raises(InputError, match="has shape"):
        measure_bone_volume_fraction(bone, ArrayVolume(np.zeros((2, 3, 5), np.uint8)))
