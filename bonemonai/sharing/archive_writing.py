"""Archives that are the same, byte for byte, whenever the same files are packed."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from bonemonai.errors import InputError

_LEVEL = 6  # of compression
_MODE = 0o644
_KINDS = (".zip", ".tar.gz", ".tgz")


def check_kind(path: Path) -> None:
    """Refuse a name that is none of an archive.

    Args:
        path: of the archive.

    Raises:
        InputError: naming the endings.
    """
    if not path.name.endswith(_KINDS):
        raise InputError(path, f"must end in {', '.join(_KINDS)}.")


def write_archive(path: Path, contents: Mapping[str, bytes], name: str) -> None:
    """Write files, in the order of their names, without times, owners or modes of this machine.

    Args:
        path: to write.
        contents: name to bytes.
        name: of the archive, which says its kind; ``path`` may be a temporary one.
    """
    if name.endswith(".zip"):
        _write_zip(path, contents)
    else:
        _write_tar(path, contents)


def _write_zip(path: Path, contents: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            member.create_system = 3  # Unix, which modes are of
            member.external_attr = (0o100000 | _MODE) << 16
            archive.writestr(member, contents[name], zipfile.ZIP_DEFLATED, _LEVEL)


def _write_tar(path: Path, contents: Mapping[str, bytes]) -> None:
    with (
        open(path, "wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=_LEVEL, fileobj=raw, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name in sorted(contents):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(contents[name]), _MODE
            archive.addfile(member, io.BytesIO(contents[name]))
