"""The bill of materials as `make release` writes it, of what is installed here."""

from __future__ import annotations

import getpass
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import bonemonai
from tests.conftest import ROOT
from tests.test_dependencies import RUN_TIME, pins

# licences that would be ours too, by the names they have
COPYLEFT = re.compile(r"\bA?GPL|(?<!Lesser )General Public|Affero")


def write_sbom(path: Path) -> None:
    pytest.importorskip("cyclonedx_py", reason="cyclonedx-bom is not installed (extra release)")
    if shutil.which("make") is None:
        pytest.skip("no make")
    names = {"BIN": Path(sys.executable).parent, "RUN_TIME": sys.executable, "SBOM": path}
    command = ["make", "--silent", "sbom", *(f"{name}={value}" for name, value in names.items())]
    # from the checkout on the path, the package itself would be listed as one that it needs
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=300)


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    write_sbom(path)
    return path


@pytest.fixture(scope="module")
def components(sbom: Path) -> dict[str, dict[str, Any]]:
    return {canonicalize_name(each["name"]): each for each in json.loads(sbom.read_text())["components"]}


def licences(component: dict[str, Any]) -> list[str]:
    """Expressions, identifiers, names, and texts that are one line."""
    found = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        text = licence.get("text", {}).get("content", "")
        found += [entry.get("expression", ""), licence.get("id", ""), licence.get("name", "")]
        found += [text] if "\n" not in text.strip() and len(text) < 100 else []
    return [name for name in found if name]


def test_is_valid_cyclonedx(sbom: Path) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json")
    from cyclonedx.schema import SchemaVersion

    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str(sbom.read_text()) is None
    assert validation.JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "CycloneDX"}') is not None


def test_is_about_this_package_and_the_same_every_time(sbom: Path, tmp_path: Path) -> None:
    content = json.loads(sbom.read_text())
    root = content["metadata"]["component"]
    assert (root["name"], root["version"], root["type"]) == ("bonemonai", bonemonai.__version__, "library")
    assert "serialNumber" not in content
    assert "timestamp" not in content["metadata"]
    write_sbom(tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == sbom.read_bytes()


@pytest.mark.parametrize("requirement", RUN_TIME, ids=lambda each: each.name)
def test_every_dependency_is_in_it(requirement: Requirement, components: dict[str, dict[str, Any]]) -> None:
    name = canonicalize_name(requirement.name)
    component = components[name]
    public = component["version"].partition("+")[0]
    assert public in {str(pins(file)[name]) for file in ("constraints.txt", "constraints-lowest.txt")}
    assert component["purl"].startswith(f"pkg:pypi/{name}@{public}")
    assert licences(component)


def test_nothing_in_it_is_under_the_gpl(components: dict[str, dict[str, Any]]) -> None:
    assert "bonemonai" not in components
    for name, component in components.items():
        assert not COPYLEFT.search(" ".join(licences(component))), name


@pytest.mark.parametrize(
    ("licence", "found"),
    [
        ("GPL-3.0-only", True), ("AGPL-3.0", True), ("License :: OSI Approved :: GNU General Public License v3", True),
        ("GNU Affero General Public License v3", True), ("MIT OR GPL-2.0-or-later", True), ("LGPL-2.1", False),
        ("GNU Lesser General Public License v2", False), ("MPL-2.0 AND MIT", False),
    ],
)  # fmt: skip
def test_what_counts_as_gpl(licence: str, found: bool) -> None:
    assert bool(COPYLEFT.search(licence)) == found


def test_says_nothing_of_the_machine(sbom: Path) -> None:
    text = sbom.read_text()
    for private in (str(ROOT), sys.executable, "file://"):
        assert private not in text
    user = getpass.getuser()
    if user != "root":  # "root" is what the package itself is called there
        assert not re.search(rf"\b{re.escape(user)}\b", text)
