from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.data import count_folds, leave_one_patient_per_class_out, read_fold, split_by_ratio, split_k_fold
from bonemonai.data.manifest import refuse_shared_patients
from bonemonai.data.splits import deal_groups
from bonemonai.errors import InputError


def study(healthy: int, osteoporotic: int, images: int = 2) -> pd.DataFrame:
    rows = [(f"H{i}", "healthy") for i in range(healthy)] + [(f"O{i}", "osteoporotic") for i in range(osteoporotic)]
    return pd.DataFrame(
        [{"patient": p, "image": f"{p}/{i}", "label": c} for p, c in rows for i in range(images)], dtype=object
    )


def patients(manifest: pd.DataFrame, split: str) -> list[str]:
    return sorted(set(manifest["patient"][manifest["split"] == split]))


def test_six_patients_at_80_10_10_are_dealt_4_1_1_with_both_classes_held_out() -> None:
    manifest = split_by_ratio(study(3, 3), stratify="label")
    assert [len(patients(manifest, split)) for split in ("train", "val", "test")] == [4, 1, 1]
    assert patients(manifest, "val")[0][0] != patients(manifest, "test")[0][0]
    assert sorted(name[0] for name in patients(manifest, "train")) == ["H", "H", "O", "O"]


def test_strata_are_spread_in_proportion() -> None:
    manifest = split_by_ratio(study(48, 12), stratify="label")
    for split, expected in (("train", (38, 10)), ("val", (5, 1)), ("test", (5, 1))):
        names = [name[0] for name in patients(manifest, split)]
        assert (names.count("H"), names.count("O")) == pytest.approx(expected, abs=1)


def test_spellings_of_one_patient_stay_together() -> None:
    table = study(3, 3)
    table.loc[0, "patient"] = " h0"
    table.loc[3, "patient"] = "H1\u200b"
    for seed in range(20):
        split = split_by_ratio(table, seed=seed)["split"]
        assert split[0] == split[1]
        assert split[2] == split[3]


def test_large_study_keeps_the_ratio() -> None:
    manifest = split_by_ratio(study(50, 50), {"train": 0.5, "val": 0.1, "test": 0.4})
    assert [len(patients(manifest, split)) for split in ("train", "val", "test")] == [50, 10, 40]


@settings(max_examples=50)
@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 99), st.sampled_from([None, "label"]))
def test_no_patient_is_ever_on_two_sides(healthy: int, osteoporotic: int, seed: int, stratify: str | None) -> None:
    table = study(healthy, osteoporotic)
    for manifest in (
        split_by_ratio(table, seed=seed, stratify=stratify),
        *split_k_fold(table, 3, seed=seed, stratify=stratify),
        *leave_one_patient_per_class_out(table),
    ):
        refuse_shared_patients(manifest)
        assert len(manifest) == len(table)


def test_seed_repeats_and_changes_the_deal() -> None:
    table = study(10, 10)
    deals = {seed: tuple(split_by_ratio(table, seed=seed)["split"]) for seed in (1, 2, 3)}
    assert len(set(deals.values())) == 3
    assert deals[1] == tuple(split_by_ratio(table, seed=1)["split"])


def test_k_folds_test_every_patient_once() -> None:
    table = study(4, 4)
    folds = [patients(manifest, "test") for manifest in split_k_fold(table, 4, stratify="label")]
    assert sorted(chain(*folds)) == sorted(set(table["patient"]))
    assert all(sorted(name[0] for name in fold) == ["H", "O"] for fold in folds)


def test_leave_one_patient_per_class_out_gives_every_pair() -> None:
    pairs = [tuple(patients(manifest, "test")) for manifest in leave_one_patient_per_class_out(study(3, 3))]
    assert len(set(pairs)) == 9
    assert all(h[0] == "H" and o[0] == "O" for h, o in pairs)


@given(st.integers(1, 6), st.integers(2, 6), st.integers(0, 99))
def test_groups_are_dealt_equally_and_by_the_seed(each: int, sets: int, seed: int) -> None:
    dealt = deal_groups(each * sets, sets, seed)
    assert sorted(dealt) == sorted(list(range(sets)) * each)
    assert dealt == deal_groups(each * sets, sets, seed)
    order = np.random.default_rng(seed).permutation(each * sets)
    assert [dealt[group] for group in order] == [place % sets for place in range(each * sets)]


def test_refusals() -> None:
    with pytest.raises(InputError, match="2 patients for 3 splits"):
        split_by_ratio(study(1, 1))
    with pytest.raises(InputError, match="from 2 to the number of patients, 4, got 5"):
        list(split_k_fold(study(2, 2), 5))
    with pytest.raises(InputError, match="'healthy' has 1 of 2 patients due"):
        list(leave_one_patient_per_class_out(study(1, 2)))
    two_classes = study(2, 2)
    two_classes.loc[0, "label"] = "osteoporotic"
    with pytest.raises(InputError, match="two values of 'label'"):
        list(leave_one_patient_per_class_out(two_classes))
    with pytest.raises(InputError, match="no column 'sex'"):
        split_by_ratio(study(2, 2), stratify="sex")


def test_validation_takes_the_next_patient_of_each_class() -> None:
    for manifest in leave_one_patient_per_class_out(study(3, 3), validation=True):
        (healthy, osteoporotic), val = patients(manifest, "test"), patients(manifest, "val")
        assert val == [f"H{(int(healthy[1]) + 1) % 3}", f"O{(int(osteoporotic[1]) + 1) % 3}"]
        assert len(patients(manifest, "train")) == 2
    with pytest.raises(InputError, match="'healthy' has 2 of 3 patients due"):
        list(leave_one_patient_per_class_out(study(2, 3), validation=True))


def test_fold_of_a_manifest_names_subjects_and_nobody(tmp_path: Path) -> None:
    lines = ["patient,image,diagnosis,split"]
    for patient, diagnosis in (
        ("Anna", "healthy"),
        ("Bert", "osteoporotic"),
        ("Carl", "healthy"),
        ("Dora", "osteoporotic"),
    ):
        for image in "12":
            (tmp_path / f"{patient}{image}").touch()
            lines.append(f"{patient},{patient}{image},{diagnosis},train")
    path = tmp_path / "m.csv"
    path.write_text("\n".join(lines) + "\n")
    classes, column = ["healthy", "osteoporotic"], {"class_column": "diagnosis"}
    assert count_folds(path, classes, **column) == 4
    own = read_fold(path, None, classes, **column)
    assert own["split"].unique().tolist() == ["train"]
    assert own["subject"].tolist() == [f"subject_{n:02d}" for n in (0, 0, 1, 1, 2, 2, 3, 3)]
    tested = [tuple(patients(read_fold(path, fold, classes, **column), "test")) for fold in range(4)]
    assert tested == [("Anna", "Bert"), ("Anna", "Dora"), ("Bert", "Carl"), ("Carl", "Dora")]
    with pytest.raises(InputError, match="fold: must be from 0 to 3, got 4"):
        read_fold(path, 4, classes, **column)
    with pytest.raises(InputError, match="image 3: diagnosis must be one of healthy, low, got 'osteoporotic'"):
        read_fold(path, 0, ["healthy", "low"], **column)
    with pytest.raises(InputError, match="has no column 'sex'"):
        read_fold(path, 0, classes, class_column="sex")
