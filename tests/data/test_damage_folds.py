from __future__ import annotations

from itertools import permutations, product
from pathlib import Path

import pandas as pd
import pytest

from bonemonai.data import count_damage_folds, describe_fold, read_damage_fold
from bonemonai.data.damage_folds import LEAKAGE
from bonemonai.data.manifest import patient_key
from bonemonai.errors import InputError

SAMPLES = ("CB5", "CB6", "CB8", "CB12", "CB22")
PLANES = ("XY", "XZ", "YZ")


def write(folder: Path, samples: tuple[str, ...] = SAMPLES, states: int = 4, slices: int = 2) -> Path:
    lines = ["patient,image,load_state,plane,index"]
    for sample, state in product(samples, range(1, states + 1)):
        image = f"{sample.strip()}_{state}"
        (folder / image).touch()
        lines += [f"{sample},{image},{state},{plane},{index}" for plane in PLANES for index in range(slices)]
    path = folder / "slices.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def deal(folder: Path, sets: dict[tuple[str, str], str] | None = None) -> Path:
    """Set by set three groups, a sample's planes in different sets."""
    if sets is None:
        groups = product(SAMPLES, PLANES)
        sets = {group: "ABCDE"[number % 5] for number, group in enumerate(groups)}
    path = folder / "deal_a.csv"
    path.write_text("patient,plane,set\n" + "".join(f"{p},{plane},{to}\n" for (p, plane), to in sets.items()))
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write(tmp_path)


def samples_of(fold: pd.DataFrame, split: str) -> set[str]:
    return set(fold["patient"][fold["split"] == split])


def test_five_samples_give_every_ordered_pair_once(path: Path) -> None:
    assert count_damage_folds(path) == 20
    pairs = []
    for number in range(20):
        fold = read_damage_fold(path, number)
        sides = [samples_of(fold, split) for split in ("test", "val", "train")]
        assert [len(side) for side in sides] == [1, 1, 3]
        assert set().union(*sides) == set(SAMPLES)
        assert "leakage" not in fold
        pairs.append((*sides[0], *sides[1]))
    assert pairs == list(permutations(SAMPLES, 2))


def test_first_state_is_pristine_last_is_failed_those_between_are_only_tested(path: Path) -> None:
    fold = read_damage_fold(path, 7)
    named = {1: "pristine", 4: "failed", 2: "", 3: ""}
    assert fold["label"].tolist() == [named[state] for state in fold["load_state"]]
    for split, states in (("train", {1, 4}), ("val", {1, 4}), ("test", {1, 2, 3, 4})):
        assert set(fold["load_state"][fold["split"] == split]) == states
    assert len(fold) == 4 * 2 * 6 + 4 * 6
    assert fold.index.tolist() == list(range(len(fold)))
    assert fold["index"].tolist()[:3] == ["0", "1", "0"]


def test_another_state_may_stand_for_failed(path: Path) -> None:
    fold = read_damage_fold(path, 7, failed_state=3)
    named = {1: "pristine", 3: "failed", 2: "", 4: ""}
    assert fold["label"].tolist() == [named[state] for state in fold["load_state"]]
    assert set(fold["load_state"][fold["split"] == "train"]) == {1, 3}
    for state in (1, 5):
        with pytest.raises(InputError, match=f"subject_00 has no state {state} after its first"):
            read_damage_fold(path, 7, failed_state=state)


def test_states_need_not_begin_with_1_nor_be_written_in_order(tmp_path: Path) -> None:
    path = write(tmp_path)
    head, *lines = path.read_text().splitlines()
    # CB5 was first scanned at state 2, and numbers are no text: 10 comes after 9
    kept = [line.replace(",4,", ",10,").replace(",3,", ",9,") for line in lines if not line.startswith("CB5,CB5_1,")]
    path.write_text("\n".join([head, *reversed(kept)]) + "\n")
    fold = read_damage_fold(path, 0)
    labels = fold[fold["label"] != ""].groupby(["patient", "label"])["load_state"].unique()
    assert labels["CB5", "pristine"].tolist() == [2]
    assert labels["CB6", "pristine"].tolist() == [1]
    assert {labels[sample, "failed"].item() for sample in SAMPLES} == {10}


def test_subjects_tell_nobody(path: Path) -> None:
    fold = read_damage_fold(path, 3)
    assert dict(zip(fold["patient"], fold["subject"], strict=True)) == {
        sample: f"subject_{number:02d}" for number, sample in enumerate(SAMPLES)
    }
    assert describe_fold(fold) == {"test": ["subject_00"], "val": ["subject_04"]}


def test_spellings_of_one_sample_stay_together(tmp_path: Path) -> None:
    path = write(tmp_path, states=2)
    path.write_text(path.read_text().replace("CB5,CB5_2", "cb5 ,CB5_2"))
    assert count_damage_folds(path) == 20
    for number in range(20):
        fold = read_damage_fold(path, number)
        assert fold[fold["subject"] == "subject_00"]["split"].nunique() == 1
        assert set(fold[fold["subject"] == "subject_00"]["label"]) == {"pristine", "failed"}


def test_mixed_deals_are_refused_without_leave(path: Path, tmp_path: Path) -> None:
    for dealt in ("random", str(deal(tmp_path))):
        with pytest.raises(InputError, match=r"is leakage: slices of .* say --allow_leakage True") as refused:
            read_damage_fold(path, 0, deal=dealt)
        assert str(tmp_path) not in str(refused.value)


@pytest.mark.parametrize("kind", ["random", "csv"])
def test_mixed_deals_say_that_they_leak(path: Path, tmp_path: Path, kind: str) -> None:
    dealt = "random" if kind == "random" else str(deal(tmp_path))
    assert count_damage_folds(path, deal=dealt) == 20
    tested = []
    for number in range(20):
        fold = read_damage_fold(path, number, deal=dealt, allow_leakage=True)
        assert set(fold["leakage"]) == {LEAKAGE}
        sides = {split: set(zip(rows["patient"], rows["plane"], strict=True)) for split, rows in fold.groupby("split")}
        assert [len(sides[split]) for split in ("test", "val", "train")] == [3, 3, 9]
        assert len(set.union(*sides.values())) == 15
        assert set(fold["load_state"][fold["split"] != "test"]) == {1, 4}
        assert set(fold["load_state"][fold["split"] == "test"]) == {1, 2, 3, 4}
        described = describe_fold(fold)
        assert described["leakage"] == LEAKAGE
        assert len(described["test"]) == 3
        assert all(name.startswith("subject_") and name[-2:] in PLANES for name in described["test"])
        tested.append((frozenset(sides["test"]), frozenset(sides["val"])))
    assert len(set(tested)) == 20
    assert len({test for test, _ in tested}) == 5


def test_csv_deal_is_kept_to(path: Path, tmp_path: Path) -> None:
    fold = read_damage_fold(path, 0, deal=str(deal(tmp_path)), allow_leakage=True)
    groups = list(product(SAMPLES, PLANES))
    for split, letter in (("test", 0), ("val", 1)):
        rows = fold[fold["split"] == split]
        assert set(zip(rows["patient"], rows["plane"], strict=True)) == set(groups[letter::5])


def test_same_seed_same_deal(path: Path) -> None:
    deals = [
        read_damage_fold(path, 2, deal="random", seed=seed, allow_leakage=True)["split"].tolist() for seed in (0, 0, 1)
    ]
    assert deals[0] == deals[1]
    assert deals[0] != deals[2]


def test_deal_that_mixes_nothing_is_no_leakage(path: Path, tmp_path: Path) -> None:
    whole = deal(tmp_path, {(sample, plane): sample.lower() for sample, plane in product(SAMPLES, PLANES)})
    fold = read_damage_fold(path, 0, deal=str(whole))
    assert "leakage" not in fold
    assert len(samples_of(fold, "test")) == 1


def test_leave_to_leak_makes_no_leak(path: Path) -> None:
    fold = read_damage_fold(path, 0, allow_leakage=True)
    assert "leakage" not in fold
    assert not samples_of(fold, "test") & samples_of(fold, "train")


def test_deals_that_do_not_fit_are_refused(path: Path, tmp_path: Path) -> None:
    groups = {(sample, plane): "A" for sample, plane in product(SAMPLES, PLANES)}
    short = {group: to for group, to in groups.items() if group != ("CB12", "XZ")}
    with pytest.raises(InputError, match=r"deal_a\.csv: deals no set to \S+ XZ, which slices.csv has") as refused:
        read_damage_fold(path, 0, deal=str(deal(tmp_path, short)), allow_leakage=True)
    assert patient_key("CB12") in str(refused.value)
    with pytest.raises(InputError, match=r"deal_a\.csv: deals one sample and plane twice"):
        read_damage_fold(path, 0, deal=str(deal(tmp_path, {**groups, ("cb5", "XY"): "B"})), allow_leakage=True)
    for empty in ("CB5,XY,", "CB5,XY, ", "CB5,XY"):
        lines = deal(tmp_path, groups).read_text().replace("CB5,XY,A", empty)
        (tmp_path / "deal_a.csv").write_text(lines)
        with pytest.raises(InputError, match=r"deal_a\.csv: row 2: column 'set' is empty"):
            read_damage_fold(path, 0, deal=str(tmp_path / "deal_a.csv"), allow_leakage=True)
    (tmp_path / "deal_a.csv").write_text("patient,plane\nCB5,XY\n")
    with pytest.raises(InputError, match=r"deal_a\.csv: lacks the column 'set'"):
        read_damage_fold(path, 0, deal=str(tmp_path / "deal_a.csv"))
    for nothing in ("", "sample", str(tmp_path), str(tmp_path / "no.csv")):
        with pytest.raises(InputError, match=r"is no deal \(samples, random, or a CSV file\)"):
            read_damage_fold(path, 0, deal=nothing)
    (tmp_path / "deal_a.csv").write_text("")
    with pytest.raises(InputError, match=r"deal_a\.csv: is no deal"):
        count_damage_folds(path, deal=str(tmp_path / "deal_a.csv"))


@pytest.mark.parametrize("sets", [2, 4, 0])
def test_sets_that_groups_cannot_share_are_refused(path: Path, sets: int) -> None:
    with pytest.raises(InputError, match=f"has 15 groups of sample and plane, which {sets} sets cannot share"):
        read_damage_fold(path, 0, deal="random", sets=sets, allow_leakage=True)


def test_three_sets(path: Path) -> None:
    assert count_damage_folds(path, deal="random", sets=3) == 6
    assert read_damage_fold(path, 5, deal="random", sets=3, allow_leakage=True)["split"].nunique() == 3


@pytest.mark.parametrize("fold", [-1, 20])
def test_fold_out_of_range_is_refused(path: Path, fold: int) -> None:
    with pytest.raises(InputError, match=f"fold: must be from 0 to 19, got {fold}"):
        read_damage_fold(path, fold)


@pytest.mark.parametrize("samples", [SAMPLES[:1], SAMPLES[:2]])
def test_too_few_samples_are_refused(tmp_path: Path, samples: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=rf"slices\.csv: is dealt into {len(samples)} sets: one to test"):
        read_damage_fold(write(tmp_path, samples), 0)


def test_sample_of_one_state_is_refused(path: Path) -> None:
    lines = [
        line for line in path.read_text().splitlines() if not line.startswith(("CB8,CB8_2", "CB8,CB8_3", "CB8,CB8_4"))
    ]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=r"slices\.csv: subject_02 has one loading state only"):
        read_damage_fold(path, 0)


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("load_state", "state", "has no column 'load_state': prepare the scans first"),
        ("index", "number", "has no column 'index'|doubles an earlier row"),
        ("plane", "direction", "has no column 'plane'|doubles an earlier row"),
        (",1,XY,0", ",x,XY,0", "image 1: load_state must be a number, plane one of XY, XZ, YZ"),
        (",1,YZ,0", ",1,ZY,0", "image 5: load_state must be a number"),
        (",1,XY,1", ",1,XY,0", "row 3: doubles an earlier row"),
    ],
)
def test_manifests_that_are_no_slices_are_refused(path: Path, old: str, new: str, cause: str) -> None:
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=rf"slices\.csv: .*({cause})"):
        read_damage_fold(path, 0)
