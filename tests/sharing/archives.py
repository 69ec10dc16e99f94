"""Archives made right and wrong."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from tests.sharing.small_bundle import METADATA

MINIMUM = {"b/configs/metadata.json": str(METADATA).encode()}


def write_zip(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes], complete: bool = True) -> Path:
    """Write a zip with the least that a bundle is, and members as they are given."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*(MINIMUM.items() if complete else ()), *members]:
            archive.writestr(name, content)
    return path


def write_tar(path: Path, *members: tuple[str, bytes | dict[str, Any]], complete: bool = True) -> Path:
    """Write a tar.gz likewise; instead of content, attributes of a member."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in [*(MINIMUM.items() if complete else ()), *members]:
            member = tarfile.TarInfo(name)
            if isinstance(content, dict):
                for attribute, value in content.items():
                    setattr(member, attribute, value)
                archive.addfile(member)
            else:
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
