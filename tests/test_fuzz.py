"""Thousands of files made wrong at random: never a wrong volume, a hang, a crash, or memory without bounds.

``BONEMONAI_FUZZ_SEED`` and ``BONEMONAI_FUZZ_CASES`` set where it begins and how far it goes.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import fuzz
from tests.conftest import ROOT

logger = logging.getLogger(__name__)

SEED = int(os.environ.get("BONEMONAI_FUZZ_SEED", "20261121"))
CASES = int(os.environ.get("BONEMONAI_FUZZ_CASES", "2000"))
ACCEPTED = ("refused", "right", "as the file now says")


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("right")
    fuzz.write_all(folder)
    return folder


def cases(folder: Path, number: int) -> list[fuzz.Case]:
    names = sorted(path.name for path in folder.iterdir() if len(path.name) > 6)
    return [fuzz.Case(SEED, index, names[index % len(names)]) for index in range(number)]


def test_files_before_mutation_are_read(right: Path) -> None:
    for case in cases(right, 40):
        shape = fuzz.read(right / case.name)[0]
        assert case.name.endswith((".csv", ".json")) or shape == fuzz.SHAPE


def test_mutated_files_are_read_right_or_refused(right: Path, tmp_path: Path) -> None:
    logger.info("seed %d, %d cases", SEED, CASES)
    os.environ["PYTHONPATH"] = str(ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz"])
    bad: list[str] = []
    seen: Counter[str] = Counter()
    all_cases = cases(right, CASES)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [
            pool.submit(fuzz.judge, case, right / case.name, tmp_path / f"last_{index % 64}")
            for index, case in enumerate(all_cases)
        ]
        for case, future in zip(all_cases, futures, strict=True):
            try:
                outcome, how = future.result(timeout=120)
            except BrokenProcessPool:
                last = [file.read_text() for file in tmp_path.glob("last_*")]
                pytest.fail(f"a reader took its process down; one of {last}")
            seen[f"{outcome}"] += outcome in ACCEPTED
            if outcome not in ACCEPTED:
                bad.append(f"{case} {how}: {outcome}")
    logger.info("%s", dict(seen))
    assert not bad, f"{len(bad)} of {CASES}, seed {SEED}: " + "\n".join(bad[:20])
    # the mutations are worth their name, and do not only break things
    assert seen["refused"] > 0.3 * CASES
    assert seen["right"] > 0.05 * CASES


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), number=st.integers(0, 10**6))
def test_any_mutation_at_all(seed: int, number: int, right: Path, tmp_path: Path) -> None:
    """The same in this process, with numbers that hypothesis chooses and shrinks; HDF5 may take a process down."""
    names = [case.name for case in cases(right, 40) if not case.name.endswith(".h5")]
    case = fuzz.Case(seed, number, names[number % len(names)])
    outcome, how = fuzz.judge(case, right / case.name, tmp_path / "last")
    assert outcome in ACCEPTED, how


@pytest.mark.parametrize("number", range(30))
def test_command_line(number: int, right: Path, tmp_path: Path) -> None:
    case = cases(right, 30)[number]
    command = ["inspect", str(tmp_path / case.name)]
    if case.name.endswith((".csv", ".json")):
        command = ["manifest", "check", str(tmp_path / case.name), "--no-pixels", "--classes", "a,b"]
        for image in right.glob("image?"):
            (tmp_path / image.name).touch()
    (shutil.copytree if (right / case.name).is_dir() else shutil.copy)(right / case.name, tmp_path / case.name)
    fuzz.mutate(case, tmp_path / case.name)
    run = subprocess.run(
        [sys.executable, "-m", "bonemonai", *command], capture_output=True, text=True, check=False, timeout=30
    )
    assert run.returncode in (0, 2), run.stderr
    assert len(run.stderr.splitlines()) == (run.returncode == 2), run.stderr
    assert run.stderr.startswith("bonemonai: error: ") or not run.returncode
