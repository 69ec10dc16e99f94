from __future__ import annotations

import numpy as np
from scipy import ndimage

from bonemonai.analysis.volume_boxes import Edges, beyond_box, beyond_core, marked_box, read_box, whole_box
from tests.array_volume import ArrayVolume

BOX = (slice(1, 6), slice(0, 7), slice(2, 9))
SPACING = (2.0, 1.0, 1.5)


def test_read_box() -> None:
    values = np.random.default_rng(0).integers(0, 2, (7, 7, 9)).astype(np.uint8)
    volume = ArrayVolume(values)
    np.testing.assert_array_equal(read_box(volume, BOX), values[BOX] != 0)
    np.testing.assert_array_equal(read_box(volume, whole_box(volume)), values != 0)


def test_distances_are_those_of_a_distance_transform() -> None:
    core = (slice(2, 4), slice(3, 5), slice(4, 6))
    outside = np.ones((7, 7, 9), bool)
    outside[core] = False
    expected = ndimage.distance_transform_edt(outside, sampling=SPACING)[BOX]
    np.testing.assert_allclose(beyond_core(BOX, core, SPACING), expected)
    seen = np.zeros((7, 7, 9), bool)
    seen[BOX] = True
    expected = ndimage.distance_transform_edt(seen, sampling=SPACING)[BOX]
    np.testing.assert_allclose(beyond_box(BOX, Edges((7, 7, 9), SPACING)), expected)


def test_whole_volume_has_nothing_outside() -> None:
    edges = Edges((7, 7, 9), SPACING)
    assert edges.sees_all((slice(0, 7), slice(0, 7), slice(0, 9)))
    assert not edges.sees_all(BOX)
    assert np.isinf(beyond_box((slice(0, 7), slice(0, 7), slice(0, 9)), edges)).all()


def test_marked_box_is_the_smallest_round_what_is_marked() -> None:
    values = np.zeros((7, 7, 9), np.uint8)
    values[0, 0, 0] = values[2, 3, 4] = values[5, 1, 8] = 1
    volume = ArrayVolume(values)
    assert marked_box(volume, whole_box(volume)) == (slice(0, 6), slice(0, 4), slice(0, 9))
    assert marked_box(volume, BOX) == (slice(2, 6), slice(1, 4), slice(4, 9))
    assert marked_box(volume, (slice(6, 7), slice(0, 7), slice(0, 9))) == (slice(0, 0),) * 3
