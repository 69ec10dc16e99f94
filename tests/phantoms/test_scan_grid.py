from __future__ import annotations

import numpy as np
import pytest

from bonemonai.phantoms.scan_grid import ScanGrid, slab_share

GRID = ScanGrid((4, 5, 6), 2.0, 2.0 * np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]),
                np.array([1.0, -2.0, 3.0]))  # fmt: skip


def test_points_are_the_affine_of_the_indices_and_back() -> None:
    box = (slice(1, 4), slice(0, 5), slice(2, 6))
    indices = np.stack(np.mgrid[box], axis=-1)
    expected = indices @ GRID.matrix.T + GRID.offset
    points = np.stack(np.broadcast_arrays(*GRID.points(box)), axis=-1)
    assert points.dtype == np.float32
    np.testing.assert_allclose(points, expected, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(GRID.indices(expected.reshape(-1, 3)), indices.reshape(-1, 3), atol=1e-12)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        ((0.5, -3.0, 1.0), (2.2, 1.0, 9.0), (slice(0, 4), slice(0, 2), slice(1, 6))),
        ((1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (slice(1, 2), slice(1, 2), slice(1, 2))),
        ((4.0, 0.0, 0.0), (9.0, 4.0, 5.0), None),
        ((0.0, 0.0, -9.0), (3.0, 4.0, -2.0), None),
    ],
)
def test_boxes_hold_both_corners_and_stay_inside(
    low: tuple[float, ...], high: tuple[float, ...], expected: tuple[slice, ...] | None
) -> None:
    assert GRID.box(np.array(low), np.array(high)) == expected


@pytest.mark.parametrize("width", [0.0, 0.3, 1.0, 2.5])
def test_share_of_a_voxel_in_a_slab_is_what_sampling_gives(width: float) -> None:
    distance = np.linspace(-3, 3, 61, dtype=np.float32)
    fine = np.linspace(-0.5, 0.5, 20001)
    sampled = (np.abs(distance[:, None] + fine) < width / 2).mean(axis=1)
    np.testing.assert_allclose(slab_share(distance, np.float32(width)), sampled, atol=2e-4)
