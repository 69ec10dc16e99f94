from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from scipy import ndimage

from bonemonai.errors import InputError
from bonemonai.phantoms import CompressionPhantom
from bonemonai.phantoms.srmct_compression import PhantomState

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
