from __future__ import annotations

import numpy as np
import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms import LumbarAnatomy, draw_subject

SIDE = np.arange(-180, 180, 3.0)


@pytest.fixture(scope="module")
def anatomy() -> LumbarAnatomy:
    return LumbarAnatomy(draw_subject("normal", 5))


def test_trunk_is_fat_round_muscle_round_organs_in_air(anatomy: LumbarAnatomy) -> None:
    plane = anatomy.plane(0.0, 3.0, SIDE, SIDE)
    body = plane.water + plane.fat
    assert body[0, 0] == 0
    subject = anatomy.subject
    columns = np.nonzero(body[60] > 0.5)[0]
    assert np.ptp(SIDE[columns]) == pytest.approx(2 * subject.half_width_mm, abs=8)
    first = columns[0]
    assert plane.fat[60, first + 2] > 0.9  # under the skin
    assert (body < 0.1)[10:60, columns[0] + 20 : columns[-1] - 20].any()  # gas in the bowel
    assert 0.3 < plane.fat[body > 0.5].mean() < 0.75


def test_every_level_is_labelled_where_it_is(anatomy: LumbarAnatomy) -> None:
    for level, label in zip(("L1", "L2", "L3", "L4", "L5"), range(20, 25), strict=True):
        x, y, z = anatomy.vertebra(level).centre
        plane = anatomy.plane(z, 1.0, SIDE, SIDE)
        assert plane.body[round((y + 180) / 3), round((x + 180) / 3)] == label


def test_t12_and_sacrum_are_bone_without_a_label(anatomy: LumbarAnatomy) -> None:
    for name in ("T12", "S1"):
        x, y, z = anatomy.vertebra(name).centre
        plane = anatomy.plane(z, 1.0, SIDE, SIDE)
        at = round((y + 180) / 3), round((x + 180) / 3)
        assert plane.mineral[at] > 0
        assert plane.body[at] == 0


def test_facets_of_neighbours_are_not_eaten_by_the_canal(anatomy: LumbarAnatomy) -> None:
    lower = anatomy.vertebra("L4")
    k, b = lower.half_width / 22, lower.half_depth
    x, y, z = lower.place(18.5 * k, b + 16 * k, 17 * k)  # within a superior articular process of L4
    plane = anatomy.plane(z, 1.0, y + np.arange(-3, 4.0), x + np.arange(-3, 4.0))
    assert plane.mineral[3, 3] > 40


def test_same_subject_same_plane_whatever_was_cut_before(anatomy: LumbarAnatomy) -> None:
    again = LumbarAnatomy(anatomy.subject)
    anatomy.plane(30.0, 1.0, SIDE, SIDE)
    for found, expected in zip(again.plane(-9, 3, SIDE, SIDE), anatomy.plane(-9, 3, SIDE, SIDE), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_unknown_level_is_refused(anatomy: LumbarAnatomy) -> None:
    with pytest.raises(InputError, match=r"level: must be one of S1, L5, .*, got 'L6'"):
        anatomy.vertebra("L6")
