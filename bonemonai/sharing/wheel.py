"""This package as a wheel, built from the source it is installed from, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bonemonai
from bonemonai.errors import InputError

_PARTS = ("pyproject.toml", "setup.cfg", "README.md", "LICENSE", "bonemonai")
_TIME = "315532800"  # 1980-01-01, the earliest that a zip can state


def build_wheel() -> tuple[str, bytes]:
    """Build the wheel; the same source gives the same bytes.

    Returns:
        Its file name, and its content.

    Raises:
        InputError: if the package is not installed from its source (``pip install -e``), or pip or setuptools is
            missing.
    """
    root = Path(bonemonai.__file__).parent.parent
    if not (root / "pyproject.toml").is_file():
        raise InputError("--wheel", "needs the source of bonemonai: install it from there, with pip install -e.")
    with tempfile.TemporaryDirectory(prefix="bonemonai-") as folder:
        # a copy: building leaves folders behind
        source, out = Path(folder) / "source", Path(folder) / "out"
        source.mkdir()
        for name in _PARTS:
            if (root / name).is_dir():
                shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
            elif (root / name).is_file():
                shutil.copyfile(root / name, source / name)
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--wheel-dir", str(out), str(source)]
        environment = {**os.environ, "SOURCE_DATE_EPOCH": _TIME}
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        wheels = list(out.glob("*.whl"))
        if run.returncode or len(wheels) != 1:
            last = (run.stderr.strip().splitlines() or ["pip gave no wheel"])[-1]
            raise InputError("--wheel", f"cannot be built here without a network: {last}")
        return wheels[0].name, wheels[0].read_bytes()
