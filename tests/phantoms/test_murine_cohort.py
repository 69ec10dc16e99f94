from __future__ import annotations

import pandas as pd
import pytest

from bonemonai.phantoms import MurineBone, draw_murine_specimen, murine_cases
from bonemonai.phantoms.murine_cohort import field_corner_um, split_specimens
from bonemonai.phantoms.murine_specimen import SITES, MurineSite


def rows(specimens_per_site: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"patient": case.patient, "site": case.specimen.site, "image": f"{case.patient}-{frames}"}
            for case in murine_cases(specimens_per_site, 0)
            for frames in (1, 3)
        ]
    )


def test_cases_are_named_by_site_and_no_two_studies_share_one() -> None:
    cases = murine_cases(2, 0)
    assert [case.patient for case in cases] == ["femur-001", "femur-002", "spine-001", "spine-002"]
    seeds = {case.specimen.seed for seed in range(20) for case in murine_cases(10, seed)}
    assert len(seeds) == 400
    # more specimens leave the first as they were
    assert murine_cases(5, 0)[:2] == cases[:2]


def test_misalignment_is_drawn_a_specimen() -> None:
    assert all(case.lr_offset_um == (0, 0, 0) for case in murine_cases(4, 1))
    shifts = [edge for case in murine_cases(40, 1, misalignment_um=3.0) for edge in case.lr_offset_um]
    assert 2 < pd.Series(shifts).std() < 3.5
    assert max(map(abs, shifts)) <= 6


def test_split_is_the_papers_within_each_site() -> None:
    split = split_specimens(rows(71), seed=0)
    assert split.groupby("patient")["split"].nunique().eq(1).all()
    counts = split.drop_duplicates("patient").groupby(["site", "split"]).size()
    for site in SITES:
        assert [counts[site, name] for name in ("train", "val", "test")] == [44, 12, 15]


@pytest.mark.parametrize(("count", "names"), [(1, {"train"}), (2, {"train", "test"}), (3, {"train", "val", "test"})])
def test_few_specimens_fill_what_they_can(count: int, names: set[str]) -> None:
    split = split_specimens(rows(count), seed=3)
    for site in SITES:
        assert set(split[split["site"] == site]["split"]) == names


@pytest.mark.parametrize("site", SITES)
def test_a_large_field_holds_the_bone_and_a_small_one_its_lateral_wall(site: MurineSite) -> None:
    bone = MurineBone(draw_murine_specimen(site, 1))
    low, high = bone.outline.box_um
    z, y, x = field_corner_um(bone, (640, 4000, 4000))
    assert z == (0 if site == "femur" else -320)
    assert y <= low[1] + 10
    assert y + 4000 >= high[1] - 10
    assert x == -2000
    _, y, x = field_corner_um(bone, (320, 960, 960))
    assert y == -480
    # where no process stands out
    surfaces = bone.outline.surfaces(300.0, 0.0, [x + 5, x + 955])
    assert surfaces.inner[0] < 0 < surfaces.outer[1]
