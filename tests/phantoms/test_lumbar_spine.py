from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from scipy.optimize import brentq

from bonemonai.phantoms.lumbar_spine import NAMES, Rod, Vertebra, build_spine, other_bones, posterior_rods
from bonemonai.phantoms.lumbar_subject import draw_subject


@pytest.fixture(scope="module")
def spine() -> list[Vertebra]:
    return build_spine(draw_subject("normal", 5))


def test_vertebrae_follow_each_other_upwards_and_grow_downwards(spine: list[Vertebra]) -> None:
    assert tuple(v.name for v in spine) == NAMES
    assert all(above.centre[2] - below.centre[2] > 25 for below, above in pairwise(spine))
    assert spine[1].half_width > 1.1 * spine[6].half_width


def test_the_spine_is_lordotic(spine: list[Vertebra]) -> None:
    named = {v.name: v for v in spine}
    assert named["L1"].tilt < 0 < named["L5"].tilt < named["S1"].tilt
    # the middle lies in front of both ends
    assert max(named["L3"].centre[1], named["L4"].centre[1]) < min(named["T12"].centre[1], named["S1"].centre[1])


def test_local_coordinates_and_back(spine: list[Vertebra]) -> None:
    for vertebra in spine:
        x, y, z = vertebra.place(7.0, -3.0, 11.0)
        found = vertebra.local(*(np.array([value], dtype=np.float32) for value in (x, y, z)))
        np.testing.assert_allclose(np.ravel(found), [7, -3, 11], atol=1e-3)


def test_body_is_a_kidney_between_dished_endplates(spine: list[Vertebra]) -> None:
    body = spine[3]
    side = np.linspace(-40, 40, 321, dtype=np.float32)
    u, v, zero = side[None, :], side[:, None], np.zeros((1, 1), dtype=np.float32)
    inside = body.body(u, v, zero)[0] > 0
    area = inside.sum() * 0.25**2
    assert 900 < area < 1500  # mm2
    assert 1.15 < np.ptp(np.nonzero(inside.any(axis=0))[0]) / np.ptp(np.nonzero(inside.any(axis=1))[0]) < 1.7
    lowest = [np.nonzero(inside[:, column])[0].max() for column in (160, 160 + 36)]
    assert lowest[0] < lowest[1]  # hollow behind
    heights = [(body.body(np.full((1, 1), at, np.float32), zero, side[:, None])[1] > 0).sum() for at in (0.0, 18.0)]
    assert heights[0] < heights[1]
    # depth is a distance near the wall
    wall = brentq(lambda x: float(body.body(np.array([[x]], np.float32), zero, zero)[0][0, 0]), 10, 35)
    depths = [body.body(np.array([[wall - depth]], np.float32), zero, zero)[0][0, 0] for depth in (0.25, 0.75)]
    assert depths == pytest.approx([0.25, 0.75], rel=0.06)


def test_rod_is_a_thick_line() -> None:
    rod = Rod((0, 0, 0), (10, 0, 0), 2.0, 4.0)
    at = [np.array([v], dtype=np.float32) for v in (5.0, 0.0, 0.0)]
    assert rod.depth(*at) == pytest.approx(2)
    assert rod.depth(at[0], at[1] + 3, at[2]) == pytest.approx(-1)
    assert rod.depth(at[0] + 7, at[1], at[2]) == pytest.approx(0)
    assert rod.depth(at[0], at[1], at[2] + 4) == pytest.approx(0)  # twice as high as wide


def test_canal_stays_free(spine: list[Vertebra]) -> None:
    for vertebra in spine[1:]:
        middle = np.array([vertebra.half_depth + 9 * vertebra.half_width / 22], dtype=np.float32)
        zero = np.zeros(1, dtype=np.float32)
        for height in (-8.0, 0.0, 8.0):
            depths = [rod.depth(zero, middle, zero + np.float32(height)) for rod in posterior_rods(vertebra)]
            assert max(float(depth[0]) for depth in depths) < -5


def test_other_bones_come_in_pairs() -> None:
    subject = draw_subject("normal", 5)
    rods = other_bones(subject, build_spine(subject))
    assert sorted(rod.start[0] for rod in rods) == pytest.approx(sorted(-rod.start[0] for rod in rods))
