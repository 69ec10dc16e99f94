"""What is refused before anything is computed."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest
from filelock import FileLock

from bonemonai.data import PreparedVolume
from bonemonai.errors import InputError, OutputError
from bonemonai.inferers import LabelOutput, ResultWriter
from bonemonai.inferers.result_writer import WORK
from tests import drill


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_output_within_the_scans_folder_is_refused(scan: Path, tmp_path: Path) -> None:
    drill.infer(scan, tmp_path / "a", also="tiff")
    with pytest.raises(InputError, match="lies within the scan's own folder"):
        drill.infer(tmp_path / "a" / "label", tmp_path / "a" / "label" / "out")


def test_second_run_on_the_same_output_is_refused(scan: Path, tmp_path: Path) -> None:
    process = drill.start(drill.infer, scan, tmp_path, slow=0.3)
    deadline = time.monotonic() + 30
    while not (tmp_path / WORK / "fingerprint.json").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    with pytest.raises(OutputError, match="another run is working"):
        drill.infer(scan, tmp_path)
    process.kill()
    process.join()


def test_locked_results_are_refused_before_the_scan_is_read(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second job by mistake must not read 89 GB for its grey values before it is told."""
    monkeypatch.setattr(PreparedVolume, "count_grey_values", lambda *_, **__: pytest.fail("the scan was read"))
    (tmp_path / WORK).mkdir()
    with FileLock(tmp_path / WORK / "lock"), pytest.raises(OutputError, match="another run is working"):
        drill.infer(scan, tmp_path)


def test_lock_of_one_process_alone_stops_all(scan: Path, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / WORK).mkdir()
    errors = [tmp_path / f"{rank}.txt" for rank in range(2)]
    with FileLock(tmp_path / WORK / "lock-1"):
        processes = [
            drill.start(drill.infer, scan, tmp_path, ranks=(rank, 2, port), errors=errors[rank]) for rank in range(2)
        ]
        assert [drill.finish(process) for process in processes] == [4, 4]
    assert all("another run is working" in path.read_text() for path in errors)


def test_unwritable_place_is_found_at_construction(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        ResultWriter(tmp_path / "file" / "out", [LabelOutput("a.ome.zarr")])
    assert not (tmp_path / "out").exists()


def test_outputs_need_different_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="different names"):
        ResultWriter(tmp_path, [LabelOutput("a.ome.zarr"), LabelOutput("a.ome.zarr")])
