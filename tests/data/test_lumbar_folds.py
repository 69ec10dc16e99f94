from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from bonemonai.data import read_lumbar_manifest
from bonemonai.data.lumbar_folds import read_lumbar_fold
from bonemonai.errors import InputError
from tests import lumbar_files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return lumbar_files.write_manifest(tmp_path, subjects=9)


def test_every_subject_is_tested_once_and_conditions_are_spread(path: Path) -> None:
    tested: list[str] = []
    for fold in range(3):
        rows = read_lumbar_fold(path, fold, folds=3)
        own = rows[rows["split"] == "test"]
        assert sorted(own["label"]) == ["low bone mass", "normal", "osteoporosis"]
        assert rows["split"].value_counts().to_dict() == {"train": 3, "val": 3, "test": 3}
        tested += own["subject"].tolist()
    assert sorted(tested) == [f"subject_{number:02d}" for number in range(9)]


def test_the_next_folds_subjects_choose_the_epoch(path: Path) -> None:
    folds = [read_lumbar_fold(path, fold, folds=3) for fold in range(3)]
    for fold, rows in enumerate(folds):
        following = folds[(fold + 1) % 3]
        assert set(rows.loc[rows["split"] == "val", "subject"]) == set(
            following.loc[following["split"] == "test", "subject"]
        )


def test_without_a_fold_the_manifests_own_split_stands(path: Path) -> None:
    assert read_lumbar_fold(path, None).equals(read_lumbar_manifest(path))


def test_a_subject_of_which_one_scan_has_no_condition(path: Path) -> None:
    """Its condition is that of its other scan, and no message names it."""
    rows = pd.read_csv(path)
    again = rows.iloc[:1].assign(label="", image="scan_again.nii")
    (path.parent / "scan_again.nii").write_bytes((path.parent / "scan0.nii").read_bytes())
    pd.concat([rows, again]).to_csv(path, index=False)
    folds = [read_lumbar_fold(path, fold, folds=3) for fold in range(3)]
    assert all(fold.groupby("subject")["split"].nunique().eq(1).all() for fold in folds)


def test_the_deal_follows_the_seed(path: Path) -> None:
    first, again, other = (read_lumbar_fold(path, 0, folds=3, seed=seed)["split"].tolist() for seed in (1, 1, 2))
    assert first == again != other


def test_refusals(path: Path) -> None:
    with pytest.raises(InputError, match="must be from 0 to folds - 1"):
        read_lumbar_fold(path, 3, folds=3)
    with pytest.raises(InputError, match="with 3 folds or more"):
        read_lumbar_fold(path, 0, folds=2)
    with pytest.raises(InputError, match="k: must be from 2 to the number of patients"):
        read_lumbar_fold(path, 0, folds=10)
    lumbar_files.write_manifest(path.parent, subjects=3, label=["normal", "", "osteoporosis"])
    with pytest.raises(InputError, match="must say 'label'"):
        read_lumbar_fold(path, 0, folds=3, require=("label", "split"))
