"""bundle.json: every file of a bundle with its size and sha256, and what it was made with."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_checks import installed_version, stated_needs
from bonemonai.sharing.bundle_files import LICENCE, MANIFEST, METADATA, file_sha256, read_text
from bonemonai.sharing.config_entries import parse_json

_FORMAT = 1
_KEYS = ("format", "name", "version", "made_with", "needs", "data_licence", "weights", "files", "digest")


def make_manifest(name: str, contents: Mapping[str, bytes], configs: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a bundle's files; the same files give the same description.

    Args:
        name: of the bundle.
        contents: of all files but this one.
        configs: parsed JSON files.
    """
    metadata = configs[METADATA]
    needs = stated_needs(metadata)
    packages = {package: installed_version(package) for package in sorted({"bonemonai", *needs})}
    manifest: dict[str, Any] = {
        "format": _FORMAT,
        "name": name,
        "version": metadata["version"],
        "made_with": {"python": platform.python_version(), **packages},
        "needs": needs,
        "data_licence": contents[LICENCE].decode("utf-8", errors="replace").splitlines(),
        "weights": _cards(set(contents), configs),
        "files": {
            file: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            for file, content in sorted(contents.items())
        },
    }
    return {**manifest, "digest": _digest(manifest)}


def check_manifest(files: dict[str, Path]) -> dict[str, Any] | None:
    """Compare a bundle's files with its list, before anything else of it is read.

    Args:
        files: of the bundle.

    Returns:
        The list, or None where there is none.

    Raises:
        InputError: naming the file that is missing, that is not on the list, or that has changed.
    """
    if MANIFEST not in files:
        return None
    manifest = parse_json(MANIFEST, read_text(files, MANIFEST))
    if not isinstance(manifest, dict) or any(key not in manifest for key in _KEYS):
        raise InputError(MANIFEST, "is no list of a bundle's files.")
    if manifest["digest"] != _digest({key: value for key, value in manifest.items() if key != "digest"}):
        raise InputError(MANIFEST, "has been changed since it was written; ask for the bundle again.")
    listed = manifest["files"]
    if manifest["format"] != _FORMAT or not isinstance(listed, dict):
        raise InputError(MANIFEST, "is of a format that this version does not know; update bonemonai.")
    for name in [*listed, *files]:
        if name not in files:
            raise InputError(name, f"is on the list in {MANIFEST}, but not there; ask for the bundle again.")
        if name not in listed and name != MANIFEST:
            raise InputError(name, f"is not on the list in {MANIFEST}; remove it, or ask for the bundle again.")
    for name, stated in listed.items():
        size, digest = (stated.get("size"), stated.get("sha256")) if isinstance(stated, dict) else (None, None)
        if files[name].stat().st_size != size or file_sha256(files[name]) != digest:
            raise InputError(name, f"is not the file that {MANIFEST} lists; ask for the bundle again.")
    return manifest


def check_repeated(manifest: Mapping[str, Any], files: dict[str, Path], configs: Mapping[str, Any]) -> None:
    """Refuse a list that says otherwise than the files that it repeats: version, needs, data licence, cards.

    Args:
        manifest: checked against the files.
        files: of the bundle.
        configs: parsed JSON files, metadata checked.

    Raises:
        InputError: naming the entry.
    """
    metadata = configs[METADATA]
    licence = read_text(files, LICENCE).decode("utf-8", errors="replace").splitlines() if LICENCE in files else None
    repeated = {
        "version": metadata["version"],
        "needs": stated_needs(metadata),
        "data_licence": licence,
        "weights": _cards(set(files), configs),
    }
    for key, value in repeated.items():
        if manifest[key] != value:
            raise InputError(MANIFEST, f"says otherwise than the bundle's files about {key}; ask for the bundle again.")


def _cards(files: set[str], configs: Mapping[str, Any]) -> dict[str, Any]:
    weights = sorted(name for name in files if name.endswith((".pt", ".pth")))
    return {name: configs.get(f"{name.rpartition('.')[0]}.json") for name in weights}


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
