from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk

from bonemonai.analysis import BoneEnvelope
from bonemonai.errors import InputError
from tests.array_volume import ArrayVolume, in_blocks


def ring(gap: int = 0) -> np.ndarray:
    radius = np.hypot(*np.mgrid[-20:21, -22:23])
    plane = (radius < 18) & (radius > 14)
    if gap:
        plane[20 - gap // 2 : 20 - gap // 2 + gap, 22:] = False
    return np.stack([plane] * 3).astype(np.uint8)


def test_cortex_is_filled() -> None:
    envelope = BoneEnvelope(ArrayVolume(ring(), (10, 10, 10)), closing_um=0)
    radius = np.hypot(*np.mgrid[-20:21, -22:23])
    np.testing.assert_array_equal(in_blocks(envelope, 2), np.stack([radius < 18] * 3))
    assert envelope.rule == "bone envelope, filled in each plane after closing by 0 um"


def test_gap_is_closed_if_the_disk_is_large_enough() -> None:
    open_ring = ArrayVolume(ring(gap=5), (10, 10, 10))
    assert BoneEnvelope(open_ring, closing_um=0).read().sum() == open_ring.values.sum()
    filled = BoneEnvelope(open_ring, closing_um=60).read()[1]
    assert filled[20, 22] == 1
    assert filled.sum() > 0.97 * (np.hypot(*np.mgrid[-20:21, -22:23]) < 18).sum()


@pytest.mark.parametrize("radius", [1, 3, 6])
def test_closing_is_that_of_a_disk(radius: int) -> None:
    plane = np.random.default_rng(radius).random((40, 37)) < 0.08
    padded = np.pad(plane, radius + 1)
    expected = ndimage.binary_closing(padded, disk(radius))[radius + 1 : -radius - 1, radius + 1 : -radius - 1]
    found = BoneEnvelope(ArrayVolume(plane[None].astype(np.uint8), (10, 10, 10)), closing_um=10 * radius).read()[0]
    np.testing.assert_array_equal(found, ndimage.binary_fill_holes(expected))


def test_disk_is_round_in_micrometres() -> None:
    values = np.zeros((1, 60, 60), np.uint8)
    values[0, 2:18, 5:21] = values[0, 2:18, 24:40] = 1  # a gap of three voxels: 30 um along columns
    values[0, 25:40, 5:21] = values[0, 43:58, 5:21] = 1  # 60 um along rows
    closed = BoneEnvelope(ArrayVolume(values, (10, 20, 10)), closing_um=25).read()[0]
    assert closed[10, 22] == 1
    assert closed[41, 13] == 0


def test_empty_plane_stays_empty() -> None:
    assert not BoneEnvelope(ArrayVolume(np.zeros((2, 5, 5), np.uint8))).read().any()


def test_refusals() -> None:
    with pytest.raises(InputError, match="does not state its voxel size"):
        BoneEnvelope(ArrayVolume(np.zeros((2, 5, 5), np.uint8), None))
    with pytest.raises(InputError, match="closing_um"):
        BoneEnvelope(ArrayVolume(np.zeros((2, 5, 5), np.uint8)), closing_um=-1)
