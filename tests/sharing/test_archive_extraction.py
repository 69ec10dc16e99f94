from __future__ import annotations

import contextlib
import gzip
import stat
import struct
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.errors import InputError
from bonemonai.sharing.archive_extraction import extract_archive, opened_bundle
from tests.conftest import peak_resident_mb
from tests.sharing.archives import MINIMUM, write_tar, write_zip
from tests.sharing.small_bundle import names_in

BAD_NAMES = [
    "../evil.txt", "b/../../evil.txt", "b/docs/../../../evil.txt", "/tmp/evil.txt", "//evil.txt", "C:/evil.txt",
    "b\\..\\evil.txt", "b/docs/a:b.md", "b/./x.md", "b//x.md", "b/docs/con.txt", "b/docs/x.md.", "b/docs/\x07.md",
    "b/docs/x\u202egpj.md",
]  # fmt: skip


def assert_refused(archive: Path, reason: str) -> None:
    """Refused, in one line, and with nothing outside the folder."""
    folder = archive.parent / "out" / "deep"
    before = set(names_in(archive.parent))
    with pytest.raises(InputError, match=reason) as error:
        extract_archive(archive, folder)
    assert "\n" not in str(error.value)
    written = set(names_in(archive.parent)) - before
    assert all(name.startswith("out/deep") or name == "out" for name in written)
    assert not Path("/tmp/evil.txt").exists()


def stating_size(archive: Path, size: int) -> Path:
    """Let a zip state another size of its last file than it has."""
    content = bytearray(archive.read_bytes())
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = struct.pack("<I", size)
    archive.write_bytes(content)
    return archive


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_elsewhere_are_refused(name: str, tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", (name, b"x")), "which")
    assert_refused(write_tar(tmp_path / "a.tar.gz", (name, b"x")), "which")


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["b/docs/x.md", "b/docs/x.md"], "stands twice"),
        (["b/docs/x.md", "b/docs/X.md"], "on some systems"),
        (["b/docs/\u00e9.md", "b/docs/e\u0301.md"], "on some systems"),
        (["b/docs/x.md", "b/docs/x.md/y.md"], "stands twice"),
        (["b/docs/x.md", "b/Docs/y.md"], "on some systems"),
        (["c/docs/x.md"], "is no bundle"),
        (["b/evil.py"], "it is Python"),
        (["b/eval/x.csv"], "of a kind that none holds"),
    ],
)
def test_names_that_collide_or_do_not_belong_are_refused(names: list[str], reason: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile notices duplicates when it writes them
        assert_refused(write_zip(tmp_path / "a.zip", *((name, b"x") for name in names)), reason)
    assert_refused(write_tar(tmp_path / "a.tar.gz", *((name, b"x") for name in names)), reason)


@pytest.mark.parametrize(
    "attributes",
    [
        {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        {"type": tarfile.SYMTYPE, "linkname": "x.md"},
        {"type": tarfile.LNKTYPE, "linkname": "../../x"},
        {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3},
        {"type": tarfile.BLKTYPE},
        {"type": tarfile.FIFOTYPE},
    ],
)
def test_links_and_devices_are_refused(attributes: dict[str, Any], tmp_path: Path) -> None:
    assert_refused(write_tar(tmp_path / "a.tar.gz", ("b/docs/x.md", attributes)), "is a link or a device")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_in_zips_are_refused(kind: int, tmp_path: Path) -> None:
    info = zipfile.ZipInfo("b/docs/x.md")
    info.external_attr = (kind | 0o777) << 16
    assert_refused(write_zip(tmp_path / "a.zip", (info, b"/etc/passwd")), "is a link or a device")


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    link = ("b/docs", {"type": tarfile.SYMTYPE, "linkname": str(tmp_path)})
    assert_refused(write_tar(tmp_path / "a.tar.gz", link, ("b/docs/evil.md", b"x")), "is a link or a device")
    assert not (tmp_path / "evil.md").exists()


def test_bombs_are_refused(tmp_path: Path) -> None:
    assert_refused(write_zip(tmp_path / "a.zip", ("b/docs/x.md", bytes(9_000_000))), "more than 100 times as large")
    assert_refused(write_tar(tmp_path / "a.tar.gz", ("b/docs/x.md", bytes(9_000_000))), "more than 100 times as large")


def test_amounts_are_refused_before_they_are_written(tmp_path: Path) -> None:
    """The sizes that an archive states, without such an archive."""
    archive = write_zip(tmp_path / "a.zip", ("b/models/x.pt", b"x" * 10))
    assert_refused(stating_size(archive, 3_000_000_000), "holds more than 2 GB")
    assert_refused(
        write_zip(tmp_path / "b.zip", *((f"b/docs/{n}.md", b"") for n in range(10_001))), "more than 10000 files"
    )


def test_a_size_that_is_not_true_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip", ("b/docs/x.md", b"x" * 100))
    assert_refused(stating_size(archive, 50), "no whole archive|not of the size")


def test_a_header_without_end_takes_no_memory(tmp_path: Path) -> None:
    """A name that the archive states to be of 400 MB, which compress to 400 kB."""
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 400_000_000
    path = tmp_path / "a.tar.gz"
    with gzip.open(path, "wb", compresslevel=1) as stream:
        stream.write(header.tobuf())
        for _ in range(400):
            stream.write(bytes(1_000_000))
    assert_refused(path, "header larger|more than 100 times")
    code = (
        "import sys; from pathlib import Path\nfrom bonemonai.errors import InputError\n"
        "from bonemonai.sharing.archive_extraction import extract_archive\n"
        "try: extract_archive(Path(sys.argv[1]), Path(sys.argv[2]))\nexcept InputError: pass\nelse: raise SystemExit(3)"
    )
    assert peak_resident_mb(code, str(path), str(tmp_path / "out2")) < 150


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz"])
def test_damaged_archives_are_refused(kind: str, tmp_path: Path) -> None:
    whole = (write_zip if kind == "a.zip" else write_tar)(tmp_path / kind, ("b/docs/x.md", bytes(range(256)) * 50))
    content = whole.read_bytes()
    for number, damaged in enumerate(
        (b"", b"text", content[: len(content) // 2], content[:100] + bytes(64) + content[164:])
    ):
        path = tmp_path / f"{number}{kind}"
        path.write_bytes(damaged)
        assert_refused(path, "archive|bundle")


def test_an_encrypted_or_unusual_zip_is_refused(tmp_path: Path) -> None:
    archive = write_zip(tmp_path / "a.zip")
    content = bytearray(archive.read_bytes())
    content[content.rfind(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    assert_refused(archive, "is encrypted")
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_BZIP2) as opened:
        opened.writestr("b/configs/metadata.json", "{}")
    assert_refused(tmp_path / "b.zip", "in an unusual way")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    assert_refused(tmp_path / "a.rar", r"no .zip or .tar.gz")


@pytest.mark.parametrize("prefix", ["b/", ""])
def test_what_is_whole_is_unpacked(prefix: str, tmp_path: Path) -> None:
    members = [(f"{prefix}configs/metadata.json", b"{}"), (f"{prefix}docs/deep/x.md", b"x" * 1000)]
    write_zip(tmp_path / "one.v2.zip", (f"{prefix}docs/", b""), *members, complete=False)
    write_tar(tmp_path / "one.v2.tar.gz", (f"{prefix}docs", {"type": tarfile.DIRTYPE}), *members, complete=False)
    for kind in ("zip", "tar.gz"):
        name = extract_archive(tmp_path / f"one.v2.{kind}", tmp_path / kind)
        assert name == ("b" if prefix else "one")
        assert names_in(tmp_path / kind) == ["configs", "configs/metadata.json", "docs", "docs/deep", "docs/deep/x.md"]
        assert (tmp_path / kind / "docs/deep/x.md").read_bytes() == b"x" * 1000


def test_an_archive_is_opened_for_as_long_as_it_is_needed(tmp_path: Path) -> None:
    with opened_bundle(write_zip(tmp_path / "a.zip")) as (folder, name):
        assert name == "b"
        assert (folder / "configs" / "metadata.json").read_bytes() == next(iter(MINIMUM.values()))
    assert not folder.exists()
    with opened_bundle(tmp_path) as (folder, name):
        assert (folder, name) == (tmp_path, tmp_path.name)
    with pytest.raises(InputError, match="no such file or folder"), opened_bundle(tmp_path / "gone.zip"):
        pytest.fail("must not be entered")


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="ab/.\\:é\u0301 ~", min_size=1, max_size=8), min_size=1, max_size=3), st.booleans())
def test_whatever_the_names_nothing_is_written_elsewhere(names: list[str], prefixed: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        members = [(("b/docs/" if prefixed else "") + name, b"x") for name in names]
        archive = write_tar(Path(folder) / "a.tar.gz", *members)
        with contextlib.suppress(InputError):
            extract_archive(archive, Path(folder) / "out" / "deep")
        assert set(names_in(Path(folder))) <= {
            "a.tar.gz",
            "out",
            *(f"out/{name}" for name in names_in(Path(folder) / "out")),
        }
        assert [path.name for path in (Path(folder) / "out").glob("*")] in ([], ["deep"])
