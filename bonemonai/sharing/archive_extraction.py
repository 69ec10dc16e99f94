"""Archives of bundles, unpacked under limits: nothing outside the folder, no links, no bombs."""

from __future__ import annotations

import gzip
import stat
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NoReturn

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import METADATA, check_name
from bonemonai.sharing.safe_names import colliding_names, unsafe_name

MOST_BYTES = 2_000_000_000  # of all files together
MOST_RATIO = 100  # of what comes out to the archive's size
_MOST_FILES = 10_000
_SLACK = 1_000_000  # bytes; small archives compress well, and tar pads
_LARGEST_HEADER = 1_000_000
_CHUNK = 1 << 18
_ERRORS = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, struct.error, ValueError, NotImplementedError,
           RuntimeError, OverflowError, gzip.BadGzipFile)  # fmt: skip


def extract_archive(archive: Path, folder: Path) -> str:
    """Unpack a bundle; the archive's one folder, if it has one, becomes ``folder``.

    Args:
        archive: .zip, .tar.gz or .tgz.
        folder: to write to, which is made; what is written there before a refusal is the caller's to remove.

    Returns:
        Name of the archive's folder, or of the archive where it has none.

    Raises:
        InputError: if it is no archive, holds no bundle, or breaks a limit: 2 GB in all, 100 times its own size, links,
            devices, and names that lead elsewhere, collide or stand twice.
    """
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as opened:
                return _extract_zip(opened, archive, folder)
        if archive.name.endswith((".tar.gz", ".tgz")):
            with gzip.open(archive) as stream:
                bounded: IO[bytes] = _Bounded(stream, archive)  # type: ignore[assignment]
                with tarfile.open(fileobj=bounded, mode="r:", errorlevel=2) as opened_tar:
                    return _extract_tar(opened_tar, archive, folder)
    except _ERRORS as error:
        raise InputError(archive, f"is no whole archive: {error}.") from error
    raise InputError(archive, "is no folder, and no .zip or .tar.gz.")


@contextmanager
def opened_bundle(path: Path) -> Iterator[tuple[Path, str]]:
    """A bundle as a folder: the folder itself, or what an archive holds, for as long as it is needed.

    Args:
        path: folder or archive.

    Yields:
        The folder, and the bundle's name.

    Raises:
        InputError: as :func:`extract_archive`.
    """
    if path.is_dir():
        yield path, path.resolve().name
        return
    if not path.is_file():
        raise InputError(path, "no such file or folder.")
    with tempfile.TemporaryDirectory(prefix="bonemonai-") as folder:
        name = extract_archive(path, Path(folder) / "bundle")
        yield Path(folder) / "bundle", name


def _extract_zip(opened: zipfile.ZipFile, archive: Path, folder: Path) -> str:
    members = [member for member in opened.infolist() if not member.is_dir()]
    for member in opened.infolist():
        kind = stat.S_IFMT(member.external_attr >> 16)
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            _refuse(archive, member.filename, "is a link or a device")
        if member.orig_filename != member.filename:
            _refuse(archive, member.orig_filename, "is no text")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            _refuse(archive, member.filename, "is encrypted, or compressed in an unusual way")
    _check_amount(archive, len(members), sum(member.file_size for member in members))
    prefix, name = _checked_names(archive, [member.filename for member in opened.infolist()])
    for member in members:
        with opened.open(member) as source:
            _write(source, folder / member.filename.removeprefix(prefix), member.file_size, archive)
    return name


def _extract_tar(opened: tarfile.TarFile, archive: Path, folder: Path) -> str:
    sizes: dict[str, int] = {}
    names: list[str] = []
    for number, member in enumerate(opened):
        if not (member.isreg() or member.isdir()) or member.issparse():
            _refuse(archive, member.name, "is a link or a device")
        _check_amount(archive, number, sum(sizes.values()) + member.size)
        names.append(member.name + "/" * member.isdir())
        if member.isreg():
            if member.name in sizes:
                _refuse(archive, member.name, "stands twice")
            sizes[member.name] = member.size
    prefix, name = _checked_names(archive, names)
    for member in opened.getmembers():
        source = opened.extractfile(member) if member.isreg() else None
        if source is not None:
            _write(source, folder / member.name.removeprefix(prefix), member.size, archive)
    return name


def _check_amount(archive: Path, files: int, size: int) -> None:
    if files > _MOST_FILES:
        raise InputError(archive, f"holds more than {_MOST_FILES} files.")
    if size > MOST_BYTES:
        raise InputError(archive, f"holds more than {MOST_BYTES / 1e9:.0f} GB.")
    if size > MOST_RATIO * archive.stat().st_size + _SLACK:
        raise InputError(archive, f"would become more than {MOST_RATIO} times as large.")


def _checked_names(archive: Path, names: list[str]) -> tuple[str, str]:
    """What all names begin with, and the bundle's name."""
    for name in names:
        reason = unsafe_name(name.removesuffix("/"))
        if reason is not None:
            _refuse(archive, name, reason)
    files = [name for name in names if not name.endswith("/")]
    pair = colliding_names(files)
    if pair is not None:
        _refuse(archive, pair[1], "stands twice" if pair[0] == pair[1] else f"is {pair[0]!a} on some systems")
    first = files[0].split("/")[0] if files else ""
    prefix = "" if METADATA in files else f"{first}/"
    if f"{prefix}{METADATA}" not in files or not all(name.startswith(prefix) for name in files):
        raise InputError(archive, f"is no bundle: it holds no {METADATA}, or more than one folder.")
    for name in files:
        check_name(name.removeprefix(prefix))
    return prefix, prefix.removesuffix("/") or archive.name.split(".")[0]


def _write(source: IO[bytes], path: Path, size: int, archive: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    left = size
    with open(path, "xb") as target:
        while chunk := source.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            target.write(chunk)
    if left:
        _refuse(archive, path.name, "is not of the size that the archive states")


def _refuse(archive: Path, name: str, reason: str) -> NoReturn:
    shown = name if len(name) <= 60 else name[:57] + "..."
    raise InputError(archive, f"holds {shown!a}, which {reason}.")


class _Bounded:
    """What a compressed stream gives, for as long as it stays within the limits; headers are short."""

    def __init__(self, stream: gzip.GzipFile, archive: Path) -> None:
        self._stream, self._archive = stream, archive
        self._most = min(MOST_BYTES, MOST_RATIO * archive.stat().st_size) + 2 * _SLACK

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_HEADER:
            raise InputError(self._archive, "holds a header larger than any is.")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._check(offset)
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, position: int) -> None:
        if position > self._most:
            raise InputError(self._archive, f"would become more than {MOST_RATIO} times as large, or than 2 GB.")
