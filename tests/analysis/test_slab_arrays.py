from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.analysis.slab_arrays import SlabArrays
from bonemonai.analysis.slab_sums import SlabRecord
from bonemonai.errors import ResumeError

SLAB = slice(4, 8)


def kept(folder: Path, source: dict[str, int] | None = None) -> SlabArrays:
    return SlabArrays(SlabRecord(folder / "r.json", {"x": 1}), "pieces", source)


@pytest.mark.parametrize("largest", [0, 255, 256, 65535, 2**32 - 1, 2**40])
def test_what_is_kept_is_found_to_the_bit(largest: int, tmp_path: Path) -> None:
    sums = np.random.default_rng(0).normal(size=(5, 25))
    labels = np.array([[0, largest], [1, 0]])
    assert kept(tmp_path).find(SLAB) is None
    assert kept(tmp_path).find_last_plane(SLAB) is None
    kept(tmp_path).add(SLAB, {"sums": sums, "joins": np.empty((0, 2), np.int64)}, labels)
    found, plane = kept(tmp_path).find(SLAB), kept(tmp_path).find_last_plane(SLAB)
    assert found is not None
    assert plane is not None
    assert found["sums"].tobytes() == sums.tobytes()
    assert found["joins"].shape == (0, 2)
    np.testing.assert_array_equal(plane, labels)
    assert plane.dtype == np.min_scalar_type(largest)
    assert kept(tmp_path).find(slice(0, 4)) is None
    kept(tmp_path).drop_last_plane(SLAB)
    kept(tmp_path).drop_last_plane(SLAB)
    assert kept(tmp_path).find_last_plane(SLAB) is None
    assert [file.name for file in (tmp_path / "r.json.d").iterdir()] == ["pieces 4-8 arrays.npz"]


def test_other_source_is_refused_and_its_folder_may_be_deleted(tmp_path: Path) -> None:
    kept(tmp_path, {"files": 1}).add(SLAB, {"n": np.arange(3)}, None)
    for source in ({"files": 2}, None):
        with pytest.raises(ResumeError, match=r"r\.json\.d: holds pieces of another mask; delete it, or") as refusal:
            kept(tmp_path, source).find(SLAB)
        assert "\n" not in str(refusal.value)
    (tmp_path / "r.json.d" / "pieces 4-8 arrays.npz").unlink()
    other = kept(tmp_path, {"files": 2})
    assert other.find(SLAB) is None
    other.add(SLAB, {"n": np.arange(4)}, None)
    assert len((kept(tmp_path, {"files": 2}).find(SLAB) or {})["n"]) == 4


@pytest.mark.parametrize("what", ["arrays", "last plane"])
@pytest.mark.parametrize("damage", ["truncated", "changed", "empty", "of another slab"])
def test_damaged_file_is_refused_until_it_is_deleted(what: str, damage: str, tmp_path: Path) -> None:
    kept(tmp_path).add(SLAB, {"n": np.arange(300)}, np.arange(300).reshape(20, 15))
    kept(tmp_path).add(slice(8, 12), {"n": np.arange(200)}, np.arange(300).reshape(15, 20))
    file = tmp_path / "r.json.d" / f"pieces 4-8 {what}.npz"
    content = file.read_bytes()
    if damage == "of another slab":
        file.with_name(f"pieces 8-12 {what}.npz").replace(file)
    else:
        middle = bytes([content[len(content) // 2] ^ 1])
        changed = content[: len(content) // 2] + middle + content[len(content) // 2 + 1 :]
        file.write_bytes({"truncated": content[:-9], "changed": changed, "empty": b""}[damage])
    find = SlabArrays.find if what == "arrays" else SlabArrays.find_last_plane
    with pytest.raises(ResumeError, match=rf"pieces 4-8 {what}\.npz: is damaged; delete it, and its planes") as refusal:
        find(kept(tmp_path), SLAB)
    assert "\n" not in str(refusal.value)
    file.unlink()
    assert find(kept(tmp_path), SLAB) is None


def test_file_that_the_record_does_not_list_counts_for_nothing(tmp_path: Path) -> None:
    """What was measured before the record was deleted, or what a killed run had no time to list."""
    kept(tmp_path).add(SLAB, {"n": np.arange(3)}, None)
    (tmp_path / "r.json").unlink()
    (tmp_path / "r.json.d" / ".pieces 4-8 arrays.npz.partial").write_bytes(b"PK half")
    assert kept(tmp_path).find(SLAB) is None
    kept(tmp_path).add(SLAB, {"n": np.arange(5)}, None)
    assert len((kept(tmp_path).find(SLAB) or {})["n"]) == 5
    assert [file.name for file in (tmp_path / "r.json.d").iterdir()] == ["pieces 4-8 arrays.npz"]
