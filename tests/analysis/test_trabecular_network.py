from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.measure import euler_number

from bonemonai.analysis import measure_trabecular_network
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.errors import InputError
from tests.analysis.stopping_volume import StoppingVolume
from tests.array_volume import ArrayVolume


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.floats(0.05, 0.9), st.integers(1, 8))
def test_slabs_give_what_scikit_image_gives(seed: int, share: float, planes: int) -> None:
    random = np.random.default_rng(seed)
    bone, tissue = random.random((8, 7, 6)) < share, random.random((8, 7, 6)) < 0.8
    tissue[0, 0, 0] = True
    volumes = [ArrayVolume(mask.astype(np.uint8), (10, 10, 10)) for mask in (bone, tissue)]
    found = measure_trabecular_network(volumes[0], memory=planes * 42 * 40)
    assert found.euler == euler_number(bone, connectivity=3)
    assert found.euler_edge_corrected == measure_trabecular_network(volumes[0]).euler_edge_corrected
    assert found.tv_mm3 == pytest.approx(bone.size * 1e-6)
    masked = measure_trabecular_network(*volumes, memory=planes * 42 * 40)
    assert masked.euler == euler_number(bone & tissue, connectivity=3)
    assert masked.tv_mm3 == pytest.approx(tissue.sum() * 1e-6)
    assert np.isnan(masked.euler_edge_corrected)


def test_edge_corrected_numbers_of_adjoining_volumes_add_up() -> None:
    bone = (np.random.default_rng(3).random((12, 11, 10)) < 0.4).astype(np.uint8)

    def corrected(part: np.ndarray) -> float:
        return measure_trabecular_network(ArrayVolume(part)).euler_edge_corrected

    for axis, place in ((0, 5), (1, 4), (2, 7)):
        first, second = np.split(bone, [place], axis=axis)
        shared = np.concatenate([first, second.take([0], axis=axis)], axis=axis)
        assert corrected(shared) + corrected(second) == pytest.approx(corrected(bone))


def test_lattice_of_rods() -> None:
    """A periodic lattice of one node a cell, each with three rods: Euler characteristic -2 a cell."""
    bone = np.zeros((40, 40, 40), np.uint8)
    for axis in range(3):
        rods = np.zeros((40, 40, 40), np.uint8)
        moved = np.moveaxis(rods, axis, 0)
        for row in range(5, 40, 10):
            for column in range(5, 40, 10):
                moved[:, row, column] = 1
        bone |= rods
    found = measure_trabecular_network(ArrayVolume(bone, (10, 10, 10)))
    assert found.euler_edge_corrected == -2 * 4**3
    assert found.density_edge_corrected_per_mm3 == pytest.approx(129 / 0.4**3)
    # cut rods end at the faces: nodes - rods between them
    assert found.euler == 4**3 - 3 * 4 * 4 * 3
    assert found.density_per_mm3 == pytest.approx((1 - found.euler) / 0.4**3)


def test_hollow_ball_and_ring() -> None:
    ball = np.zeros((7, 7, 7), np.uint8)
    ball[1:6, 1:6, 1:6] = 1
    ball[3, 3, 3] = 0
    assert measure_trabecular_network(ArrayVolume(ball)).euler == 2
    speckled = np.pad(ball, 4)
    speckled[1, 1, 1] = speckled[3, 12, 12] = 1
    found = measure_trabecular_network(ArrayVolume(speckled), memory=1)
    assert (found.euler, found.pieces, found.cavities) == (4, 3, 1)
    assert found.loops_per_mm3 == 0
    ring = ball.copy()
    ring[:, 3, 3] = 0
    found = measure_trabecular_network(ArrayVolume(ring), memory=1)
    assert (found.euler, found.pieces, found.cavities) == (0, 1, 0)
    assert found.loops_per_mm3 * found.tv_mm3 == pytest.approx(1)


@pytest.mark.parametrize("stop", range(12))
def test_stopped_measurement_goes_on(stop: int, tmp_path: Path) -> None:
    bone = np.random.default_rng(1).random((8, 7, 6)) < 0.4
    memory = 2 * 42 * 40  # two planes a slab, four slabs, each read for Euler, pieces and cavities
    with pytest.raises(KeyboardInterrupt):
        measure_trabecular_network(
            StoppingVolume(bone, stop), memory=memory, record=SlabRecord(tmp_path / "r.json", {})
        )
    resumed = StoppingVolume(bone)
    found = measure_trabecular_network(resumed, memory=memory, record=SlabRecord(tmp_path / "r.json", {}))
    assert resumed.reads == [0, 1, 3, 5, *[0, 2, 4, 6] * 2][stop:]
    for volume, budget in ((StoppingVolume(bone), memory), (StoppingVolume(bone), 64e6)):
        assert measure_trabecular_network(volume, memory=budget) == found


def test_refusals() -> None:
    bone = ArrayVolume(np.ones((3, 3, 3), np.uint8))
    with pytest.raises(InputError, match="marks no tissue"):
        measure_trabecular_network(bone, ArrayVolume(np.zeros((3, 3, 3), np.uint8)))
    with pytest.raises(InputError, match="does not state its voxel size"):
        measure_trabecular_network(ArrayVolume(np.ones((3, 3, 3), np.uint8), None))
