"""What a prepared scan was made from, beside it on disk: whether it is whole, and whether others were made alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bonemonai.data.fingerprint import Snapshot, fingerprint
from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.loaded_scans import LoadedScans
from bonemonai.data.manifest import read_manifest
from bonemonai.data.volume import split_part
from bonemonai.errors import InputError


class PreparationRecord:
    """A prepared scan's files and ``scan_0001.json``, which is written last.

    Args:
        folder: of prepared scans.
        number: of the scan.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self.folder, self.name = folder, f"scan_{number:04d}"

    def file(self, ending: str) -> Path:
        """A file of the scan, by the ending of its name."""
        return self.folder / f"{self.name}{ending}"

    @property
    def image(self) -> Path:
        """The scan itself."""
        return self.file(".ome.zarr")

    def write(self, about: Mapping[str, Any], outputs: Sequence[Path]) -> None:
        """Say that a scan is done.

        Args:
            about: its ``fingerprint`` and how it came about; JSON values.
            outputs: the files that belong to it.
        """
        write_json(self.file(".json"), {**about, "files": {file.name: _digest(file) for file in outputs}})

    def made_from(self) -> str | None:
        """Fingerprint of what stands in a scan's place, "" if it has none, None if nothing stands there."""
        if not self.image.exists() and not self.file(".json").exists():
            return None
        known = read_json(self.file(".json"))
        if known is None:
            # a scan that was not finished says it in its own attributes
            known = stored_preparation(self.image)
        return str(known.get("fingerprint", ""))

    def is_done(self, expected: str) -> bool:
        """Whether a scan was prepared from the same, and is still what was written."""
        record = read_json(self.file(".json")) or {}
        if record.get("fingerprint") != expected:
            return False
        files = {name: self.folder / name for name in record.get("files", {})}
        return all(file.exists() and _digest(file) == record["files"][name] for name, file in files.items())


def preparation_fingerprint(scans: LoadedScans, number: int, options: Mapping[str, Any]) -> str:
    """Of what a prepared scan depends on: its files, those of its references, options, versions.

    Args:
        scans: all of them.
        number: of the scan.
        options: of its preparation; JSON values.
    """
    roles = [number, scans.first(number)]
    if scans.matching != "none":
        roles.append(scans.reference(number))
    rows = sorted(set(roles))
    sources = [(_source_digest(scans.path(row)), scans.path(row, "voxel_size_um")) for row in rows]
    masks = {mask: _source_digest(scans.path(number, mask)) for mask in scans.masks(number)}
    packages = [version(name) for name in ("bonemonai", "SimpleITK", "numpy")]
    text = json.dumps([[rows.index(role) for role in roles], sources, masks, options, packages])
    return hashlib.sha256(text.encode()).hexdigest()


def stored_preparation(image: str | Path) -> dict[str, Any]:
    """What a scan says of its preparation in its own attributes; nothing, if it was not prepared.

    Args:
        image: the scan.
    """
    kept = read_json(Path(image) / "zarr.json") or {}
    found: dict[str, Any] = ((kept.get("attributes") or {}).get("bonemonai") or {}).get("preparation") or {}
    return found


def refuse_other_preparation(path: str | Path, weights: Mapping[str, Any]) -> None:
    """Raise if a scan was not prepared like those that weights were trained on: a network would not see what it knows.

    Args:
        path: a scan, or a manifest (.csv) of scans.
        weights: their card, see :func:`bonemonai.engines.weights_card`; one that does not say is not refused.

    Raises:
        InputError: naming the scan and what differs.
    """
    wanted: dict[str, Any] = (weights.get("trained_on") or {}).get("preparation") or {}
    is_manifest = Path(path).suffix.lower() == ".csv"
    images = read_manifest(path, allow_shared_patient=True)["image"].unique() if is_manifest else [str(path)]
    for image in images if wanted else ():
        options = stored_preparation(image).get("options") or {}
        for name in ("matching", "median"):
            if options.get(name) != wanted.get(name):
                raise InputError(
                    image, f"was prepared with {name} {options.get(name)}, the scans that the weights know with "
                    f"{wanted.get(name)}: prepare it alike (bonemonai prepare), or set check_preparation to False."
                )  # fmt: skip


def _digest(path: str | Path) -> str:
    return str(fingerprint(path)["sha256_sampled"])


def _source_digest(path: str) -> str:
    """Names, sizes, times, samples."""
    return f"{_digest(path)} {Snapshot(split_part(path)[0]).digest}"
