"""What is declared is used, what is used is declared, and both files of constraints lie within its bounds."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import ROOT

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
PROJECT = tomllib.loads(TEXT)["project"]
RUN_TIME = [Requirement(line) for line in PROJECT["dependencies"]]
EXTRAS = {
    name: [each for each in map(Requirement, lines) if each.name != "bonemonai"]
    for name, lines in PROJECT["optional-dependencies"].items()
}
ALL = [*RUN_TIME, *(requirement for extra in EXTRAS.values() for requirement in extra)]
# the extra dev brings others; one that it leaves out is installed by nobody here, and pinned nowhere
SELF = [each for each in map(Requirement, PROJECT["optional-dependencies"]["dev"]) if each.name == "bonemonai"]
TESTED = {"dev", *(extra for each in SELF for extra in each.extras)}
PINNED = [*RUN_TIME, *(requirement for name in TESTED for requirement in EXTRAS[name])]
TOOLS = ("dev", "release")  # extras that no module of the package imports
# where a distribution's name is not its module's
MODULES = {
    "aimio-py": "py_aimio",
    "markdown-it-py": "markdown_it",
    "mlflow-skinny": "mlflow",
    "pyopenssl": "OpenSSL",
    "pytorch-ignite": "ignite",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
PARTS = {"mpl_toolkits": "matplotlib"}
# why the lowest version that a bound admits is not the bound
LATER = {"pandas-stubs": "its versions end in a date"}
# what PyTorch's builds for CUDA bring along depends on the machine
OF_CUDA = re.compile(r"(nvidia|cuda)-.*|triton")


def pins(name: str) -> dict[str, Version]:
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.lstrip().startswith("#")]
    found = [re.fullmatch(r"([A-Za-z0-9_.-]+)==([0-9][0-9a-z.]*)", line) for line in lines]
    assert None not in found, lines[found.index(None)]
    return {canonicalize_name(match[1]): Version(match[2]) for match in found if match}


def module_of(requirement: Requirement) -> str:
    name = canonicalize_name(requirement.name)
    return MODULES.get(name, requirement.name.replace("-", "_"))


def imported() -> set[str]:
    """Top names of all that the package imports, at the top of a module, in a function, or by name."""
    names: set[str] = set()
    for path in (ROOT / "bonemonai").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
                names.add(node.module)
            elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "import_module":
                names |= {str(part.value) for part in node.args if isinstance(part, ast.Constant)}
    tops = {name.partition(".")[0] for name in names}
    return {PARTS.get(name, name) for name in tops} - set(sys.stdlib_module_names) - {"bonemonai"}


def needed(package: str, extras: set[str]) -> set[str]:
    """All that a package needs here, and what that needs, as far as it is installed."""
    found: set[str] = set()
    left = {(package, extra) for extra in {"", *extras}}
    done: set[tuple[str, str]] = set()
    while left:
        name, extra = left.pop()
        done.add((name, extra))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:
            continue
        for each in map(Requirement, lines):
            if each.marker is None or each.marker.evaluate({"extra": extra}):
                found.add(canonicalize_name(each.name))
                left |= {(canonicalize_name(each.name), wanted) for wanted in {"", *each.extras}} - done
    return found


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-lowest.txt"])
def test_every_dependency_is_pinned_within_its_bounds(file: str) -> None:
    pinned = pins(file)
    for requirement in PINNED:
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_lowest_pins_are_the_lower_bounds() -> None:
    pinned = pins("constraints-lowest.txt")
    for requirement in PINNED:
        bounds = [each.version for each in requirement.specifier if each.operator == ">="]
        assert len(bounds) == 1, requirement
        name = canonicalize_name(requirement.name)
        assert (pinned[name] == Version(bounds[0])) != (name in LATER), requirement


def test_upper_bounds_are_the_next_major() -> None:
    pinned = pins("constraints.txt")
    for requirement in PINNED:
        for each in requirement.specifier:
            if each.operator != ">=":
                assert each.operator == "<", requirement
                assert each.version == str(pinned[canonicalize_name(requirement.name)].major + 1), requirement


def test_imports_are_declared() -> None:
    declared = {module_of(each) for each in ALL if each not in [tool for name in TOOLS for tool in EXTRAS[name]]}
    assert {"numpy", "torch", "py_aimio", "model_signing"} <= imported()
    assert imported() - declared == set()


def test_what_is_declared_is_imported_or_says_why() -> None:
    names = imported()
    for requirement in (each for each in ALL if each not in [tool for name in TOOLS for tool in EXTRAS[name]]):
        line = next(line for line in TEXT.splitlines() if re.search(rf'"{re.escape(requirement.name)}[\[<>=]', line))
        assert module_of(requirement) in names or "#" in line, requirement


@pytest.mark.parametrize("requirement", ALL, ids=lambda each: each.name)
def test_what_is_installed_here_lies_within_the_bounds(requirement: Requirement) -> None:
    try:
        installed = version(requirement.name)
    except PackageNotFoundError:
        if requirement in RUN_TIME:
            raise
        pytest.skip(f"{requirement.name} is not installed")
    assert requirement.specifier.contains(installed, prereleases=True)


def test_nothing_is_left_to_the_day_of_installation() -> None:
    names = ("constraints.txt", "constraints-lowest.txt")
    pinned = next((pins(name) for name in names if pins(name)["numpy"] == Version(version("numpy"))), None)
    if pinned is None:
        pytest.skip("what is installed here is neither file's")
    found = needed("bonemonai", TESTED) - {"bonemonai"}
    assert len(found) > len(RUN_TIME)
    assert {name for name in found if not OF_CUDA.fullmatch(name)} - pinned.keys() == set()
