from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.data import levels_apart, lumbar_pairs, pair_of_mask, read_lumbar_manifest, single_slices
from bonemonai.data.lumbar_slices import open_axial
from bonemonai.errors import InputError
from tests import lumbar_files

# bodies are slices 2 to 7 (L3), 10 to 15 (L2), 18 to 23 (L1), with which the scan ends
PAIR = ("L2", "L3")
OPTIONS: dict[str, Any] = {"levels": lumbar_files.LEVELS, "pair": PAIR}


@pytest.fixture
def manifest(tmp_path: Path) -> pd.DataFrame:
    return read_lumbar_manifest(lumbar_files.write_manifest(tmp_path))


def test_the_middle_of_both_vertebrae(manifest: pd.DataFrame) -> None:
    rows = lumbar_pairs(manifest, "val", **OPTIONS)
    assert [row["planes"] for row in rows] == [(13, 5), (13, 5)]
    assert [(row["diagnosis"], row["class"], row["subject"]) for row in rows] == [
        ("normal", 0, "subject_03"), ("low bone mass", 1, "subject_04"),
    ]  # fmt: skip
    assert all(row["values"] == (21, 22) and not row["is_background"] for row in rows)


def test_further_slices_go_together_in_order(manifest: pd.DataFrame) -> None:
    rows = lumbar_pairs(manifest, "test", per_level=3, **OPTIONS)
    assert [row["planes"] for row in rows] == [(11, 3), (13, 5), (14, 6)]


def test_a_vertebra_that_the_scan_cuts_off_is_missing(manifest: pd.DataFrame) -> None:
    rows = lumbar_pairs(manifest, "test", levels=lumbar_files.LEVELS, pair=("L1", "L2"))
    assert [row["planes"] for row in rows] == [(-1, 13)]
    rows = lumbar_pairs(manifest, "test", levels=lumbar_files.LEVELS, pair=("L1", "L2"), allow_cut=True)
    assert [row["planes"] for row in rows] == [(21, 13)]


def test_a_scan_that_shows_neither_is_refused(tmp_path: Path) -> None:
    mask = np.where(lumbar_files.mask_in_axial_order() == 22, 22, 0).astype(np.uint8)
    path = lumbar_files.write_nifti(tmp_path / "mask.nii", mask)
    only = pd.DataFrame([{"image": path, "mask": path}])
    with pytest.raises(InputError, match=r"mask\.nii: shows neither L1 nor L2 whole"):
        lumbar_pairs(only, levels=lumbar_files.LEVELS)


def test_background_shows_neither(manifest: pd.DataFrame) -> None:
    rows = [row for row in lumbar_pairs(manifest, "train", background=2, **OPTIONS) if row["is_background"]]
    assert len(rows) == 3 * 2
    for row in rows:
        assert (row["class"], row["diagnosis"]) == (-1, "")
        for plane in row["planes"]:
            shown = open_axial(row["mask"]).read(plane, plane + 1)
            assert not np.isin(shown, (21, 22)).any()


def test_rows_that_name_their_slices(manifest: pd.DataFrame) -> None:
    own = manifest[manifest["split"] == "test"]
    named = pd.concat([own.assign(plane="12", level="L2"), own.assign(plane="4", level="L3")])
    assert [row["planes"] for row in lumbar_pairs(named, **OPTIONS)] == [(12, 4)]
    assert [row["planes"] for row in lumbar_pairs(named.iloc[:1], **OPTIONS)] == [(12, -1)]
    with pytest.raises(InputError, match="names 2 slices of L2 and 1 of L3"):
        lumbar_pairs(pd.concat([named, named.iloc[:1].assign(plane="13")]), **OPTIONS)
    with pytest.raises(InputError, match=r"must name plane .* and level in each of its rows"):
        lumbar_pairs(pd.concat([named.iloc[:1], named.iloc[1:].assign(level="")]), **OPTIONS)


def test_conditions_may_be_unknown(manifest: pd.DataFrame) -> None:
    rows = lumbar_pairs(manifest.drop(columns="label"), "val", **OPTIONS)
    assert {row["class"] for row in rows} == {-1}


def test_single_slices(manifest: pd.DataFrame) -> None:
    pairs = lumbar_pairs(manifest, "test", levels=lumbar_files.LEVELS, pair=("L1", "L2"), background=1)
    assert [(row["plane"], row["level"]) for row in single_slices(pairs)] == [(13, "L2")]


def test_the_pair_of_a_mask(manifest: pd.DataFrame) -> None:
    mask = manifest.loc[0, "mask"]
    assert pair_of_mask(mask, **OPTIONS) == (13, 5)
    assert pair_of_mask(mask, levels=lumbar_files.LEVELS, pair=("L1", "L2")) == (-1, 13)
    assert pair_of_mask(mask, levels=lumbar_files.LEVELS, pair=("L1", "L2"), allow_cut=True) == (21, 13)


def test_how_far_apart_two_vertebrae_are() -> None:
    assert [levels_apart(pair) for pair in (("L1", "L2"), ("L1", "L3"), ("T12", "L1"), ("C7", "T1"))] == [1, 2, 1, 1]
    assert levels_apart(("upper", "lower")) == 1
    with pytest.raises(ValueError, match="must name the upper vertebra first"):
        levels_apart(("L2", "L1"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"per_level": 0}, "per_level must be >= 1"),
        ({"background": -1}, "background >= 0"),
        ({"pair": ("L1", "L1")}, "pair must be two of"),
        ({"pair": ("L1", "T12")}, "pair must be two of"),
    ],
)
def test_refusals(manifest: pd.DataFrame, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        lumbar_pairs(manifest, **{**OPTIONS, **options})


def test_what_cannot_be_chosen_is_refused(manifest: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="neither planes nor a mask"):
        lumbar_pairs(manifest.assign(mask=""), **OPTIONS)
    named = manifest.iloc[:1].assign(plane="4", level="L3", mask="")
    with pytest.raises(InputError, match="has no mask, so that no slice is known to show neither"):
        lumbar_pairs(named, background=1, **OPTIONS)
