"""Bundles out of archives, into a folder of their own, whole or not at all."""

from __future__ import annotations

from pathlib import Path

from bonemonai.data.atomic import atomic_path
from bonemonai.errors import InputError, OutputError
from bonemonai.sharing.archive_extraction import extract_archive
from bonemonai.sharing.bundle_files import bundle_files
from bonemonai.sharing.bundle_manifest import check_manifest


def unpack_bundle(archive: Path, to: Path) -> dict[str, str]:
    """Unpack a bundle and compare it with its list before the folder gets its name; nothing of it is run.

    Args:
        archive: .zip, .tar.gz or .tgz.
        to: the bundle's folder; new, or empty.

    Returns:
        What was done, by label.

    Raises:
        InputError: as :func:`bonemonai.sharing.extract_archive`, or if a file is not the one on the list.
        OutputError: if the folder holds something, or cannot be written.
    """
    if not archive.is_file():
        raise InputError(archive, "no such archive.")
    folder = to.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(to, "holds something already; name a new or an empty folder.")
    if not folder.parent.is_dir():
        raise OutputError(to, "lies in a folder that does not exist; make it first.")
    with atomic_path(folder) as partial:
        name = extract_archive(archive, partial)
        files = bundle_files(partial)
        listed = check_manifest(files) is not None
        count = len(files)
    checked = "sizes and sha256 as on its list" if listed else "no bundle.json to compare them with"
    return {"unpacked": f"{to} ({name}, {count} files)", "files": checked}
