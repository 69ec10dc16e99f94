"""Kill it at any moment: what is on disk afterwards, and what the next run makes of it."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from bonemonai.errors import InputError, NumericalError, OutputError, ResumeError
from bonemonai.inferers.journal import read_journals
from bonemonai.inferers.result_writer import WORK
from tests import drill
from tests.drill import run


def journalled(out: Path) -> int:
    return len(read_journals(out / WORK))


def labels(out: Path) -> bytes:
    return np.asarray(zarr.open_array(out / "label.ome.zarr", path="0", mode="r")).tobytes()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_killed_at_every_commit_point_of_first_middle_and_last_block(
    scan: Path, undisturbed: str, tmp_path: Path
) -> None:
    """Fifteen runs die one after the other; each leaves what was finished, and the last one's result is the same."""
    expected = 0
    for block in (0, drill.BLOCKS // 2, drill.BLOCKS - 1):
        for point in drill.POINTS:
            left = block - expected
            if left < 0:  # the block is done: this point is past
                continue
            assert run(scan, tmp_path, kill=(point, left)) == -signal.SIGKILL
            expected = block + (point == "done")
            assert journalled(tmp_path) == expected, (point, block)
            assert not (tmp_path / "label.ome.zarr").exists()
    assert run(scan, tmp_path) == 0
    assert drill.content(tmp_path) == undisturbed
    assert list(tmp_path.rglob("*.partial")) == []


def test_storm_of_kills(scan: Path, undisturbed: str, tmp_path: Path) -> None:
    moments = random.Random(7)
    before = 0
    for _ in range(8):
        process = drill.start(drill.infer, scan, tmp_path, slow=0.02)
        time.sleep(moments.uniform(0.05, 0.8))
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
        assert journalled(tmp_path) >= before
        before = journalled(tmp_path)
    assert run(scan, tmp_path, slow=0.001) == 0
    # the slow network's weights have other names, so its run is another one: compare what was predicted
    other = tmp_path / "other"
    assert run(scan, other) == 0
    assert drill.content(other) == undisturbed
    assert labels(tmp_path) == labels(other)


def test_sigterm_exits_143_and_the_same_call_resumes(scan: Path, tmp_path: Path) -> None:
    process = drill.start(drill.infer, scan, tmp_path, slow=0.15)
    deadline = time.monotonic() + 30
    while journalled(tmp_path) < 1:
        assert time.monotonic() < deadline, "no block in 30 s"
        time.sleep(0.02)
    process.terminate()
    assert drill.finish(process, 25) == 143
    assert 1 <= journalled(tmp_path) < drill.BLOCKS
    assert run(scan, tmp_path, slow=0.001) == 0
    assert json.loads((tmp_path / "run.json").read_text())["inference"]["resumed"] >= 1


def test_full_disk_is_one_line_and_resumable(scan: Path, undisturbed: str, tmp_path: Path) -> None:
    """A limit on the size of files stands for a full disk: the probability's chunks are larger than it."""
    out, errors = tmp_path / "out", tmp_path / "errors.txt"
    assert run(scan, out, file_limit=3000, errors=errors) == 4
    assert "out: cannot be written: File too large" in errors.read_text()
    assert len(errors.read_text().splitlines()) == 1
    assert run(scan, out) == 0
    assert drill.content(out) == undisturbed


@pytest.mark.parametrize("harm", ["flip a bit", "delete a chunk", "truncate a chunk"])
@pytest.mark.parametrize("complete", [False, True])
def test_damaged_block_is_made_again(
    harm: str, complete: bool, scan: Path, undisturbed: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert run(scan, tmp_path, **({} if complete else {"kill": ("done", 3)})) == (0 if complete else -signal.SIGKILL)
    folder = tmp_path if complete else tmp_path / WORK
    chunk = folder / "label.ome.zarr" / "0" / "c" / "1" / "0" / "0"
    content = bytearray(chunk.read_bytes())
    if harm == "delete a chunk":
        chunk.unlink()
    else:
        content[len(content) // 2] ^= 4
        chunk.write_bytes(content if harm == "flip a bit" else content[:-5])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    about = drill.infer(scan, tmp_path)
    torch.set_num_threads(threads)
    assert "block at plane 16, row 0 is damaged or lost" in caplog.text
    assert about["resumed"] == (drill.BLOCKS - 1 if complete else 3)
    assert drill.content(tmp_path) == undisturbed


def test_processes_that_differ_are_refused(scan: Path, tmp_path: Path) -> None:
    port = free_port()
    processes = [
        drill.start(drill.infer, scan, tmp_path, seed=rank, ranks=(rank, 2, port), errors=tmp_path / f"{rank}.txt")
        for rank in range(2)
    ]
    assert [drill.finish(process) for process in processes] == [3, 3]
    assert "process 1 differs from the first in weights" in (tmp_path / "0.txt").read_text()


def test_changed_weights_config_or_input_refuse_to_resume(scan: Path, tmp_path: Path) -> None:
    own = drill.write_scan(tmp_path)
    out = tmp_path / "out"
    assert run(own, out, kill=("done", 1)) == -signal.SIGKILL
    torch.set_num_threads(1)
    for changed, options in (("weights", {"seed": 1}), ("inferer.mode", {"mode": "gaussian", "roi_size": 32})):
        with pytest.raises(ResumeError, match=changed) as refused:
            drill.infer(own, out, **options)
        assert refused.value.exit_code == 3
    with pytest.raises(ResumeError, match=r"options\.seed"):
        drill.infer(own, out, attributes={"options": {"seed": 3}})
    os.utime(own, ns=(1, 1))
    with pytest.raises(ResumeError, match=r"input\.modified"):
        drill.infer(own, out)
    torch.set_num_threads(2)
    with pytest.raises(ResumeError, match="threads"):
        drill.infer(own, out)
    assert journalled(out) == 2


def test_nan_weights_stop_and_name_the_block(scan: Path, tmp_path: Path) -> None:
    broken = drill.network()
    with torch.no_grad():
        broken.head.bias.fill_(torch.nan)
    with pytest.raises(NumericalError, match="NaN or infinite values for an input of zeros") as stopped:
        drill.infer(scan, tmp_path, net=broken)
    assert stopped.value.exit_code == 5
    with pytest.raises(NumericalError, match="block at plane 0, row 0"):
        drill.infer(scan, tmp_path, net=broken, mode="constant", roi_size=32)
    assert journalled(tmp_path) == 0


def test_input_that_changes_while_it_is_read_stops_the_run(tmp_path: Path) -> None:
    own = drill.write_scan(tmp_path)

    class Meddler(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = drill.network(), 0

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            if self.calls > 10 and image.shape[-1] == 44:
                os.utime(own, ns=(1, 1))
            return self.inner(image)

    with pytest.raises(InputError, match=r"scan\.tif: was changed while"):
        drill.infer(own, tmp_path / "out", net=Meddler())


@pytest.mark.parametrize("world", [2, 4])
def test_processes_share_the_blocks_and_give_the_same_bytes(
    world: int, scan: Path, undisturbed: str, tmp_path: Path
) -> None:
    port = free_port()
    processes = [drill.start(drill.infer, scan, tmp_path, ranks=(rank, world, port)) for rank in range(world)]
    assert [drill.finish(process) for process in processes] == [0] * world
    assert drill.content(tmp_path) == undisturbed
    lines = [path.read_text().splitlines() for path in sorted((tmp_path / WORK).glob("journal-*.jsonl"))]
    blocks = [tuple(json.loads(line)["block"]) for part in lines for line in part]
    assert sorted(blocks) == [(16 * n, 0) for n in range(drill.BLOCKS)]
    assert len(lines) == world


def test_killed_worker_ends_the_others_and_the_next_run_makes_up_for_it(
    scan: Path, undisturbed: str, tmp_path: Path
) -> None:
    port = free_port()
    options: list[dict[str, Any]] = [{}, {"kill": ("written", 1)}]
    processes = [drill.start(drill.infer, scan, tmp_path, ranks=(rank, 2, port), **options[rank]) for rank in range(2)]
    codes = [drill.finish(process) for process in processes]
    assert codes[1] == -signal.SIGKILL
    assert codes[0] == 1
    assert 3 <= journalled(tmp_path) < drill.BLOCKS
    assert run(scan, tmp_path) == 0
    assert drill.content(tmp_path) == undisturbed


def test_failure_of_one_process_is_everyones(scan: Path, tmp_path: Path) -> None:
    """A block that cannot be written by one process must not leave the other waiting."""
    port = free_port()
    options: list[dict[str, Any]] = [{}, {"file_limit": 3000}]
    processes = [drill.start(drill.infer, scan, tmp_path, ranks=(rank, 2, port), **options[rank]) for rank in range(2)]
    assert [drill.finish(process) for process in processes] == [4, 4]


def test_unexpected_error_of_the_first_process_reaches_the_others(tmp_path: Path) -> None:
    port = free_port()
    errors = [tmp_path / f"{rank}.txt" for rank in range(2)]
    processes = [drill.start(drill.agree_on_nothing, ranks=(rank, 2, port), errors=errors[rank]) for rank in range(2)]
    assert [drill.finish(process, 30) for process in processes] == [1, 1]
    assert all("the first process failed: ZeroDivisionError" in path.read_text() for path in errors)


def test_process_that_waits_for_others_hears_sigterm(scan: Path, tmp_path: Path) -> None:
    port = free_port()
    options = {"slow": 0.5}
    processes = [drill.start(drill.infer, scan, tmp_path, ranks=(rank, 2, port), **options) for rank in range(2)]
    deadline = time.monotonic() + 40
    # the first process has two blocks of five, and then waits for the second
    while len((tmp_path / WORK / "journal-0.jsonl").read_text().splitlines()
              if (tmp_path / WORK / "journal-0.jsonl").exists() else []) < 2:  # fmt: skip
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    processes[0].terminate()
    assert drill.finish(processes[0], 2) == 143
    assert drill.finish(processes[1], 30) == 1


def test_results_that_are_in_the_way_are_refused(scan: Path, tmp_path: Path) -> None:
    (tmp_path / "label.ome.zarr").mkdir()
    with pytest.raises(OutputError, match="exists already; say --overwrite True"):
        drill.infer(scan, tmp_path)
    assert list((tmp_path / "label.ome.zarr").iterdir()) == []
