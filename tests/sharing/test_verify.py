from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from packaging.version import Version

from bonemonai.errors import InputError
from bonemonai.sharing.archive_extraction import opened_bundle
from bonemonai.sharing.bundle_files import bundle_files, code_digest
from bonemonai.sharing.pack import pack_bundle
from bonemonai.sharing.verify import verify_bundle
from tests.conftest import ROOT
from tests.sharing.small_bundle import INFERENCE, LOGGING, METADATA, write_bundle
from tests.sharing.test_weights_check import packed, weights
from tests.sharing.test_weights_scan import Evil, trained


@pytest.mark.parametrize("bundle", sorted((ROOT / "bundles").iterdir()), ids=lambda path: path.name)
def test_the_projects_own_bundles_pass(bundle: Path) -> None:
    lines = verify_bundle(bundle, bundle.name)
    assert lines["configs"].endswith("all on the list")
    # nothing is, but for the lowest versions that the package takes
    made_with = json.loads((bundle / "configs" / "metadata.json").read_text())["numpy_version"]
    assert ("older here" in lines) == (Version(version("numpy")) < Version(made_with))


def test_what_was_checked_is_said(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "small", {"models/model.pt": packed(weights())})
    lines = verify_bundle(folder, "small")
    assert lines["bundle"] == "small 0.2.0"
    assert lines["files"] == "7, 0.0 MB; no bundle.json to compare them with"
    assert lines["configs"] == "2; 1 targets and 6 expressions, all on the list"
    assert lines["weights"] == "models/model.pt; only tensors"
    assert lines["data"] == "No data are shipped."
    pack_bundle(folder, tmp_path / "a.zip")
    with opened_bundle(tmp_path / "a.zip") as (unpacked, name):
        assert verify_bundle(unpacked, name)["files"] == "9, 0.0 MB; sizes and sha256 as on its list"


def test_versions_that_are_older_here_are_said(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", {"configs/metadata.json": {**METADATA, "monai_version": "1000.0"}})
    assert verify_bundle(folder, "b")["older here"].startswith("monai 1000.0 (here ")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (
            {"configs/inference.json": {**INFERENCE, "x": "$open('y')"}},
            "configs/inference.json: x: .* uses open",
        ),
        ({"configs/metadata.json": {**METADATA, "x": "$exec('y')"}}, "configs/metadata.json: x: .* uses exec"),
        ({"models/model.json": {"x": {"_target_": "os.system"}}}, "models/model.json: x::_target_: 'os.system' is not"),
        (
            {"configs/logging.conf": LOGGING.replace("(sys.stdout,)", "(open('x'),)")},
            "configs/logging.conf: logging: .*args=",
        ),
        ({"models/model.pt": packed({"a": Evil()})}, "models/model.pt: would run posix system"),
        ({"models/model.pt": packed(trained())}, "models/model.pt: holds the state of an optimiser"),
        ({"configs/metadata.json": None}, ".*: is no bundle: it holds no configs/metadata.json"),
        ({"configs/evil.py": "import os"}, "configs/evil.py: is no part of a bundle"),
        ({"bundle.json": "{}"}, "bundle.json: is no list"),
    ],
)
def test_refused_in_one_line(files: dict[str, Any], reason: str, tmp_path: Path) -> None:
    folder = write_bundle(tmp_path / "b", files)
    with pytest.raises(InputError, match=f"^{reason}") as error:
        verify_bundle(folder, "b")
    assert "\n" not in str(error.value)


def test_configs_that_were_read_can_be_trusted(tmp_path: Path) -> None:
    evil = {"x": "$open('y')", "y": {"_target_": "os.system"}}
    files = {"configs/inference.json": {**INFERENCE, **evil}, "configs/logging.conf": LOGGING.replace("Stream", "File")}
    folder = write_bundle(tmp_path / "b", files)
    digest = code_digest(bundle_files(folder))
    with pytest.raises(InputError, match=rf"\(2 more\); read the configs, and if .* --trust-code {digest}\."):
        verify_bundle(folder, "b")
    assert verify_bundle(folder, "b", trust_code=digest.upper())["configs"].endswith("3 of them trusted, not checked")
    with pytest.raises(
        InputError, match=f"^--trust-code: is not the digest of this bundle's configs, which is {digest}"
    ):
        verify_bundle(folder, "b", trust_code="0" * 64)
    # trust is of these configs, not of those that somebody made of them
    (folder / "configs" / "inference.json").write_text(json.dumps({**INFERENCE, **evil, "z": "$exec('1')"}))
    with pytest.raises(InputError, match="is not the digest"):
        verify_bundle(folder, "b", trust_code=digest)
