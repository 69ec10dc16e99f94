from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bonemonai.errors import InputError
from bonemonai.phantoms import lumbar_cases
from bonemonai.phantoms.lumbar_cohort import CLASSES


def test_classes_vendors_and_splits_are_dealt_evenly() -> None:
    cases = lumbar_cases(90, 3)
    assert Counter(case.subject.label for case in cases) == dict.fromkeys(CLASSES, 30)
    assert Counter((case.subject.label, case.split) for case in cases) == {
        (label, split): count for label in CLASSES for split, count in (("train", 18), ("val", 6), ("test", 6))
    }
    vendors = Counter((case.subject.label, case.acquisition.vendor) for case in cases)
    assert set(vendors.values()) == {10}
    train = Counter(case.acquisition.vendor for case in cases if case.split == "train")
    assert min(train.values()) >= 12
    assert {case.split for case in lumbar_cases(6, 0, splits=(1, 0, 0))} == {"train"}


@pytest.mark.parametrize("subjects", [3, 4, 5, 6, 9, 12, 15, 27, 50])
def test_every_split_has_patients_and_with_nine_every_class(subjects: int) -> None:
    cases = lumbar_cases(subjects, 1)
    assert {case.split for case in cases} == {"train", "val", "test"}
    if subjects >= 9:
        assert len({(case.split, case.subject.label) for case in cases}) == 9
    train = sum(case.split == "train" for case in cases) / subjects
    assert abs(train - 0.6) < (0.35 if subjects < 12 else 0.12)


def test_uneven_shares_leave_no_split_empty() -> None:
    cases = lumbar_cases(9, 0, splits=(0.9, 0.05, 0.05))
    assert Counter(case.split for case in cases) == {"train": 3, "val": 3, "test": 3}
    assert Counter(case.split for case in lumbar_cases(30, 0, splits=(0.5, 0, 0.5))) == {"train": 15, "test": 15}


def test_no_two_studies_share_a_subject() -> None:
    seeds = [case.subject.seed for seed in range(10) for case in lumbar_cases(20, seed)]
    assert len(set(seeds)) == 200


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"subjects": 0}, "subjects: must be >= 1, got 0"),
        ({"splits": (0.5, 0.5)}, "splits: must be three shares"),
        ({"splits": (0, 0, 0)}, "splits: must be three shares"),
        ({"vendors": ("ACME",)}, "vendors: must be some of .*, got ACME"),
        ({"seed": -1}, "seed: must be >= 0"),
    ],
)
def test_wrong_arguments_are_refused(wrong: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        lumbar_cases(**wrong)
