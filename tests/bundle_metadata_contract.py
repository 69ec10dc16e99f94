"""Of every bundle's contract: files, metadata and docs, what can be checked without running anything."""

from __future__ import annotations

import json
import os
import re
import shutil
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import verify_metadata
from packaging.requirements import Requirement
from packaging.version import Version

import bonemonai
from bonemonai.engines.weights import sha256
from bonemonai.sharing.identifiers import find_identifier
from bonemonai.sharing.verify import verify_bundle
from tests.bundle_case import BundleCase
from tests.conftest import ROOT

REQUIRED = (
    "schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version", "required_packages_version",
    "task", "description", "authors", "copyright", "network_data_format", "intended_use", "references",
)  # fmt: skip
FILES = ("LICENSE", "configs/metadata.json", "configs/logging.conf", "docs/README.md", "docs/data_license.txt")
# of docs/README.md; what follows the name of a section is the bundle's own
SECTIONS = ("Intended use", "Data", "Licence", "Performance", "Deviations", "Export", "Citation")


class MetadataContract:
    """See :class:`tests.bundle_contract.BundleContract`."""

    @pytest.fixture
    def metadata(self, case: BundleCase) -> dict[str, Any]:
        return json.loads(case.config("metadata").read_text())

    def test_required_keys(self, metadata: dict[str, Any]) -> None:
        assert [key for key in REQUIRED if key not in metadata] == []
        assert metadata["version"] in metadata["changelog"]
        assert "not a medical device" in metadata["intended_use"].lower()

    def test_monai_finds_the_metadata_valid(self, case: BundleCase, tmp_path: Path) -> None:
        schema = os.environ.get("BONEMONAI_METADATA_SCHEMA")
        if not schema:
            pytest.skip("BONEMONAI_METADATA_SCHEMA is not set: MONAI's schema file is not part of the repository")
        # what lies there is not downloaded again
        there = shutil.copy(ROOT / schema, tmp_path)
        known = {"filepath": there, "hash_val": sha256(there), "hash_type": "sha256"}
        verify_metadata(meta_file=str(case.config("metadata")), **known)
        wrong = tmp_path / "wrong.json"
        wrong.write_text(json.dumps({**json.loads(case.config("metadata").read_text()), "version": 1}))
        with pytest.raises(ValueError, match="1 is not of type 'string'"):
            verify_metadata(meta_file=str(wrong), **known)

    def test_named_versions_satisfy_the_packages_own_needs(self, metadata: dict[str, Any]) -> None:
        needs = {one.name.lower(): one.specifier for one in map(Requirement, requires("bonemonai") or ())}
        named = {
            "monai": metadata["monai_version"],
            "torch": metadata["pytorch_version"],
            "numpy": metadata["numpy_version"],
            **metadata["required_packages_version"],
        }
        assert named.pop("bonemonai") == bonemonai.__version__
        for name, version in named.items():
            assert Version(version) in needs[name.lower()], name

    def test_units_that_configs_expect_are_those_of_the_metadata(
        self, case: BundleCase, metadata: dict[str, Any]
    ) -> None:
        stated = metadata["network_data_format"]["inputs"]["image"]["units"]
        configs = {file.stem: json.loads(file.read_text()) for file in (case.folder / "configs").glob("*.json")}
        expected = {name: config.get("expects") for name, config in configs.items()}
        # every config that stands alone and reads scans for a network
        alone = {name for name, config in configs.items() if {"preprocessing", "scaling"} & config.keys()}
        assert {name for name, units in expected.items() if units is not None} == alone
        assert all(expected[name] == stated for name in alone)

    def test_files_are_all_there_small_and_of_nobody(self, case: BundleCase) -> None:
        for name in FILES:
            assert (case.folder / name).is_file(), name
        for path in (path for path in case.folder.rglob("*") if path.is_file()):
            assert path.suffix not in (".py", ".pyc", ".pyi", ".so")
            assert path.stat().st_size <= 25_000_000, path.name
            if path.suffix in (".json", ".conf", ".md", ".txt"):
                # an absolute path is one, too
                assert find_identifier(path.read_text(encoding="utf-8")) is None, path.name

    def test_static_checks_of_who_receives_it_pass(self, case: BundleCase) -> None:
        lines = verify_bundle(case.folder, case.folder.name)
        assert lines["configs"].endswith("all on the list")
        assert "older here" not in lines

    def test_docs_say_what_it_is_for_and_how_good_it_is(self, case: BundleCase) -> None:
        readme = (case.folder / "docs" / "README.md").read_text(encoding="utf-8")
        titles = re.findall(r"^## (.+)$", readme, flags=re.MULTILINE)
        assert [name for name in SECTIONS if not any(title.startswith(name) for title in titles)] == []
        assert "not a medical device" in readme.partition("\n## ")[0]
        if case.folder.parent != ROOT / "bundles":
            assert "FILL IN:" in readme  # a new one: bundle pack asks for what its author has to say
            return
        assert "FILL IN:" not in readme
        performance = re.split(r"\n## ", readme.partition("\n## Performance")[2])[0]
        assert re.search(r"\d", performance) or "No weights are shipped" in readme
        ships = sorted((case.folder / "models").glob("*.pt")) if (case.folder / "models").is_dir() else []
        assert bool(ships) != ("No weights are shipped" in readme)
