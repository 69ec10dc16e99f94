from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt

from bonemonai.analysis import DensityCalibration, measure_density
from bonemonai.data import open_volume
from bonemonai.errors import InputError

MM = (1000.0, 1000.0, 1000.0)
LINE = DensityCalibration(0.8, -4.0, "phantom A, 2024-05-01")


def box(shape: tuple[int, int, int], size: tuple[int, int, int], start: int = 2) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(slice(start, start + edge) for edge in size)] = True
    return mask


def brute_force(mask: np.ndarray, size_mm: np.ndarray, erosion_mm: float) -> np.ndarray:
    """Every voxel's box against that of every voxel outside, the surroundings of the array included."""
    padded = np.pad(mask, 1)
    inside, outside = np.argwhere(padded), np.argwhere(~padded)
    gaps = np.maximum(np.abs(inside[:, None] - outside[None]) - 1, 0) * size_mm
    kept = np.zeros(padded.shape, bool)
    kept[padded] = np.linalg.norm(gaps, axis=-1).min(axis=1) >= erosion_mm
    return kept[1:-1, 1:-1, 1:-1]


@given(st.integers(0, 100_000))
@settings(max_examples=25)
def test_agrees_with_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mask = box((7, 10, 9), tuple(rng.integers(4, 6, 3)), start=int(rng.integers(0, 3)))  # type: ignore[arg-type]
    mask[tuple(rng.integers(0, n) for n in mask.shape)] ^= True
    size_um, erosion = rng.uniform(500, 3000, 3), float(rng.uniform(0.1, 3))
    hu = rng.normal(150, 40, mask.shape)
    kept = brute_force(mask, size_um / 1000, erosion)
    if not kept.any():
        with pytest.raises(InputError, match=r"^body mask: holds nothing"):
            measure_density(hu, mask, size_um.tolist(), erosion_mm=erosion)
        return
    row = measure_density(hu, mask, size_um.tolist(), erosion_mm=erosion).iloc[0]
    assert (row["mask_voxels"], row["voxels"]) == (mask.sum(), kept.sum())
    assert row["mean_hu"] == pytest.approx(hu[kept].mean())
    assert row["volume_mm3"] == pytest.approx(kept.sum() * np.prod(size_um) / 1e9)
    if kept.sum() > 1:
        assert row["sd_hu"] == pytest.approx(hu[kept].std(ddof=1))


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_agrees_with_the_sum_of_a_ball_and_a_voxel_where_voxels_are_cubes(radius: int) -> None:
    mask = np.linalg.norm(np.indices((21, 21, 21)) - 10, axis=0) < 8.5
    hu = np.random.default_rng(0).normal(100, 30, mask.shape)
    # closer than the radius, so the ball is open; a voxel on either side of the gap
    element = np.pad(np.linalg.norm(np.indices((2 * radius + 1,) * 3) - radius, axis=0) < radius, 1)
    kept = binary_erosion(mask, binary_dilation(element, np.ones((3, 3, 3))))
    row = measure_density(hu, mask, MM, erosion_mm=radius).iloc[0]
    assert row["voxels"] == kept.sum()
    assert row["mean_hu"] == pytest.approx(hu[kept].mean())


def test_cortex_is_left_out() -> None:
    mask = box((24, 30, 30), (20, 26, 26))
    hu = np.where(mask, 600.0, -50.0)
    core = box(mask.shape, (16, 22, 22), start=4)
    hu[core] = 140
    table = measure_density(hu, mask, MM)
    assert table["mean_hu"].tolist() == [140.0] * 3
    assert table["sd_hu"].tolist()[:2] == [0.0, 0.0]
    assert measure_density(hu, mask, MM, erosion_mm=0)["mean_hu"].iloc[0] > 200


def test_bodies_and_overall() -> None:
    labels = box((10, 20, 40), (6, 12, 10)).astype(np.int32) * 20
    labels[2:8, 2:14, 14:26] = 21  # touches the first: each is the other's outside
    labels[0, 18, 38] = 700
    hu = np.where(labels == 20, 100.0, 200.0)
    table = measure_density(hu, labels, MM, erosion_mm=2)
    assert table.columns.tolist() == ["vertebra", "mask_voxels", "voxels", "volume_mm3", "mean_hu", "sd_hu"]
    assert table["vertebra"].tolist() == ["20", "21", "700", "all voxels", "mean of bodies"]
    assert table["mask_voxels"].tolist() == [720, 864, 1, 1585, 1585]
    first, second = 2 * 8 * 6, 2 * 8 * 8
    assert table["voxels"].tolist() == [first, second, 0, first + second, first + second]
    assert table["volume_mm3"].tolist() == table["voxels"].tolist()
    pooled = (100 * first + 200 * second) / (first + second)
    np.testing.assert_allclose(table["mean_hu"], [100, 200, np.nan, pooled, 150])
    assert table["sd_hu"].iloc[4] == pytest.approx(np.std([100, 200], ddof=1))
    alone = measure_density(hu, labels == 20, MM, erosion_mm=2)
    assert alone["vertebra"].tolist() == ["1", "all voxels", "mean of bodies"]
    assert math.isnan(alone["sd_hu"].iloc[2])


def test_a_mask_without_outside_is_numbered_right() -> None:
    labels = np.full((9, 9, 9), 22)
    table = measure_density(np.full(labels.shape, 5.0), labels, MM)
    assert table[["vertebra", "voxels"]].iloc[0].tolist() == ["22", 27]


@pytest.mark.parametrize(
    ("size_um", "dropped"),  # on each side, along planes, rows and columns
    [
        ((5000, 1000, 1000), (1, 3, 3)),
        ((5000, 3240, 3240), (1, 1, 1)),
        ((7000, 3000, 2999), (1, 1, 2)),
        ((2500, 1500, 750), (2, 2, 4)),
        ((1250, 400, 390), (3, 8, 8)),
    ],
)
def test_no_part_of_the_outer_three_millimetres_stays(
    size_um: tuple[int, int, int], dropped: tuple[int, int, int]
) -> None:
    edges = np.array([2 * n + 3 for n in dropped])
    mask = np.pad(np.ones(edges, bool), 2)
    hu = np.where(mask, 600.0, -50.0)
    core = tuple(slice(2 + n, 2 + n + 3) for n in dropped)
    hu[core] = 140
    row = measure_density(hu, mask, size_um, erosion_mm=3).iloc[0]
    assert (row["voxels"], row["mean_hu"], row["sd_hu"]) == (27, 140, 0)
    assert all(n * edge >= 3000 > (n - 1) * edge for n, edge in zip(dropped, size_um, strict=True))


def test_end_plates_of_thick_slices_are_left_out_but_not_in_plane() -> None:
    mask = box((9, 30, 30), (6, 20, 20))
    hu = np.where(mask, 140.0, -50.0)
    hu[[2, 7]] = 600
    sizes = (5000, 1000, 1000)
    assert measure_density(hu, mask, sizes)["mean_hu"].iloc[0] == 140
    row = measure_density(hu, mask, sizes, in_plane=True).iloc[0]
    assert row["voxels"] == 6 * 14 * 14
    assert row["mean_hu"] == pytest.approx((4 * 140 + 2 * 600) / 6)


def test_an_oblique_surface_is_as_deep_as_on_a_fine_grid() -> None:
    """The distance from a voxel's box to the mask's surface, on a grid of eight parts a voxel's edge."""
    fine, size_mm = 8, np.array([1.5, 0.8, 1.0])
    mask = np.linalg.norm((np.indices((11, 17, 15)).T - [5, 8, 7]) * size_mm, axis=-1).T < 6.5
    parts = mask.repeat(fine, 0).repeat(fine, 1).repeat(fine, 2)
    depth = distance_transform_edt(np.pad(parts, 1), sampling=size_mm / fine)[1:-1, 1:-1, 1:-1]
    depth = depth.reshape(11, fine, 17, fine, 15, fine).min(axis=(1, 3, 5))
    hu = np.random.default_rng(1).normal(size=mask.shape)
    voxels = [measure_density(hu, mask, size_mm * 1000, erosion_mm=mm)["voxels"].iloc[0] for mm in (1.1, 2.2, 3.3)]
    # centres of parts lie one part further apart than their faces
    diagonal = float(np.linalg.norm(size_mm / fine))
    for mm, count in zip((1.1, 2.2, 3.3), voxels, strict=True):
        assert (depth > mm + diagonal).sum() <= count <= (depth > mm).sum()


def test_a_single_plane_is_eroded_within_the_plane() -> None:
    mask = np.zeros((1, 30, 30), bool)
    mask[0, 5:25, 5:25] = True
    table = measure_density(np.ones(mask.shape), mask, (5000, 1000, 1000))
    assert table["voxels"].iloc[0] == 14 * 14
    assert table["volume_mm3"].iloc[0] == 14 * 14 * 5


def test_marked_slices_are_eroded_within_their_planes() -> None:
    mask = np.zeros((9, 30, 30), bool)
    mask[2, 5:25, 5:25] = mask[3, 5:25, 5:25] = mask[7, 5:20, 5:20] = True
    hu = np.random.default_rng(0).normal(100, 20, mask.shape)
    with pytest.raises(InputError, match="holds nothing 3 mm or more"):
        measure_density(hu, mask, (2000, 1000, 1000))
    row = measure_density(hu, mask, (2000, 1000, 1000), in_plane=True).iloc[0]
    kept = np.stack([brute_force(np.stack([plane] * 3), np.array([9.0, 1, 1]), 3)[1] for plane in mask])
    assert row["voxels"] == kept.sum() == 2 * 14 * 14 + 9 * 9
    assert row["mean_hu"] == pytest.approx(hu[kept].mean())


def test_calibration() -> None:
    labels = np.zeros((9, 9, 30), np.uint8)
    hu = np.zeros(labels.shape)
    for index, value in enumerate((160, 155, 105, 104), start=1):
        labels[:, :, 7 * index - 7 : 7 * index] = index
        hu[labels == index] = value
    table = measure_density(hu, labels, MM, calibration=LINE)
    assert table.columns.tolist()[6:] == ["bmd_mg_cm3", "sd_mg_cm3", "acr_range", "calibration"]
    np.testing.assert_allclose(table["bmd_mg_cm3"][:4], [124, 120, 80, 79.2])
    assert table["acr_range"][:4].tolist() == ["above 120", "80 to 120", "80 to 120", "below 80"]
    np.testing.assert_allclose(table["sd_mg_cm3"], 0.8 * table["sd_hu"])
    assert table["calibration"].unique().tolist() == ["phantom A, 2024-05-01"]
    assert table["bmd_mg_cm3"].iloc[-1] == pytest.approx(table["bmd_mg_cm3"][:4].mean())
    nothing_left = np.where(labels == 4, 0, labels)
    nothing_left[0, 0, 29] = 9
    row = measure_density(hu, nothing_left, MM, calibration=LINE).set_index("vertebra").loc["9"]
    assert (row["voxels"], row["acr_range"]) == (0, "")
    assert math.isnan(row["bmd_mg_cm3"])


@pytest.mark.parametrize(
    ("slope", "intercept", "source", "message"),
    [
        (0.0, 0.0, "a", "has slope 0 mg/cm3 a HU and intercept 0"),
        (-1.0, 0.0, "a", "the slope is above 0"),
        (math.nan, 0.0, "a", "both are finite"),
        (1.0, math.inf, "a", "both are finite"),
        (1.0, 0.0, " ", "has no source; name the phantom"),
    ],
)
def test_refused_lines(slope: float, intercept: float, source: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^calibration: .*{message}"):
        DensityCalibration(slope, intercept, source)


def test_refusals() -> None:
    mask, hu = box((9, 12, 12), (5, 8, 8)), np.full((9, 12, 12), 100.0)
    for bad, message in (
        (np.zeros_like(mask), "is empty; mark a vertebral body"),
        (mask[1:], r"is of \(8, 12, 12\) and the grey values of \(9, 12, 12\) voxels"),
        (mask.astype(float), "is float64; give bool, or integers"),
        (mask * -1, "holds -1; bodies are numbered from 1"),
    ):
        with pytest.raises(InputError, match=f"^body mask: {message}"):
            measure_density(hu, bad, MM)
    with pytest.raises(InputError, match=r"holds nothing 4 mm or more below its surface; erode less"):
        measure_density(hu, mask, MM, erosion_mm=4)
    hu[4, 5, 5] = np.nan
    with pytest.raises(InputError, match=r"^grey values: inside body 1 are not all finite"):
        measure_density(hu, mask, MM, erosion_mm=1)
    for size in ((1000, 1000), (1000, 0, 1000), (1000, math.nan, 1000)):
        with pytest.raises(ValueError, match=r"voxel_size_um must be three numbers above 0"):
            measure_density(hu, mask, size)
    for erosion in (-1, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"erosion_mm must be finite and 0 or more"):
            measure_density(hu, mask, MM, erosion_mm=erosion)


def test_real_vertebral_body(sample_data: Path) -> None:
    """L3 of a public scan; 49 and 50 are cortex and core of the vertebral body."""
    folder = sample_data / "ct-tptbox-l3-subregions"
    scan, parts, vertebrae = (
        open_volume(next(folder.glob(name))) for name in ("*_ct.nii.gz", "*seg-subreg*", "*seg-vert*")
    )
    body = np.isin(parts.read(), [49, 50]) & (vertebrae.read() == 22)
    assert scan.voxel_size_um is not None
    values = scan.read()
    row = measure_density(values, body, scan.voxel_size_um).iloc[0]
    assert 0 < row["voxels"] < row["mask_voxels"]
    assert 20 < row["mean_hu"] < 400
    assert row["mean_hu"] < values[body].mean()  # cortex is denser
