from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.phantoms import POPULATIONS, SRMicroCTPhantom, population_of
from bonemonai.phantoms.srmct_lacunae import OBLATENESS_RANGE, STRETCH_RANGE, VOLUME_RANGE_UM3, semi_axes_um


@pytest.fixture(scope="module")
def populations() -> dict[str, np.ndarray]:
    """Ellipsoids drawn in 0.023 mm3 of solid bone."""
    shape = (100, 240, 240)
    return {
        name: SRMicroCTPhantom(shape, seed=5, diagnosis=name, bone="cortical")._draw_ellipsoids(0, 100)
        for name in POPULATIONS
    }


@pytest.mark.parametrize("bone", ["trabecular", "cortical"])
@pytest.mark.parametrize("grey_range", ["positive", "negative"])
def test_blocks_fit_together_bit_for_bit(bone: str, grey_range: str) -> None:
    phantom = SRMicroCTPhantom((9, 60, 50), seed=1, bone=bone, grey_range=grey_range)
    whole = phantom.block(0, 9)
    again = SRMicroCTPhantom((9, 60, 50), seed=1, bone=bone, grey_range=grey_range)
    for planes in (1, 4):
        parts = [block for _, block in again.blocks(planes)]
        for name in ("image", "lacunae", "bone"):
            np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in parts]), getattr(whole, name))


def test_seeds_differ() -> None:
    one, two = (SRMicroCTPhantom((2, 40, 40), seed=seed).block(0, 2).image for seed in (1, 2))
    assert not np.allclose(one, two)


@pytest.mark.parametrize(("grey_range", "low", "high"), [("positive", 0, 1), ("negative", -1, 0)])
def test_grey_ranges_are_the_papers(grey_range: str, low: float, high: float) -> None:
    image = SRMicroCTPhantom((4, 80, 80), seed=1, grey_range=grey_range).block(0, 4).image
    assert image.dtype == np.float32
    assert low <= image.min() < image.max() <= high


def test_lacunae_lie_in_bone_and_truth_is_dark() -> None:
    block = SRMicroCTPhantom((12, 200, 200), seed=2).block(0, 12)
    lacunae, bone = block.lacunae.astype(bool), block.bone.astype(bool)
    assert lacunae.sum() > 1000
    assert not (lacunae & ~bone).any()
    assert block.image[lacunae].mean() < block.image[bone & ~lacunae].mean() - 0.1
    # but no threshold parts them: the ranges overlap
    assert np.percentile(block.image[lacunae], 75) > np.percentile(block.image[bone & ~lacunae], 1)


@pytest.mark.parametrize("fraction", [0.3, 0.8])
def test_bone_fraction_is_what_was_asked_for(fraction: float) -> None:
    block = SRMicroCTPhantom((40, 200, 200), seed=3, bone_fraction=fraction).block(0, 40)
    assert block.bone.mean() == pytest.approx(fraction, abs=0.05)


def test_every_lacuna_is_within_the_measured_ranges(populations: dict[str, np.ndarray]) -> None:
    for drawn in populations.values():
        a, b, c = drawn[:, 3:6].T
        assert VOLUME_RANGE_UM3[0] <= (4 / 3 * np.pi * a * b * c).min()
        assert (4 / 3 * np.pi * a * b * c).max() <= VOLUME_RANGE_UM3[1] * (1 + 1e-9)
        stretch, oblateness = 1 - c / a, 2 * (b - c) / (a - c) - 1
        assert STRETCH_RANGE[0] - 1e-9 <= stretch.min() <= stretch.max() <= STRETCH_RANGE[1] + 1e-9
        assert OBLATENESS_RANGE[0] - 1e-9 <= oblateness.min() <= oblateness.max() <= OBLATENESS_RANGE[1] + 1e-9


def test_ranges_are_those_of_the_real_table(sample_data: Path) -> None:
    table: dict[str, list[float]] = {"Volume": [], "stretch": [], "oblateness": []}
    for file in sorted((sample_data / "osteon-masks-and-lacuna-table").glob("cells_*.csv")):
        with open(file, newline="") as stream:
            for name, *values in csv.reader(stream):
                if name in table:
                    table[name] += map(float, values)
    for name, (low, high) in zip(table, (VOLUME_RANGE_UM3, STRETCH_RANGE, OBLATENESS_RANGE), strict=True):
        assert min(table[name]) == pytest.approx(low, abs=0.02 * (max(table[name]) - min(table[name])))
        assert max(table[name]) == pytest.approx(high, abs=0.02 * (max(table[name]) - min(table[name])))


def test_classes_differ_by_the_stated_amounts(populations: dict[str, np.ndarray]) -> None:
    bone_mm3 = 100 * 240 * 240 * 1.6**3 * 1e-9
    for name, drawn in populations.items():
        stated = POPULATIONS[name]
        inside = ((drawn[:, :3] >= 0) & (drawn[:, :3] < np.array([100, 240, 240]) * 1.6)).all(axis=1)
        a, b, c = drawn[inside, 3:6].T
        phantom = SRMicroCTPhantom((100, 240, 240), seed=5, diagnosis=name, bone="cortical")
        solid = np.mean([phantom.block(z, z + 1).bone.mean() for z in (0, 50, 99)])
        # vessels and the 8 um round them hold none
        assert inside.sum() / (bone_mm3 * solid) == pytest.approx(stated.number_density_per_mm3, rel=0.12)
        assert np.median(4 / 3 * np.pi * a * b * c) == pytest.approx(stated.volume_um3, rel=0.1)
        assert np.mean(1 - c / a) == pytest.approx(stated.stretch, abs=0.02)


def test_no_two_centres_are_nearer_than_16_um(populations: dict[str, np.ndarray]) -> None:
    centres = populations["healthy"][:, :3]
    distance = np.linalg.norm(centres[:, None] - centres[None], axis=-1)
    np.fill_diagonal(distance, np.inf)
    assert distance.min() >= 16.0


def test_drawn_volume_is_the_ellipsoids_volume() -> None:
    phantom = SRMicroCTPhantom((64, 140, 140), seed=8, bone="cortical", voxel_size_um=0.8)
    drawn = phantom._draw_ellipsoids(0, 64)
    centre = drawn[:, :3] / 0.8
    inner = ((centre > 18) & (centre < np.array([64, 140, 140]) - 18)).all(axis=1)
    labels, _ = ndimage.label(phantom.block(0, 64).lacunae)
    checked = 0
    for middle, axes in zip(centre[inner], drawn[inner, 3:6], strict=True):
        label = labels[tuple(np.round(middle).astype(int))]
        voxels = np.count_nonzero(labels == label) * 0.8**3
        assert voxels == pytest.approx(4 / 3 * np.pi * axes.prod(), rel=0.1)
        checked += 1
    assert checked >= 3


def test_semi_axes_round_trip() -> None:
    axes = semi_axes_um(np.array([300.0]), np.array([0.7]), np.array([-0.3]))[0]
    a, b, c = axes
    assert a >= b >= c
    assert 4 / 3 * np.pi * axes.prod() == pytest.approx(300)
    assert (1 - c / a, 2 * (b - c) / (a - c) - 1) == pytest.approx((0.7, -0.3))


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"shape": (0, 4, 4)}, "shape must be >= 1"),
        ({"bone_fraction": 1.0}, r"bone_fraction must be within \(0, 1\), got 1.0"),
        ({"voxel_size_um": 0}, "voxel_size_um must be > 0"),
    ],
)
def test_wrong_arguments(arguments: dict, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        SRMicroCTPhantom(**{"shape": (2, 4, 4), "seed": 0, **arguments})


def test_block_outside_is_refused() -> None:
    with pytest.raises(IndexError, match="not within 2"):
        SRMicroCTPhantom((2, 20, 20), seed=0).block(1, 3)


def test_effect_exaggerates_the_difference_and_1_is_the_literature() -> None:
    healthy, osteoporotic = (POPULATIONS[name] for name in ("healthy", "osteoporotic"))
    assert population_of("osteoporotic") == osteoporotic
    assert population_of("healthy", 3) == pytest.approx(healthy)
    assert population_of("osteoporotic", 0) == pytest.approx(healthy)
    ratio = osteoporotic.volume_um3 / healthy.volume_um3
    assert population_of("osteoporotic", 3).volume_um3 == pytest.approx(healthy.volume_um3 * ratio**3)
    volumes = []
    for effect in (1.0, 3.0):
        block = SRMicroCTPhantom((60, 120, 120), 0, "osteoporotic", bone="cortical", effect=effect).block(0, 60)
        volumes.append(block.lacunae.sum() / ndimage.label(block.lacunae)[1])
    assert volumes[1] > 1.3 * volumes[0]
