from __future__ import annotations

import pytest

from bonemonai.phantoms.lumbar_organs import BLOOD, FAT, KIDNEY, LIVER, LumbarOrgans
from bonemonai.phantoms.lumbar_spine import build_spine
from bonemonai.phantoms.lumbar_subject import draw_subject


@pytest.fixture(scope="module")
def organs() -> LumbarOrgans:
    subject = draw_subject("osteoporosis", 8)
    return LumbarOrgans(subject, build_spine(subject))


def test_organs_are_where_they_belong(organs: LumbarOrgans) -> None:
    found = list(organs.ellipses(55.0))
    assert all(e.x < 0 for e in found if e.tissue == LIVER)  # x points to the left
    assert any(e.tissue == LIVER for e in found)
    kidneys = [e for e in organs.ellipses(30.0) if e.tissue == KIDNEY]
    assert sorted(e.x > 0 for e in kidneys) == [False, True]
    _, spine, _, _ = organs.follow(30.0)
    large = [e for e in organs.ellipses(30.0) if e.tissue == BLOOD and min(e.rx, e.ry) > 7]
    assert len(large) == 2  # aorta and inferior vena cava
    assert all(e.y < spine for e in large)


def test_aorta_parts_below_l4(organs: LumbarOrgans) -> None:
    def vessels(z: float) -> int:
        return sum(e.tissue == BLOOD and min(e.rx, e.ry) > 6 for e in organs.ellipses(z))

    assert (vessels(0.0), vessels(-90.0)) == (2, 4)


def test_psoas_grows_downwards(organs: LumbarOrgans) -> None:
    def width(z: float) -> float:
        x, y, _, _ = organs.follow(z)
        near = [e for e in organs.ellipses(z) if e.tissue == organs.muscle and abs(e.y - y) < 2 and e.x > x]
        return max(e.rx for e in near)

    assert width(-70.0) > 1.3 * width(40.0)


def test_fat_comes_before_muscle(organs: LumbarOrgans) -> None:
    kinds = [e.tissue is FAT for e in organs.ellipses(0.0) if not e.inside]
    assert kinds == sorted(kinds, reverse=True)


def test_the_old_have_calcified_aortas() -> None:
    def pieces(seed: int, label: str) -> int:
        subject = draw_subject(label, seed)  # type: ignore[arg-type]
        organs = LumbarOrgans(subject, build_spine(subject))
        return sum(len(list(organs.calcifications(float(z)))) for z in range(-60, 80, 10))

    assert sum(pieces(s, "osteoporosis") for s in range(12)) > 2 * sum(pieces(s, "normal") for s in range(12))
