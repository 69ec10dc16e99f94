from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest

from bonemonai.data import read_manifest, split_manifest
from bonemonai.errors import InputError, OutputError

SAMPLES = ("5", "6", "8", "12", "22")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Paper 2's: five samples, three planes of slices each; the label is a class."""
    lines = ["patient,image,plane,label"]
    for sample in SAMPLES:
        (tmp_path / f"CB{sample}").touch()
        lines += [f"{sample},CB{sample},{plane},pristine" for plane in ("XY", "XZ", "YZ")]
    (tmp_path / "study.csv").write_text("\n".join(lines))
    return tmp_path / "study.csv"


def sides(file: Path, *columns: str, **options: Any) -> dict[str, set[Any]]:
    table = read_manifest(file, label_is_path=False, **options)
    return {name: set(rows[list(columns)].itertuples(index=False, name=None)) for name, rows in table.groupby("split")}


def test_every_ordered_pair_of_five_samples(study: Path) -> None:
    files = split_manifest(study, "pairs")
    assert [file.name for file in files] == [f"study_pairs_{n:02d}.csv" for n in range(20)]
    pairs = [(sides(f, "patient")["test"].pop()[0], sides(f, "patient")["val"].pop()[0]) for f in files]
    assert pairs == list(permutations(SAMPLES, 2))
    assert all(len(sides(file, "patient")["train"]) == 3 for file in files)
    record = json.loads((study.parent / "study_pairs.json").read_text())
    assert (record["scheme"], record["folds"], len(record["manifest_sha256"])) == ("pairs", 20, 64)


@pytest.mark.parametrize(
    ("scheme", "options", "number"),
    [("ratio", {"ratio": "60,20,20"}, 1), ("k-fold", {"folds": 5}, 5)],
)
def test_other_schemes_part_patients(scheme: str, options: dict[str, Any], number: int, study: Path) -> None:
    files = split_manifest(study, scheme, **options)
    assert len(files) == number
    for file in files:
        parts = list(sides(file, "patient").values())
        assert sum(map(len, parts)) == len(set.union(*parts)) == 5


def test_mixed_deal_only_if_it_is_asked_for_and_then_it_says_so(study: Path) -> None:
    with pytest.raises(InputError, match="say --allow-shared-patient if that is meant"):
        split_manifest(study, "mixed", by="patient,plane")
    files = split_manifest(study, "mixed", by="patient,plane", allow_shared_patient=True, seed=4)
    assert len(files) == 20
    with pytest.raises(InputError, match="stands in more than one split"):
        read_manifest(files[0], label_is_path=False)
    groups = sides(files[0], "patient", "plane", allow_shared_patient=True)
    assert [len(groups[name]) for name in ("train", "val", "test")] == [9, 3, 3]
    assert len(set.union(*groups.values())) == 15
    assert set(read_manifest(files[0], label_is_path=False, allow_shared_patient=True)["leakage"]) == {
        "patients are shared between splits"
    }
    assert "leakage" in json.loads((study.parent / "study_mixed.json").read_text())


def test_nothing_is_overwritten(study: Path) -> None:
    (study.parent / "study_pairs_07.csv").write_text("mine")
    with pytest.raises(OutputError, match=r"study_pairs_07\.csv: exists already"):
        split_manifest(study, "pairs")
    assert sorted(file.name for file in study.parent.glob("study_*")) == ["study_pairs_07.csv"]


@pytest.mark.parametrize(
    ("scheme", "options", "cause"),
    [
        ("pairs", {"by": "plane"}, "--by: must be patient"),
        ("ratio", {"ratio": "80,20"}, "must be three numbers"),
        ("ratio", {"ratio": "a,b,c"}, "must be three numbers"),
        ("ratio", {"ratio": "-1,1,1"}, "must be three numbers"),
        ("random", {}, "must be one of ratio"),
        ("mixed", {"by": "patient,state", "allow_shared_patient": True}, "no column 'state'"),
        (
            "mixed",
            {"by": "patient,plane", "folds": 4, "allow_shared_patient": True},
            "15 groups, which cannot be dealt",
        ),
    ],
)
def test_refusals(scheme: str, options: dict[str, Any], cause: str, study: Path) -> None:
    with pytest.raises(InputError, match=cause):
        split_manifest(study, scheme, **options)


def test_label_image_that_is_missing_is_no_class(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"i{number}.nii").touch()
    rows = [f"P{n},i{n}.nii,{'gone.nii' if n == 2 else f'i{n}.nii'}" for n in range(4)]
    (tmp_path / "s.csv").write_text("\n".join(["patient,image,label", *rows]))
    with pytest.raises(InputError, match=r"'gone\.nii' does not exist"):
        split_manifest(tmp_path / "s.csv", "ratio", ratio="50,25,25")
