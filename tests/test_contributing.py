"""What CONTRIBUTING.md shows is done here, in a copy: files written, lines added, their tests and commands run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def walk(title: str) -> str:
    found = re.search(rf"^## {title}\n(.*?)(?=^## )", TEXT, re.M | re.S)
    assert found is not None, title
    return found[1]


def block(title: str, language: str) -> str:
    return re.findall(rf"```{language}\n(.*?)```", walk(title), re.S)[0]


def files(title: str) -> dict[str, str]:
    """Each begins with a comment that is its path."""
    parts = re.split(r"^# ([\w/]+\.py)\n", block(title, "python"), flags=re.M)[1:]
    return {name: content.rstrip() + "\n" for name, content in zip(parts[::2], parts[1::2], strict=True)}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with all that the walks over code add."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("bonemonai", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.cfg"):
        shutil.copyfile(ROOT / name, folder / name)
    (folder / "bundles").mkdir()
    for title in ("Add a transform", "Add a network"):
        for name, content in files(title).items():
            assert not (folder / name).exists(), name
            (folder / name).write_text(content)
        module, line = re.findall(r"A line in\s+`(\S+)`[^`]*`([^`]+)`", walk(title))[0]
        before = (folder / module).read_text()
        (folder / module).write_text(before.replace("submod_attrs={\n", f"submod_attrs={{\n        {line}\n"))
    return folder


def run(copy: Path, *command: str) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(copy)}
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def test_code_that_is_shown_passes_its_tests_and_those_of_the_house(copy: Path) -> None:
    shown = [name for title in ("Add a transform", "Add a network") for name in files(title)]
    modules, tests = shown[::2], shown[1::2]
    names = " or ".join(Path(module).name for module in modules)
    run(copy, sys.executable, "-m", "pytest", "-q", *tests)
    run(copy, sys.executable, "-m", "pytest", "-q", "tests/test_layout.py", "-k", names)


def test_code_that_is_shown_is_as_clean_as_the_rest(copy: Path) -> None:
    shown = [name for title in ("Add a transform", "Add a network") for name in files(title)]
    run(copy, "ruff", "check", *shown)
    run(copy, "ruff", "format", "--check", *shown)
    run(copy, "mypy", *shown[::2])


def test_commands_make_a_bundle_with_the_network_that_is_shown(copy: Path) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash: the commands of CONTRIBUTING.md are not run")
    script = block("Add a bundle", "bash").replace("bonemonai ", f"{sys.executable} -m bonemonai ")
    run(copy, bash, "-euo", "pipefail", "-c", script)
    (weights,) = (copy / "bundles").glob("*/models/model.pt")
    code = (
        "import sys\nfrom bonemonai.networks import ContextNet\n"
        "from bonemonai.networks.state_dict import read_state_dict\n"
        "ContextNet().load_state_dict(read_state_dict(sys.argv[1]), strict=True)"
    )
    run(copy, sys.executable, "-c", code, str(weights))


def test_walks_are_short() -> None:
    assert sum(walk(f"Add a {what}").count("\n") for what in ("transform", "network", "bundle")) <= 90
