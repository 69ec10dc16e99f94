from __future__ import annotations

from bonemonai.data.subjects import number_subjects


def test_two_spellings_are_one_subject() -> None:
    assert number_subjects(["B", "A", " b", "007", "7"]) == [
        "subject_00", "subject_01", "subject_00", "subject_02", "subject_03",
    ]  # fmt: skip


def test_no_id_is_left_in_a_name() -> None:
    assert all("Smith" not in name for name in number_subjects(["Smith^John", "Smith^Jane"]))
