from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage
from scipy.stats import kurtosis
from skimage.exposure import match_histograms

from bonemonai.errors import InputError
from bonemonai.phantoms import CompressionPhantom
from bonemonai.phantoms.srmct_compression import POROSITY_RANGE, TRABECULAR_BV_TV_RANGE, PhantomState

PAPER_STATES = {"cortical": 20, "trabecular": 15}
VISIBLE = {"cortical": 13, "trabecular": 12}
KINDS = ["cortical", "trabecular"]


@cache
def phantom(bone: str) -> CompressionPhantom:
    """As many states as the paper's, one bone volume fraction for all tests."""
    shape = (40, 56, 60)
    return CompressionPhantom(bone, shape, 1, PAPER_STATES[bone], bv_tv=0.25 if bone == "trabecular" else None)


@cache
def scan(bone: str, number: int) -> PhantomState:
    return phantom(bone).state(number)


@pytest.mark.parametrize("bone", KINDS)
@pytest.mark.parametrize("motion", [0.0, 2.0])
def test_a_state_depends_on_seed_and_number_alone(bone: str, motion: float) -> None:
    arguments = {"bone": bone, "shape": (18, 24, 26), "motion_voxels": motion}
    one, again = (CompressionPhantom(**arguments, seed=4) for _ in range(2))
    one.state(1)
    for mine, other in zip(one.state(3), again.state(3), strict=True):
        np.testing.assert_array_equal(mine, other)
    image, crack, ring, mask = CompressionPhantom(**arguments, seed=5).state(3)
    assert not np.array_equal(image, one.state(3).image)
    assert (image.dtype, crack.dtype, ring.dtype, mask.dtype) == (np.float32, np.uint8, np.uint8, np.uint8)
    assert {array.shape for array in (image, crack, ring, mask)} == {(18, 24, 26)}


@pytest.mark.parametrize("bone", KINDS)
def test_anatomy_is_the_same_at_every_state_and_noise_is_not(bone: str) -> None:
    for number in (2, 5, PAPER_STATES[bone]):
        np.testing.assert_array_equal(scan(bone, number).bone, scan(bone, 1).bone)
    plain = CompressionPhantom(bone, (24, 24, 24), artefacts=False, states=20)
    difference = plain.state(3).image - plain.state(2).image
    assert difference.std() == pytest.approx(0.06 * np.sqrt(2), rel=0.05)  # both noises, independent
    assert abs(difference.mean()) < 0.003


@pytest.mark.parametrize(("seed", "size"), [(0, 64), (1, 64), (2, 64), (3, 64), (4, 64), (0, 128)])
def test_porosity_of_cortical_bone_is_the_papers(seed: int, size: int) -> None:
    sample = CompressionPhantom("cortical", (size,) * 3, seed)
    porosity = 1 - sample.state(1).bone.mean()
    assert porosity == pytest.approx(1 - sample.bone_volume_fraction, abs=1e-4)
    assert POROSITY_RANGE[0] - 1e-4 <= porosity <= POROSITY_RANGE[1] + 1e-4


def test_porosity_comes_from_canals_along_the_load() -> None:
    pores = CompressionPhantom("cortical", (96, 96, 96), 3).state(1).bone == 0
    labels, count = ndimage.label(pores)
    heights = [box[0].stop - box[0].start for box in ndimage.find_objects(labels)]
    assert max(heights) == 96
    # pores continue along z further than across it
    along, across = (np.mean(pores & np.roll(pores, 12, axis)) / pores.mean() for axis in (0, 1))
    assert along > 0.5 > 0.25 > across
    assert count >= 2


def test_bv_tv_of_trabecular_bone() -> None:
    for seed in range(3):
        sample = CompressionPhantom("trabecular", (48, 48, 48), seed)
        assert TRABECULAR_BV_TV_RANGE[0] <= sample.bone_volume_fraction <= TRABECULAR_BV_TV_RANGE[1]
        assert sample.state(1).bone.mean() == pytest.approx(sample.bone_volume_fraction, abs=1e-4)
    drawn = [CompressionPhantom("trabecular", seed=seed).bone_volume_fraction for seed in range(40)]
    assert min(drawn) < 0.15
    assert max(drawn) > 0.28


def test_trabecular_bone_is_a_network_of_rods_below_17_percent_and_of_plates_above_25() -> None:
    wide = {}
    for bv_tv in (0.14, 0.29):
        bone = CompressionPhantom("trabecular", (96, 96, 96), 0, bv_tv=bv_tv).state(1).bone.astype(bool)
        labels, _ = ndimage.label(bone)
        assert np.bincount(labels.ravel())[1:].max() > 0.9 * bone.sum()
        _, middle, long = _local_inertia(bone).T
        wide[bv_tv] = np.median(middle / long)
    # of a rod's pieces one extent is large, of a plate's two are
    assert wide[0.14] < 0.45 < 0.65 < wide[0.29]


def _local_inertia(bone: np.ndarray, radius: int = 14) -> np.ndarray:
    """Variances of bone within balls round places deep in bone, ascending: (n, 3)."""
    depth = ndimage.distance_transform_edt(bone)
    ridge = bone & (depth == ndimage.maximum_filter(depth, 5))
    ridge[:radius] = ridge[-radius:] = ridge[:, :radius] = ridge[:, -radius:] = False
    ridge[:, :, :radius] = ridge[:, :, -radius:] = False
    grid = np.stack(np.mgrid[(slice(-radius, radius + 1),) * 3], axis=-1)
    ball = (grid**2).sum(axis=-1) <= radius**2
    values = []
    for place in np.argwhere(ridge)[::3]:
        piece = bone[tuple(slice(p - radius, p + radius + 1) for p in place)] & ball
        values.append(np.linalg.eigvalsh(np.cov(grid[piece].T)))
    return np.array(values)


@pytest.mark.parametrize("bone", KINDS)
def test_cracks_open_with_the_state(bone: str) -> None:
    numbers = (1, 2, VISIBLE[bone] - 1, *range(VISIBLE[bone], PAPER_STATES[bone] + 1))
    cracks = [scan(bone, number).crack for number in numbers]
    volumes = [int(crack.sum()) for crack in cracks]
    assert volumes[0] == volumes[1] == volumes[2] == 0  # nothing is half open
    assert volumes[3] > 100
    assert volumes == sorted(volumes)
    for smaller, larger in pairwise(cracks):
        assert not (smaller & ~larger).any()
    assert not (cracks[-1] & ~scan(bone, 1).bone).any()
    openings = [phantom(bone).opening_voxels(number) for number in range(1, PAPER_STATES[bone] + 1)]
    assert openings[0] == 0
    assert openings == sorted(set(openings))
    assert phantom(bone).visible_from == VISIBLE[bone]


@pytest.mark.parametrize("bone", KINDS)
@pytest.mark.parametrize("states", [2, 3, 4, 7])
def test_the_last_of_few_states_shows_the_crack_and_the_first_does_not(bone: str, states: int) -> None:
    sample = CompressionPhantom(bone, (32, 40, 40), 2, states)
    assert not sample.state(1).crack.any()
    assert sample.state(sample.visible_from).crack.any()
    assert sample.state(states).crack.sum() > 100
    assert sample.opening_voxels(sample.visible_from) * 0.8 >= 1.5
    assert sample.opening_voxels(sample.visible_from - 1) <= 0.35


@pytest.mark.parametrize("bone", KINDS)
def test_cracks_are_seen_from_the_papers_state_on(bone: str) -> None:
    last = PAPER_STATES[bone]
    intact = scan(bone, 1).bone.astype(bool)
    inner = ndimage.binary_erosion(intact, iterations=2, border_value=1)
    crack = scan(bone, last).crack.astype(bool)
    site, rest = crack & inner, inner & ~ndimage.binary_dilation(crack, iterations=3)
    plain = CompressionPhantom(bone, phantom(bone).shape, 1, last, artefacts=False, bv_tv=phantom(bone).bv_tv)
    contrast = {}
    for number in (1, 2, VISIBLE[bone] - 1, VISIBLE[bone], last):
        image = plain.state(number).image
        contrast[number] = (image[rest].mean() - image[site].mean()) / image[rest].std()
    assert abs(contrast[1]) < 0.2
    assert contrast[VISIBLE[bone] - 1] < 1
    assert contrast[VISIBLE[bone]] > (3 if bone == "cortical" else 1.5)  # trabecular gaps open one after the other
    assert contrast[last] > 4


def test_the_cortical_crack_is_one_longitudinal_surface_that_pierces_the_volume() -> None:
    crack = CompressionPhantom("cortical", (64, 64, 64), 2).state(4).crack
    labels, _ = ndimage.label(crack, np.ones((3, 3, 3)))
    assert np.bincount(labels.ravel())[1:].max() > 0.95 * crack.sum()
    assert crack.any(axis=(1, 2)).all()  # in every plane along the load
    points = np.argwhere(crack)
    variances, axes = np.linalg.eigh(np.cov(points.T))
    assert variances[0] < 0.1 * variances[1]
    assert abs(axes[0, 0]) < np.sin(np.radians(12))  # its normal is across the load


def test_trabecular_gaps_are_many_and_lie_across_the_load() -> None:
    sample = CompressionPhantom("trabecular", (96, 96, 96), 1, bv_tv=0.25)
    crack = sample.state(4).crack
    labels, count = ndimage.label(crack, np.ones((3, 3, 3)))
    assert count >= 5
    sizes = np.bincount(labels.ravel())
    for label in np.flatnonzero(sizes[1:] > 250) + 1:
        assert np.ptp(np.argwhere(labels == label), axis=0).argmin() == 0


@pytest.mark.parametrize("bone", KINDS)
def test_state_1_is_told_by_its_noise_until_matching_and_median(bone: str) -> None:
    first, *others = (scan(bone, number).image[:32] for number in (1, 2, 5))
    contrast = [np.ptp(np.percentile(image, [5, 95])) for image in (first, *others)]
    assert first.mean() > max(image.mean() for image in others) + 0.05
    assert contrast[0] > 1.08 * max(contrast[1:])
    noise = [image - ndimage.median_filter(image, 3) for image in (first, *others)]
    assert noise[0].std() > 1.2 * max(residual.std() for residual in noise[1:])
    assert kurtosis(noise[0], axis=None) > 4 > 0.6 > max(abs(kurtosis(residual, axis=None)) for residual in noise[1:])

    matched = [first, *(match_histograms(image, first) for image in others)]
    clean = [ndimage.median_filter(image, 3) for image in matched]
    assert np.ptp([image.mean() for image in clean]) < 0.01
    assert np.ptp([image.std() for image in clean]) < 0.01
    residuals = [(image - ndimage.median_filter(image, 3)).std() for image in clean]
    assert max(residuals) < 1.04 * min(residuals)


def test_impulses_are_half_a_percent_of_state_1() -> None:
    with_artefacts = CompressionPhantom("cortical", (32, 32, 32), 3).state(1).image
    residual = with_artefacts - ndimage.median_filter(with_artefacts, 3)
    assert (np.abs(residual) > 0.45).mean() == pytest.approx(0.005, rel=0.15)


@pytest.mark.parametrize("bone", KINDS)
def test_rings_differ_and_lie_where_their_mask_says(bone: str) -> None:
    arguments = {"bone": bone, "shape": (24, 64, 64), "seed": 6}
    rings = []
    for number in (2, 3):
        ring = CompressionPhantom(**arguments).state(number).ring
        rings.append(ring)
        image = CompressionPhantom(**arguments).state(number).image
        plain = CompressionPhantom(**arguments, artefacts=False).state(number)
        assert not plain.ring.any()
        slope, offset = np.polyfit(plain.image[ring == 0], image[ring == 0], 1)  # drift of contrast and brightness
        added = (image - offset) / slope - plain.image
        assert np.abs(added[ring == 0]).max() < 1e-4
        assert 0.5 * 0.06 - 1e-3 < np.abs(added[ring == 1]).min() <= np.abs(added[ring == 1]).max() < 0.06 + 1e-3
    assert 0.03 < rings[0].mean() < 0.6
    assert not np.array_equal(rings[0], rings[1])
    np.testing.assert_array_equal(rings[0], rings[0][:, ::-1, ::-1])  # round the volume's axis
    np.testing.assert_array_equal(rings[0], rings[0].transpose(0, 2, 1))


@pytest.mark.parametrize("bone", KINDS)
def test_motion_is_the_transform_stated(bone: str) -> None:
    arguments = {"bone": bone, "shape": (56, 64, 60), "seed": 0, "artefacts": False}
    moving, still = CompressionPhantom(**arguments, motion_voxels=3.0), CompressionPhantom(**arguments)
    np.testing.assert_array_equal(moving.to_first(1), np.eye(4))
    np.testing.assert_array_equal(moving.state(1).image, still.state(1).image)
    matrix = moving.to_first(4)
    np.testing.assert_allclose(matrix[:3, :3] @ matrix[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.norm(matrix[:3, :3] - np.eye(3)) > 0.05
    moved, first = moving.state(4), still.state(4)
    void = bone == "cortical"  # of cortical bone the canals, there being nearly nothing but bone
    for before, after in ((first.bone != void, moved.bone != void), (first.crack > 0, moved.crack > 0)):
        expected = ndimage.affine_transform(before.astype(float), matrix, order=1, mode="nearest") >= 0.5
        inner = (slice(10, -10),) * 3
        overlap = _dice(after[inner], expected[inner])
        assert overlap > 0.88
        assert _dice(after[inner], before[inner]) < overlap - 0.1
        for shift in (*np.eye(3, dtype=int), *-np.eye(3, dtype=int)):  # no other place is better
            assert _dice(after[inner], np.roll(expected, shift, (0, 1, 2))[inner]) < overlap


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * float((one & other).sum()) / float(one.sum() + other.sum())


@pytest.mark.parametrize("bone", KINDS)
def test_larger_voxels_show_more_of_the_same_anatomy(bone: str) -> None:
    fine = CompressionPhantom(bone, (64, 64, 64), 3, voxel_size_um=6.5, bv_tv=0.25 if bone == "trabecular" else 0.967)
    coarse = CompressionPhantom(bone, (32, 32, 32), 3, voxel_size_um=13, bv_tv=fine.bv_tv)
    coverage = fine.state(1).bone.reshape(32, 2, 32, 2, 32, 2).mean(axis=(1, 3, 5))
    # half a fine voxel apart, so surfaces differ
    assert np.corrcoef(coverage.ravel(), coarse.state(1).bone.ravel())[0, 1] > 0.8


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ({"bone": "enamel"}, "bone: must be one of cortical, trabecular, got 'enamel'"),
        ({"states": 1}, "states: must be >= 2.*got 1"),
        ({"shape": (8, 64, 64)}, r"shape: must be three sizes \(z, y, x\) >= 16, got \(8, 64, 64\)"),
        ({"shape": (64, 64, 0)}, "shape: must be"),
        ({"seed": -1}, "seed: must be >= 0, got -1"),
        ({"voxel_size_um": 0.0}, "voxel_size_um: must be > 0"),
        ({"voxel_size_um": 1.5}, "voxel_size_um: must .* at least 100 um long.*got 1.5"),
        ({"motion_voxels": 17.0}, "motion_voxels: must be >= 0, at most a quarter"),
        ({"bv_tv": 1.0}, r"bv_tv: must be within \(0, 1\), a fraction, got 1.0"),
    ],
)
def test_wrong_arguments(arguments: dict, cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        CompressionPhantom(**{"bone": "cortical", **arguments})


@pytest.mark.parametrize("number", [0, 5])
def test_a_state_that_is_not_there_is_refused(number: int) -> None:
    sample = CompressionPhantom("cortical", (16, 16, 16), states=4)
    with pytest.raises(InputError, match=f"state: must be within 1 to 4, got {number}"):
        sample.state(number)
