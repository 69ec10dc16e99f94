"""The house: what stands where."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bonemonai.phantoms import write_srmct_study
from tests.conftest import ROOT

PACKAGE = ROOT / "bonemonai"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")


def test_top_level() -> None:
    for name in ("setup.cfg", "pyproject.toml", "bonemonai", "bundles", "tests", "data_manifests", "README.md"):
        assert (ROOT / name).exists(), name


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_module_has_a_test_of_its_name(module: Path) -> None:
    relative = module.relative_to(PACKAGE)
    name = "main" if module.name == "__main__.py" else module.stem
    assert (ROOT / "tests" / relative.parent / f"test_{name}.py").is_file()


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_neither_print_nor_assert(module: Path) -> None:
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id != "print", node.lineno


def test_bundles_hold_no_python() -> None:
    assert [path for path in (ROOT / "bundles").rglob("*.py*") if path.suffix.startswith(".py")] == []


def test_no_large_file_is_tracked() -> None:
    if shutil.which("git") is None:
        pytest.skip("no git: tracked files are not known")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not listed:
        pytest.skip("not a git checkout: tracked files are not known")
    for name in listed:
        # weights that a bundle ships may be larger
        most = 25_000_000 if re.fullmatch(r"bundles/\w+/models/\w+\.pt", name) else 1_000_000
        assert (ROOT / name).stat().st_size < most, name


def test_constraints_are_names_and_versions_only() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line), line


def test_phantoms_manifest_and_card_are_what_the_demo_writes(tmp_path: Path) -> None:
    shape = (1, 55, 55)
    write_srmct_study(tmp_path, shape=shape)
    shipped = ROOT / "data_manifests" / "srmct_lacuna_phantom.csv"
    assert shipped.read_text() == (tmp_path / "manifest.csv").read_text()
    card = json.loads(shipped.with_suffix(".json").read_text())
    assert {**card, "shape": list(shape)} == json.loads((tmp_path / "manifest.json").read_text())
