from __future__ import annotations

import struct
import subprocess
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bonemonai.data import hdf5_probe, open_volume
from bonemonai.data.hdf5_probe import probe_hdf5
from bonemonai.errors import InputError


def test_good_file_passes(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ct"] = np.zeros((4, 5, 6))
        file.create_dataset("chunked", data=np.zeros((4, 5, 6)), chunks=(1, 5, 6))
    probe_hdf5(tmp_path / "a.h5")


def test_what_is_no_hdf5_is_left_to_the_reader(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"hello")
    probe_hdf5(tmp_path / "a.h5")


@pytest.mark.parametrize(("status", "cause"), [(-11, "HDF5's library crashes on it"), (None, "finds no end in it")])
def test_crash_and_endless_search_are_refusals(
    status: int | None, cause: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **_: Any) -> Any:
        if status is None:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(hdf5_probe.subprocess, "run", run)
    with pytest.raises(InputError, match=cause):
        probe_hdf5(tmp_path / "a.h5")


def test_index_on_which_the_library_crashes(tmp_path: Path) -> None:
    """Found by mutation: three bytes of the chunks' B-tree, and reading ends in a segmentation fault."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("ct", data=np.zeros((6, 17, 19), np.int16), chunks=(2, 17, 19), fletcher32=True)
    content = bytearray(path.read_bytes())
    key = content.index(struct.pack("<IIQQQQ", 1296, 0, 2, 0, 0, 0))
    content[key : key + 16] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_volume(path).read()
