from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bonemonai.data import OmeZarrWriter, PreparedVolume, open_volume
from bonemonai.errors import InputError
from bonemonai.inferers.plane_stream import PlaneStream, item_bytes

SHAPE = (40, 12, 10)


class Counting:
    """The reads of a volume, counted by plane."""

    def __init__(self, volume: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = np.zeros(volume.shape[0], int)
        read = volume.read

        def counted(start: int, stop: int) -> Any:
            self.reads[start:stop] += 1
            return read(start, stop)

        monkeypatch.setattr(volume, "read", counted)


@pytest.fixture
def array() -> np.ndarray:
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path, array: np.ndarray) -> PreparedVolume:
    with OmeZarrWriter(tmp_path / "s.zarr", shape=SHAPE, dtype="float32", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(array)
    return PreparedVolume(open_volume(tmp_path / "s.zarr"))


def test_boxes_are_those_of_the_volume_and_planes_are_read_once(
    source: PreparedVolume, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(source.volume, monkeypatch)
    with PlaneStream(source, slice(3, 37), slice(2, 11)) as stream:
        for start in range(3, 31, 4):
            box = (slice(start, start + 6), slice(4, 10), slice(1, 9))
            np.testing.assert_array_equal(stream.fetch(box)[0], array[box])
            stream.release(start)
        box = (slice(36, 37), slice(2, 11), slice(0, 10))
        np.testing.assert_array_equal(stream.fetch(box)[0], array[box])
    assert counting.reads.tolist() == [0] * 3 + [1] * 34 + [0] * 3


def test_reads_are_whole_chunks_so_that_none_is_decoded_twice(
    source: PreparedVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = source.volume.read
    monkeypatch.setattr(source.volume, "read", lambda a, b: asked.append((a, b)) or read(a, b))
    with PlaneStream(source, slice(3, 40), slice(0, 12)) as stream:
        stream.fetch((slice(3, 40), slice(0, 12), slice(0, 10)))
    assert asked == [(3, 16), (16, 32), (32, 40)]


def test_released_planes_are_gone(source: PreparedVolume) -> None:
    with PlaneStream(source, slice(0, 40), slice(0, 12)) as stream:
        stream.fetch((slice(0, 5), slice(0, 12), slice(0, 10)))
        stream.release(5)
        with pytest.raises(KeyError):
            stream.fetch((slice(4, 5), slice(0, 12), slice(0, 10)))


def test_failure_to_read_comes_out_where_the_plane_is_asked_for(
    source: PreparedVolume, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(start: int, stop: int) -> Any:
        raise InputError("scan", "is broken")

    with PlaneStream(source, slice(0, 40), slice(0, 12), ahead=1) as stream:
        stream.fetch((slice(0, 1), slice(0, 12), slice(0, 10)))
        monkeypatch.setattr(source.volume, "read", fails)
        stream.release(32)
        with pytest.raises(InputError, match="scan: is broken"):
            stream.fetch((slice(39, 40), slice(0, 12), slice(0, 10)))


def test_item_bytes() -> None:
    assert item_bytes({"image": torch.zeros(1, 4, 5), "mask": torch.zeros(1, 4, 5, dtype=torch.uint8)}) == 100


def test_fewer_planes_than_lie_together(
    source: PreparedVolume, array: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(source.volume, monkeypatch)
    with PlaneStream(source, slice(3, 40), slice(0, 12), together=5) as stream:
        for z in range(3, 40):
            box = (slice(z, z + 1), slice(0, 12), slice(0, 10))
            np.testing.assert_array_equal(stream.fetch(box)[0].numpy(), array[z : z + 1])
            stream.release(z)
    assert counting.reads[3:].tolist() == [1] * 37
