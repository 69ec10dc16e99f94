from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from bonemonai.errors import InputError
from bonemonai.sharing.bundle_files import bundle_files, read_configs
from bonemonai.sharing.bundle_manifest import check_manifest, check_repeated, make_manifest
from tests.sharing.small_bundle import write_bundle


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_bundle(tmp_path / "b", {"models/model.json": {"epoch": 3}, "models/model.pt": b"weights"})
    files = bundle_files(folder)
    contents = {name: path.read_bytes() for name, path in files.items()}
    (folder / "bundle.json").write_text(json.dumps(make_manifest("b", contents, read_configs(files))))
    return folder


def change(folder: Path, edit: Any, *, sign: bool = True) -> None:
    """Edit the list, and give it the digest that it then has."""
    content = json.loads((folder / "bundle.json").read_text())
    edit(content)
    if sign:
        digest = content.pop("digest")
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        content["digest"] = hashlib.sha256(text.encode()).hexdigest() if isinstance(digest, str) else digest
    (folder / "bundle.json").write_text(json.dumps(content))


def test_the_list_says_what_was_packed(folder: Path) -> None:
    manifest = check_manifest(bundle_files(folder))
    assert manifest is not None
    check_repeated(manifest, bundle_files(folder), read_configs(bundle_files(folder)))
    assert set(manifest["files"]) == set(bundle_files(folder)) - {"bundle.json"}
    assert manifest["files"]["models/model.pt"]["size"] == 7
    assert manifest["weights"] == {"models/model.pt": {"epoch": 3}}
    assert manifest["data_licence"] == ["No data are shipped.", "", "Weights are of phantoms."]
    assert set(manifest["made_with"]) == {"python", "bonemonai", "monai", "torch", "numpy"}
    assert check_manifest({}) is None


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("docs/README.md", "other", "is not the file that bundle.json lists"),
        ("models/model.pt", "weighty", "is not the file that bundle.json lists"),
        ("models/model.pt", None, "is on the list in bundle.json, but not there"),
        ("docs/added.md", "x", "is not on the list in bundle.json"),
        ("bundle.json", "[]", "is no list"),
        ("bundle.json", "{}", "is no list"),
        ("bundle.json", "{", "is no valid JSON"),
    ],
)
def test_changed_files_are_refused(folder: Path, name: str, content: str | None, reason: str) -> None:
    (folder / name).unlink(missing_ok=True)
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=f"^{name}: {reason}"):
        check_manifest(bundle_files(folder))


def test_a_changed_list_is_refused(folder: Path) -> None:
    change(folder, lambda content: content.update(name="other"), sign=False)
    with pytest.raises(InputError, match="has been changed since it was written"):
        check_manifest(bundle_files(folder))


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (lambda content: content["files"].pop("LICENSE"), "^LICENSE: is not on the list"),
        (lambda content: content["files"].update({"../x": {"size": 1, "sha256": ""}}), "but not there"),
        (lambda content: content["files"]["LICENSE"].update(size=1), "^LICENSE: is not the file"),
        (lambda content: content["files"]["LICENSE"].update(sha256="0" * 64), "^LICENSE: is not the file"),
        (lambda content: content["files"].update(LICENSE=None), "^LICENSE: is not the file"),
        (lambda content: content.update(files=[]), "of a format that this version does not know"),
        (lambda content: content.update(format=2), "of a format that this version does not know"),
        (lambda content: content.update(digest=None), "has been changed"),
    ],
)
def test_a_list_that_was_changed_and_signed_again_does_not_fit(folder: Path, edit: Any, reason: str) -> None:
    change(folder, edit)
    with pytest.raises(InputError, match=reason):
        check_manifest(bundle_files(folder))


@pytest.mark.parametrize("key", ["version", "needs", "data_licence", "weights"])
def test_what_the_list_repeats_must_agree(folder: Path, key: str) -> None:
    change(folder, lambda content: content.update({key: "other"}))
    files = bundle_files(folder)
    manifest = check_manifest(files)
    assert manifest is not None
    with pytest.raises(InputError, match=f"otherwise than the bundle's files about {key}"):
        check_repeated(manifest, files, read_configs(files))
