from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs
from bonemonai.errors import ResumeError

SLABS = [slice(0, 4), slice(4, 8), slice(8, 9)]


def count(start: int, stop: int) -> dict[str, int]:
    return {"planes": stop - start, f"plane {start}": 1}


def test_a_stopped_run_counts_only_what_is_missing(tmp_path: Path) -> None:
    path, calls = tmp_path / "record.json", []

    def failing(start: int, stop: int) -> dict[str, int]:
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return count(start, stop)

    with pytest.raises(KeyboardInterrupt):
        sum_over_slabs("a", SLABS, failing, SlabRecord(path, {"x": 1}))
    total = sum_over_slabs("a", SLABS, failing, SlabRecord(path, {"x": 1}))
    assert calls == [0, 4, 8, 8]
    assert total == sum_over_slabs("a", SLABS, count)
    assert total["planes"] == 9
    # another stage has slabs of its own
    sum_over_slabs("b", SLABS[:1], failing, SlabRecord(path, {"x": 1}))
    assert calls == [0, 4, 8, 8, 0]


def test_other_measurement_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    SlabRecord(path, {"x": 1, "y": [2]}).add("a", SLABS[0], {"n": 1})
    with pytest.raises(ResumeError, match=r"is of another measurement \(x\)") as refusal:
        SlabRecord(path, {"x": 3, "y": [2]})
    assert refusal.value.exit_code == 3
    path.write_text("[]")
    with pytest.raises(ResumeError, match="is no record"):
        SlabRecord(path, {"x": 1})


def test_killed_at_any_slab_it_ends_with_the_same_sums(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    code = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        "from bonemonai.analysis.slab_sums import SlabRecord, sum_over_slabs\n"
        "path, calls = Path(sys.argv[1]), []\n"
        "def count(start, stop):\n"
        "    calls.append(start)\n"
        "    if len(calls) == 2:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return {'planes': stop - start, 'sum': start}\n"
        "slabs = [slice(n, n + 1) for n in range(4)]\n"
        "print(sorted(sum_over_slabs('a', slabs, count, SlabRecord(path, {})).items()))\n"
    )
    codes = []
    for _ in range(4):
        run = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False)
        codes.append(run.returncode)
    # each run does one slab more, and the last one needs no more than one
    assert codes == [-signal.SIGKILL] * 3 + [0]
    assert run.stdout == "[('planes', 4), ('sum', 6)]\n"
    assert [file.name for file in tmp_path.iterdir()] == ["record.json"]
