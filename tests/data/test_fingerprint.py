from __future__ import annotations

from pathlib import Path

from bonemonai.data import fingerprint


def test_tells_scans_apart_by_name_size_and_content(tmp_path: Path) -> None:
    for name, content in (("a", b"1" * 300), ("b", b"2" * 300)):
        (tmp_path / name).mkdir()
        for index in range(3):
            (tmp_path / name / f"p{index}").write_bytes(content)
    first, second = fingerprint(tmp_path / "a"), fingerprint(tmp_path / "b")
    assert (first["files"], first["bytes"]) == (3, 900)
    assert first["sha256_sampled"] != second["sha256_sampled"]
    assert fingerprint(tmp_path / "a") == first
    (tmp_path / "a" / "p1").rename(tmp_path / "a" / "p9")
    assert fingerprint(tmp_path / "a")["sha256_sampled"] != first["sha256_sampled"]


def test_does_not_tell_whose_the_data_are(tmp_path: Path) -> None:
    (tmp_path / "MuellerHans_1950.nii").write_bytes(b"x")
    assert "Mueller" not in str(fingerprint(tmp_path / "MuellerHans_1950.nii"))
