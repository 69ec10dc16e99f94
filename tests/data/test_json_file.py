from __future__ import annotations

from pathlib import Path

import pytest

from bonemonai.data.json_file import read_json, write_json


def test_what_was_written_is_read(tmp_path: Path) -> None:
    content = {"block": [0, 512], "µm": 1.5, "none": None}
    write_json(tmp_path / "a" / "run.json", content)
    assert read_json(tmp_path / "a" / "run.json") == content


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe{}", b"null"])
def test_what_is_no_object_is_none(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    assert read_json(path) is None


def test_a_folder_is_none(tmp_path: Path) -> None:
    assert read_json(tmp_path) is None


def test_content_that_is_no_json_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "run.json", {"a": {1}})
    assert read_json(tmp_path / "run.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]
