"""The smallest study that a training can be recorded of."""

from __future__ import annotations

from pathlib import Path


def write_one_scan(folder: Path) -> Path:
    """The manifest of one scan, written where it is not there yet."""
    manifest = folder / "manifest.csv"
    if not manifest.exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "a.npy").write_bytes(b"scan")
        manifest.write_text("patient,image,split\np,a.npy,train\n")
    return manifest
