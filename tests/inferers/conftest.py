"""The scan of the fault drills, and what an undisturbed run makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import drill


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drill.write_scan(tmp_path_factory.mktemp("scan"))


@pytest.fixture(scope="module")
def undisturbed(scan: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("undisturbed")
    assert drill.finish(drill.start(drill.infer, scan, out)) == 0
    return drill.content(out)
