from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from bonemonai.analysis import measure_lacunae, summarise_lacunae
from bonemonai.data import Volume, open_volume
from bonemonai.errors import InputError
from bonemonai.phantoms import SRMicroCTPhantom


def volume(path: Path, array: np.ndarray) -> Volume:
    tifffile.imwrite(path, array, photometric="minisblack")
    return open_volume(path, voxel_size_um=(3, 2, 1))


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10_000), st.floats(0.02, 0.4), st.integers(1, 9))
def test_blocks_give_what_scipy_gives_in_memory(tmp_path: Path, seed: int, share: float, planes: int) -> None:
    array = (np.random.default_rng(seed).random((9, 12, 11)) < share).astype(np.uint8)
    found = measure_lacunae(volume(tmp_path / "mask.tif", array), planes=planes)
    labels, count = ndimage.label(array, structure=np.ones((3, 3, 3)))
    index = range(1, count + 1)
    volumes = ndimage.sum_labels(array, labels, index) * 6
    centres = np.array(ndimage.center_of_mass(array, labels, index)).reshape(count, 3)
    expected = np.column_stack([volumes, centres])
    rows = found[["volume_um3", "plane", "row", "column"]].to_numpy()
    np.testing.assert_allclose(np.sort(rows, axis=0), np.sort(expected, axis=0))
    np.testing.assert_allclose(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)], atol=1e-9)


def test_one_object_through_all_blocks_is_counted_once(tmp_path: Path) -> None:
    array = np.zeros((10, 12, 14), np.uint8)
    for z in range(10):
        array[z, z + 1, z + 2] = 1  # diagonal: each plane touches the next by a corner only
    table = measure_lacunae(volume(tmp_path / "mask.tif", array), planes=2)
    assert table["volume_um3"].tolist() == [60]
    assert table.loc[0, ["plane", "row", "column"]].tolist() == [4.5, 5.5, 6.5]


def test_summary_by_hand(tmp_path: Path) -> None:
    array = np.zeros((6, 20, 20), np.uint8)
    array[1:3, 2:4, 2:4] = 1  # 8 voxels, 48 um3
    array[4, 10:15, 10:15] = 1  # 25 voxels, 150 um3
    array[0, 18, 18] = 1  # 6 um3: noise
    bone = np.ones_like(array)
    bone[:, :, 10:] = 0
    table = measure_lacunae(volume(tmp_path / "mask.tif", array))
    summary = summarise_lacunae(table, volume(tmp_path / "bone.tif", bone))
    bv = 6 * 20 * 10 * 6e-9
    assert summary.number == 2
    assert summary.bone_volume_mm3 == pytest.approx(bv)
    assert summary.number_density_per_mm3 == pytest.approx(2 / bv)
    assert summary.median_volume_um3 == 99
    assert not table["touches_last"].any()
    assert summary.porosity == pytest.approx(198e-9 / bv)


def test_border_is_an_unbiased_frame(tmp_path: Path) -> None:
    """Two adjoining volumes count the lacuna between them once; cut ones are left out of the median."""
    array = np.zeros((12, 20, 20), np.uint8)
    array[4:8, 5:9, 5:9] = 1  # cut at plane 6
    array[1:3, 10:12, 10:14] = 1  # whole: 16 voxels, 96 um3
    array[9:11, :3, 15:] = 1  # touches the first row and the last column
    numbers = []
    for name, half in (("a", array[:6]), ("b", array[6:])):
        table = measure_lacunae(volume(tmp_path / f"{name}.tif", half), planes=4)
        summary = summarise_lacunae(table, volume(tmp_path / f"bone_{name}.tif", np.ones_like(half)))
        numbers.append(summary.number)
        if name == "a":
            assert summary.median_volume_um3 == 96
    assert numbers == [1, 1]
    whole = measure_lacunae(volume(tmp_path / "whole.tif", array), planes=5)
    assert sorted(zip(whole["touches_first"], whole["touches_last"], strict=True)) == [
        (False, False), (False, False), (True, True)
    ]  # fmt: skip


def test_phantoms_density_is_recovered() -> None:
    """Without the frame, objects cut by the border raise the density by a tenth and more."""
    phantom = SRMicroCTPhantom((60, 200, 200), seed=11, bone="cortical")
    block = phantom.block(0, 60)
    drawn = phantom._draw_ellipsoids(0, 60)[:, :3] / 1.6
    inside = ((drawn > -0.5) & (drawn < np.array([60, 200, 200]) - 0.5)).all(axis=1).sum()
    with tempfile.TemporaryDirectory() as folder:
        masks = []
        for name, array in (("lacunae", block.lacunae), ("bone", block.bone)):
            tifffile.imwrite(Path(folder) / f"{name}.tif", array, photometric="minisblack")
            masks.append(open_volume(Path(folder) / f"{name}.tif", voxel_size_um=1.6))
        table = measure_lacunae(masks[0])
        summary = summarise_lacunae(table, masks[1])
    # touching lacunae are one object, and slivers are left out
    assert summary.number == pytest.approx(inside, rel=0.08)
    assert abs(summary.number - inside) < abs((table["volume_um3"] >= 20).sum() - inside)
    assert summary.median_volume_um3 == pytest.approx(280, rel=0.1)


def test_empty_masks(tmp_path: Path) -> None:
    empty = np.zeros((6, 8, 8), np.uint8)
    table = measure_lacunae(volume(tmp_path / "mask.tif", empty))
    assert table.empty
    with pytest.raises(InputError, match="marks no bone"):
        summarise_lacunae(table, volume(tmp_path / "bone.tif", empty))


def test_voxel_size_is_needed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 8, 8), np.uint8))
    with pytest.raises(InputError, match="does not state its voxel size"):
        measure_lacunae(open_volume(tmp_path / "a.tif"))
