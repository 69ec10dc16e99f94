from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import OutputError


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.txt"
    with atomic_path(target) as partial:
        partial.write_text("half")
        assert not target.exists()
    assert target.read_text() == "half"
    assert names(target.parent) == ["file.txt"]


def test_failure_keeps_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_path(target) as partial:
            partial.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_folder_replaces_folder(tmp_path: Path) -> None:
    target = tmp_path / "result"
    for content in ("one", "two"):
        with atomic_path(target) as partial:
            partial.mkdir()
            (partial / content).write_text(content)
    assert names(target) == ["two"]
    assert names(tmp_path) == ["result"]


def test_remains_of_a_killed_run_are_removed(tmp_path: Path) -> None:
    (tmp_path / ".result.partial").mkdir()
    (tmp_path / ".result.partial" / "old").write_text("")
    with atomic_path(tmp_path / "result") as partial:
        partial.write_text("new")
    assert names(tmp_path) == ["result"]


def test_taken_place_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("old")
    with pytest.raises(OutputError, match="exists already"), atomic_path(tmp_path / "file.txt", overwrite=False):
        pytest.fail("must not be entered")


def test_full_disk_is_named(tmp_path: Path) -> None:
    def fill() -> None:
        with atomic_path(tmp_path / "file.txt"):
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"file.txt: cannot be written: No space left") as refusal:
        fill()
    assert refusal.value.exit_code == 4
    assert names(tmp_path) == []


def test_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), atomic_path(tmp_path / "file" / "below"):
        pytest.fail("must not be entered")


def test_a_folder_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "precious").write_text("")

    def replace() -> None:
        with atomic_path(tmp_path / "results") as partial:
            partial.write_text("new")

    with pytest.raises(OutputError, match="is a folder"):
        replace()
    assert names(tmp_path / "results") == ["precious"]
