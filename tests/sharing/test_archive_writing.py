from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.errors import InputError
from bonemonai.sharing.archive_writing import check_kind, write_archive

CONTENTS = {"b/docs/x.md": b"text" * 1000, "b/a": b"", "b/ä": bytes(range(256))}


@pytest.mark.parametrize("kind", ["x.zip", "x.tar.gz", "x.tgz"])
def test_the_same_files_give_the_same_bytes(kind: str, tmp_path: Path) -> None:
    check_kind(tmp_path / kind)
    for number, contents in enumerate((CONTENTS, dict(reversed(CONTENTS.items())))):
        write_archive(tmp_path / f".{number}.partial", contents, kind)
    one, two = ((tmp_path / f".{number}.partial").read_bytes() for number in (0, 1))
    assert one == two


def test_nothing_of_this_machine_is_in_it(tmp_path: Path) -> None:
    write_archive(tmp_path / "x", CONTENTS, "x.zip")
    with zipfile.ZipFile(tmp_path / "x") as archive:
        assert archive.namelist() == sorted(CONTENTS)
        assert {name: archive.read(name) for name in archive.namelist()} == CONTENTS
        assert {(info.date_time[0], info.external_attr >> 16) for info in archive.infolist()} == {(1980, 0o100644)}
    write_archive(tmp_path / "x", CONTENTS, "x.tar.gz")
    assert (tmp_path / "x").read_bytes()[3:8] == bytes(5)  # no name, no time
    with tarfile.open(tmp_path / "x") as archive_tar:
        members = archive_tar.getmembers()
        assert [member.name for member in members] == sorted(CONTENTS)
        assert {(member.mtime, member.uid, member.uname, member.mode) for member in members} == {(0, 0, "", 0o644)}


@given(st.dictionaries(st.text(alphabet="abc/ä", min_size=1, max_size=4), st.binary(max_size=20), max_size=4))
def test_any_files_are_the_same_bytes(contents: dict[str, bytes]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for number in (0, 1):
            write_archive(Path(folder) / str(number), contents, "x.tar.gz")
        assert (Path(folder) / "0").read_bytes() == (Path(folder) / "1").read_bytes()


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x.rar: must end in .zip, .tar.gz, .tgz"):
        check_kind(tmp_path / "x.rar")
