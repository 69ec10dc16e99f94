"""What README.md says is done here: its commands are run, its Python executed, its links followed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_commands_and_python(tmp_path: Path) -> None:
    """From a folder that holds the bundles, as a clone does."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("no bash: README's commands are not run")
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for script in blocks("bash"):
        run = subprocess.run(
            [bash, "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert run.returncode == 0, f"{script}\n{run.stderr[-3000:]}"
    assert (tmp_path / "results" / "report.html").is_file()
    said = ""
    for code in blocks("python"):
        run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr[-3000:]
        said += run.stdout
    assert "(6, 120, 120) float32 (1.6, 1.6, 1.6)" in said
    assert (tmp_path / "labels" / "label.ome.zarr").is_dir()


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("https://"):
            assert (ROOT / target).exists(), target


def test_is_short() -> None:
    assert README.count("\n") <= 200
