from __future__ import annotations

import numpy as np
import pytest

from bonemonai.analysis.lattice_lines import (
    OFFSETS,
    count_crossings,
    direction_weights,
    pairs,
    step_lengths,
    surface_per_volume,
)


def test_thirteen_directions_one_of_each_pair() -> None:
    assert len({tuple(sorted([offset, tuple(-d for d in offset)])) for offset in OFFSETS}) == len(OFFSETS) == 13
    np.testing.assert_allclose(step_lengths((3, 1, 1))[-1], np.sqrt(11))


def test_weights_of_cubes_are_the_published_ones() -> None:
    published = {1: 0.04577789120476, 2: 0.03698062787608, 3: 0.03519563978232}
    for offset, weight in zip(OFFSETS, direction_weights((2, 2, 2)), strict=True):
        assert weight / 2 == pytest.approx(published[sum(map(abs, offset))], abs=1e-9)


def test_weights_of_boxes_add_up_and_favour_lone_directions() -> None:
    weights = direction_weights((1, 1, 3))
    assert weights.sum() == pytest.approx(1)
    assert weights[OFFSETS.index((1, 0, 0))] > weights[OFFSETS.index((0, 0, 1))]


def test_counts_are_those_of_a_loop() -> None:
    random = np.random.default_rng(0)
    bone, tissue = random.random((4, 5, 6)) < 0.4, random.random((4, 5, 6)) < 0.8
    found = count_crossings(bone, tissue)
    for number, offset in enumerate(OFFSETS):
        crossings = ends = 0
        for near in np.ndindex(bone.shape):
            far = tuple(np.add(near, offset))
            if all(0 <= f < n for f, n in zip(far, bone.shape, strict=True)) and tissue[near] and tissue[far]:
                crossings += bone[near] != bone[far]
                ends += int(bone[near]) + int(bone[far])
        assert (found[f"crossings {number}"], found[f"ends {number}"]) == (crossings, ends)
    parts = count_crossings(bone[:2], tissue[:2]) + count_crossings(bone[1:], tissue[1:], 1)
    assert parts == found
    near, far = pairs(bone, (1, -1, 0))
    np.testing.assert_array_equal(near, bone[:-1, 1:])
    np.testing.assert_array_equal(far, bone[1:, :-1])


def test_nothing_counted_has_no_surface() -> None:
    assert np.isnan(surface_per_volume(np.zeros(13), np.zeros(13), (1, 1, 1)))
