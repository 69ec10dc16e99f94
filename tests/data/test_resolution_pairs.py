from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter, shift
from skimage.measure import block_reduce

from bonemonai.data import PlaneDataset
from bonemonai.data.resolution_pairs import (
    LEAKAGE,
    ResolutionPair,
    grey_range,
    open_resolution_pair,
    read_resolution_manifest,
    refuse_other_resolution,
    resolution_rows,
)
from bonemonai.errors import InputError
from tests.data.test_upsampled_volume import Held


def bone(seed: int = 0, shape: tuple[int, int, int] = (24, 40, 48)) -> np.ndarray:
    """Struts of some voxels' width, mg HA/cm3."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3)
    return np.where(field > 0.02, 900.0, 50.0).astype(np.float32)


def pair(off: float = 0.0, noise: float = 0.0, **options: float) -> ResolutionPair:
    fine = bone()
    moved = shift(fine, (0, off, 0), order=1, mode="nearest") if off else fine
    coarse = block_reduce(moved, (2, 2, 2), np.mean).astype(np.float32)
    coarse += np.random.default_rng(1).normal(0, noise, coarse.shape).astype(np.float32)
    return ResolutionPair(Held(coarse, 0.02), Held(fine, 0.01), **options)


def test_both_scans_lie_on_the_fine_grid() -> None:
    found = pair(noise=100)
    assert found.factor == 2
    assert found.low.shape == found.high.shape == (24, 40, 48)
    assert found.shift_voxels == pytest.approx((0, 0, 0), abs=0.3)
    assert np.corrcoef(found.low.read().ravel(), found.high.read().ravel())[0, 1] > 0.85


@pytest.mark.parametrize("off", [1.5, -3.0])
def test_a_scan_that_lies_elsewhere_is_refused(off: float) -> None:
    with pytest.raises(InputError, match=r"fine voxels .* off array, and 1 are allowed"):
        pair(off)
    found = pair(off, most_shift_voxels=5)
    assert found.shift_voxels is not None
    assert found.shift_voxels[1] == pytest.approx(off, abs=0.3)
    assert pair(off, check=False).shift_voxels is None


def test_less_than_a_coarse_voxel_beyond_is_cut_off() -> None:
    fine = bone()
    coarse = block_reduce(fine, (2, 2, 2), np.mean).astype(np.float32)
    found = ResolutionPair(Held(coarse, 0.02), Held(fine[:-1, :, :-1], 0.01))
    assert found.low.shape == found.high.shape == (23, 40, 47)
    with pytest.raises(InputError, match="cut both to the same place first"):
        ResolutionPair(Held(coarse, 0.02), Held(fine[:-2], 0.01))


def test_voxel_sizes_must_fit() -> None:
    fine, coarse = np.zeros((8, 8, 8), dtype=np.float32), np.zeros((4, 4, 4), dtype=np.float32)
    for size in (0.01, 0.025):
        with pytest.raises(InputError, match="2 or 3 or more are due, alike"):
            ResolutionPair(Held(coarse, size), Held(fine, 0.01))
    with pytest.raises(InputError, match="does not state its voxel size"):
        ResolutionPair(Held(coarse, None), Held(fine, 0.01))
    with pytest.raises(InputError, match="is constant in its middle"):
        ResolutionPair(Held(coarse, 0.02), Held(fine, 0.01))
    other = Held(coarse, 0.02)
    other.units = "raw"
    with pytest.raises(InputError, match="mg HA/cm3"):
        ResolutionPair(other, Held(fine, 0.01))


def test_rows_of_a_manifest(tmp_path: Path) -> None:
    import tifffile

    fine = bone()
    tifffile.imwrite(tmp_path / "fine.tif", fine)
    tifffile.imwrite(tmp_path / "coarse.tif", block_reduce(fine, (2, 2, 2), np.mean).astype(np.float32))
    row = {
        "image": str(tmp_path / "fine.tif"), "lr": str(tmp_path / "coarse.tif"), "units": "mg HA/cm3",
        "voxel_size_um": "10", "lr_voxel_size_um": "20",
    }  # fmt: skip
    assert open_resolution_pair(row).factor == 2
    with pytest.raises(InputError, match="has no scan of low resolution"):
        open_resolution_pair({**row, "lr": ""})


def study(folder: Path, specimens: int = 4, frames: tuple[int, ...] = (1, 3)) -> Path:
    """Pairs as TIFF, two sites in turn, coarse scans of one and three frame averages."""
    import tifffile

    rows = []
    for number in range(specimens):
        fine = bone(number, (16, 32, 32))
        tifffile.imwrite(folder / f"fine{number}.tif", fine)
        for averages in frames:
            noise = np.random.default_rng(number).normal(0, 100 / averages**0.5, (8, 16, 16))
            coarse = (block_reduce(fine, (2, 2, 2), np.mean) + noise).astype(np.float32)
            tifffile.imwrite(folder / f"coarse{number}_{averages}.tif", coarse)
            rows.append({
                "patient": f"mouse {number}", "image": f"fine{number}.tif", "lr": f"coarse{number}_{averages}.tif",
                "lr_frames": str(averages), "site": ("femur", "spine")[number % 2], "units": "mg HA/cm3",
                "split": ("train", "train", "val", "test")[number % 4], "voxel_size_um": "10", "lr_voxel_size_um": "20",
            })  # fmt: skip
    pd.DataFrame(rows).to_csv(folder / "manifest.csv", index=False)
    return folder / "manifest.csv"


def test_pairs_of_a_split_are_rows_of_planes(tmp_path: Path) -> None:
    manifest = read_resolution_manifest(study(tmp_path), frames=3)
    rows = resolution_rows(manifest, "train")
    assert [row["subject"] for row in rows] == ["subject_00", "subject_01"]
    assert [row["specimen"] for row in rows] == ["subject_00 femur 3 frames", "subject_01 spine 3 frames"]
    dataset = PlaneDataset(rows, ("image", "high"), progress=False, expects=("mg HA/cm3",))
    assert len(dataset) == 32
    item = dataset[17]
    assert item["image"].shape == item["high"].shape == (1, 32, 32)
    np.testing.assert_array_equal(item["high"], bone(1, (16, 32, 32))[1:2])
    assert np.corrcoef(item["image"].ravel(), item["high"].ravel())[0, 1] > 0.8


def test_sites_and_frame_averages_are_chosen(tmp_path: Path) -> None:
    path = study(tmp_path)
    assert len(read_resolution_manifest(path)) == 8
    assert set(read_resolution_manifest(path, site="spine")["subject"]) == {"subject_01", "subject_03"}
    assert set(read_resolution_manifest(path, frames=1)["lr_frames"]) == {"1"}
    assert len(read_resolution_manifest(path, frames="all", site="all")) == 8
    with pytest.raises(InputError, match="has no row of site tail"):
        read_resolution_manifest(path, site="tail")
    rows = pd.read_csv(path, dtype=str)
    rows.drop(columns="site").to_csv(path, index=False)
    with pytest.raises(InputError, match="must say 'site' in every row"):
        read_resolution_manifest(path, site="femur")


def test_the_range_is_that_of_the_training_specimens(tmp_path: Path) -> None:
    manifest = read_resolution_manifest(study(tmp_path))
    rows = resolution_rows(manifest, "train")
    values = [row["high"].read() for row in rows] + [row["image"].base.base.read() for row in rows]
    assert grey_range(rows) == (min(map(np.min, values)), max(map(np.max, values)))
    with pytest.raises(InputError, match="has no scan"):
        grey_range([])


def test_units_that_neither_scan_nor_manifest_states(tmp_path: Path) -> None:
    path = study(tmp_path, specimens=1)
    rows = pd.read_csv(path, dtype=str)
    rows.drop(columns="units").to_csv(path, index=False)
    manifest = read_resolution_manifest(path, frames=1)
    assert resolution_rows(manifest)[0]["high"].units == "raw"
    assert resolution_rows(manifest, units="mg HA/cm3")[0]["high"].units == "mg HA/cm3"


def test_other_voxel_sizes_than_a_networks_are_refused(tmp_path: Path) -> None:
    rows = resolution_rows(read_resolution_manifest(study(tmp_path), frames=1))
    refuse_other_resolution(rows, 2, None)
    refuse_other_resolution(rows, 2, [20.5, 20, 20])
    with pytest.raises(InputError, match="is 2 times as coarse as its fine scan, and 3 are due"):
        refuse_other_resolution(rows, 3, None)
    with pytest.raises(InputError, match="this was made for 40 x 40 x 40 um"):
        refuse_other_resolution(rows, 2, [40, 40, 40])


def test_one_specimen_on_both_sides_is_leakage_however_it_is_spelled(tmp_path: Path) -> None:
    path = study(tmp_path, specimens=4)
    rows = pd.read_csv(path, dtype=str)
    rows["patient"] = rows["patient"].replace({"mouse 3": "Mouse  0"})
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match="stands in more than one split"):
        read_resolution_manifest(path)
    found = read_resolution_manifest(path, frames=1, allow_leakage=True)
    assert set(found["leakage"]) == {LEAKAGE}
    assert "leakage" not in read_resolution_manifest(study(tmp_path), allow_leakage=True)


def test_pairs_that_would_be_one_specimen_are_refused(tmp_path: Path) -> None:
    path = study(tmp_path, specimens=4)
    rows = pd.read_csv(path, dtype=str)
    rows["patient"], rows["split"], rows["site"] = "mouse", "test", "spine"
    rows.to_csv(path, index=False)
    with pytest.raises(InputError, match="several pairs of subject_00 spine 1 frame; tell them apart in a column part"):
        resolution_rows(read_resolution_manifest(path, frames=1))
    rows["part"] = ["L3", "L3", "L4", "L4", "L5", "L5", "L2", "L2"]
    rows.to_csv(path, index=False)
    assert len(resolution_rows(read_resolution_manifest(path, frames=1))) == 4
