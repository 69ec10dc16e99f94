from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.sharing.pack import pack_bundle
from bonemonai.sharing.unpack import unpack_bundle
from tests.sharing.archives import write_tar, write_zip
from tests.sharing.small_bundle import names_in, write_bundle


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_what_was_packed_comes_out(kind: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    pack_bundle(folder, tmp_path / kind)
    (tmp_path / "empty").mkdir()
    for to in ("new", "empty"):
        lines = unpack_bundle(tmp_path / kind, tmp_path / to)
        assert lines["files"] == "sizes and sha256 as on its list"
        extra = ["bundle.json", "docs/model_card.md"]
        assert names_in(tmp_path / to) == sorted([*names_in(folder), *extra])
        assert (tmp_path / to / "LICENSE").read_bytes() == (folder / "LICENSE").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([kind, "empty", "new", "small"])


def test_an_archive_without_a_list_is_unpacked_saying_so(tmp_path: Path) -> None:
    lines = unpack_bundle(write_zip(tmp_path / "a.zip"), tmp_path / "out")
    assert lines["files"] == "no bundle.json to compare them with"


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
@pytest.mark.parametrize("name", ["../evil.md", "b/docs/evil.py", "b/bundle.json"])
def test_half_done_work_leaves_nothing(kind: str, name: str, tmp_path: Path) -> None:
    archive = tmp_path / f"a.{kind}"
    (write_zip if kind == "zip" else write_tar)(archive, ("b/docs/x.md", b"x" * 9), (name, b"{}"))
    with pytest.raises(InputError):
        unpack_bundle(archive, tmp_path / "out")
    assert names_in(tmp_path) == [archive.name]


def test_a_tampered_file_never_gets_its_name(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small")
    pack_bundle(folder, tmp_path / "a.zip")
    unpack_bundle(tmp_path / "a.zip", tmp_path / "out")
    members = [(f"b/{name}", (tmp_path / "out" / name).read_bytes()) for name in names_in(tmp_path / "out")
               if (tmp_path / "out" / name).is_file()]  # fmt: skip
    changed = [(name, content + b" " if name.endswith("README.md") else content) for name, content in members]
    write_zip(tmp_path / "b.zip", *changed, complete=False)
    with pytest.raises(InputError, match=r"^docs/README.md: is not the file that bundle.json lists"):
        unpack_bundle(tmp_path / "b.zip", tmp_path / "changed")
    assert not (tmp_path / "changed").exists()
    write_zip(tmp_path / "c.zip", *members[:-1], complete=False)
    with pytest.raises(InputError, match="but not there"):
        unpack_bundle(tmp_path / "c.zip", tmp_path / "changed")


def test_places_that_are_taken(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for to in ("full", "file"):
        with pytest.raises(OutputError, match="holds something already"):
            unpack_bundle(archive, tmp_path / to)
    assert (tmp_path / "full" / "mine").read_text() == (tmp_path / "file").read_text() == "mine"
    with pytest.raises(OutputError, match="lies in a folder that does not exist"):
        unpack_bundle(archive, tmp_path / "new" / "deep")
    with pytest.raises(InputError, match="no such archive"):
        unpack_bundle(tmp_path / "gone.zip", tmp_path / "out")
