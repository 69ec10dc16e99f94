from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import open_volume
from bonemonai.inferers import LabelOutput, ProbabilityOutput
from bonemonai.inferers.block_store import BlockStore

SHAPE = (20, 40, 30)
BOX = (slice(16, 20), slice(32, 40), slice(0, 30))


@pytest.fixture
def store(tmp_path: Path) -> BlockStore:
    outputs = [LabelOutput("label.ome.zarr"), ProbabilityOutput("p.ome.zarr", dtype="float16")]
    store = BlockStore(tmp_path, outputs, SHAPE, (1, 1, 1), (16, 32, 512))
    store.create()
    return store


def values(number: int = 3) -> dict[str, np.ndarray]:
    return {"label.ome.zarr": np.full((4, 8, 30), number, np.uint8), "p.ome.zarr": np.ones((4, 8, 30), np.float16)}


def test_digest_is_of_the_blocks_own_files(store: BlockStore) -> None:
    digest = store.write(BOX, values())
    assert store.digest(BOX) == digest
    store.write((slice(0, 16), slice(0, 32), slice(0, 30)), {k: v[0, 0, 0] for k, v in values(9).items()})
    assert store.digest(BOX) == digest
    assert store.write(BOX, values(4)) != digest
    assert store.write(BOX, values()) == digest


def test_empty_blocks_are_files_too(store: BlockStore, tmp_path: Path) -> None:
    store.write(BOX, {k: np.zeros_like(v) for k, v in values().items()})
    assert (tmp_path / "label.ome.zarr" / "0" / "c" / "1" / "1" / "0").is_file()


def test_lost_file_has_no_digest(store: BlockStore, tmp_path: Path) -> None:
    store.write(BOX, values())
    (tmp_path / "p.ome.zarr" / "0" / "c" / "1" / "1" / "0").unlink()
    assert store.digest(BOX) is None


def test_sweep_removes_half_written_files_only(store: BlockStore, tmp_path: Path) -> None:
    digest = store.write(BOX, values())
    (tmp_path / "label.ome.zarr" / "0" / "c" / "1" / "1" / "0.123.partial").write_bytes(b"half")
    store.sweep()
    assert list(tmp_path.rglob("*.partial")) == []
    assert store.digest(BOX) == digest


def test_create_leaves_what_is_there(store: BlockStore) -> None:
    digest = store.write(BOX, values())
    store.create()
    assert store.digest(BOX) == digest


def test_filled_store_is_read_as_volumes(store: BlockStore, tmp_path: Path) -> None:
    whole = np.random.default_rng(0).integers(0, 2, SHAPE).astype(np.uint8)
    for z in (0, 16):
        box = (slice(z, min(z + 16, 20)), slice(0, 40), slice(0, 30))
        store.write(box, {"label.ome.zarr": whole[box], "p.ome.zarr": whole[box].astype(np.float16)})
    for array in store.stores.values():
        array.finish({})
    np.testing.assert_array_equal(open_volume(tmp_path / "label.ome.zarr").read(), whole)
    np.testing.assert_array_equal(open_volume(tmp_path / "p.ome.zarr").read(), whole)
