from __future__ import annotations

import tracemalloc
from pathlib import Path

from bonemonai.data.bounded_file import BoundedFile


def test_reads_like_any_file(tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "a").write_bytes(content)
    with BoundedFile(tmp_path / "a") as file, open(tmp_path / "a", "rb") as plain:
        for size in (10, 100_000, 0, 3, 10_000, 200_000, 5):
            assert file.read(size) == plain.read(size)
        file.seek(7)
        assert file.read() == content[7:]
        file.seek(300_000)
        assert file.read(100_000) == b""


def test_memory_is_that_of_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1" * 1000)
    with BoundedFile(tmp_path / "a") as file:
        tracemalloc.start()
        try:
            assert len(file.read(2**28)) == 1000
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()
