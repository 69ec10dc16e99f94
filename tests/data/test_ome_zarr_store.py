from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import OmeZarrStore, open_volume
from bonemonai.errors import InputError


def filled(path: Path, chunks: tuple[int, int, int] = (16, 512, 512)) -> tuple[OmeZarrStore, np.ndarray]:
    values = np.random.default_rng(0).integers(0, 9, (20, 30, 1100)).astype(np.uint8)
    store = OmeZarrStore(path, shape=values.shape, dtype="uint8", voxel_size_um=(3, 2, 1), chunks=chunks)
    store.create()[:] = values
    return store, values


def digest(path: Path) -> str:
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return hashlib.sha256(b"".join(f"{f.relative_to(path)}".encode() + f.read_bytes() for f in files)).hexdigest()


def test_is_no_image_until_it_is_finished(tmp_path: Path) -> None:
    store, values = filled(tmp_path / "a.ome.zarr")
    with pytest.raises(InputError):
        open_volume(store.path)
    store.finish({})
    volume = open_volume(store.path)
    assert volume.voxel_size_um == (3, 2, 1)
    np.testing.assert_array_equal(volume.read(), values)


def test_finishing_twice_and_writing_again_give_the_same_bytes(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "a.ome.zarr")
    store.finish({"seed": 1})
    once = digest(store.path)
    store.finish({"seed": 1})
    other, _ = filled(tmp_path / "b" / "a.ome.zarr")
    other.finish({"seed": 1})
    assert digest(store.path) == once == digest(other.path)


def test_chunks_are_at_most_those_given(tmp_path: Path) -> None:
    store, values = filled(tmp_path / "a.ome.zarr", (8, 64, 256))
    assert store.chunks == (8, 30, 256)
    store.finish({})
    np.testing.assert_array_equal(open_volume(store.path).read(), values)


def test_another_array_in_its_place_is_not_written_to(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "a.ome.zarr")
    other = OmeZarrStore(store.path, shape=(20, 30, 1100), dtype="float32", voxel_size_um=(3, 2, 1))
    with pytest.raises(ValueError, match="uint8"):
        other.open()


def test_fill_value_is_no_label(tmp_path: Path) -> None:
    store, _ = filled(tmp_path / "a.ome.zarr")
    assert store.open().fill_value == 255
