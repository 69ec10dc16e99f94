"""What every writer does, whatever its format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import OmeZarrWriter, TiffStackWriter, open_volume
from bonemonai.data.stack_writer import StackWriter
from bonemonai.errors import OutputError

WRITERS = [OmeZarrWriter, TiffStackWriter]


def writer(kind: type[StackWriter], path: Path, **options: bool) -> StackWriter:
    return kind(path, shape=(20, 8, 9), dtype="uint8", voxel_size_um=(3, 2, 1), **options)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("planes", [1, 7, 20])
def test_planes_may_come_in_any_blocks(kind: type[StackWriter], planes: int, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (20, 8, 9), dtype=np.uint8)
    with writer(kind, tmp_path / "m.zarr") as open_writer:
        for start in range(0, 20, planes):
            block = array[start : start + planes]
            open_writer.write(block[0] if planes == 1 else block)
        assert not (tmp_path / "m.zarr").exists()
    volume = open_volume(tmp_path / "m.zarr")
    np.testing.assert_array_equal(volume.read(), array)
    assert volume.voxel_size_um == (3, 2, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["m.zarr"]


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("shape", "dtype", "cause"),
    [
        ((19, 8, 9), "uint8", "takes 20 planes; 19 came"),
        ((21, 8, 9), "uint8", "takes 20 planes; more came"),
        ((20, 8, 8), "uint8", r"planes must be \(8, 9\) uint8, got \(8, 8\) uint8"),
        ((20, 8, 9), "int16", r"got \(8, 9\) int16"),
    ],
)
def test_wrong_planes_are_refused_and_leave_nothing(
    kind: type[StackWriter], shape: tuple[int, ...], dtype: str, cause: str, tmp_path: Path
) -> None:
    def go() -> None:
        with writer(kind, tmp_path / "m") as open_writer:
            open_writer.write(np.zeros(shape, dtype))

    with pytest.raises(ValueError, match=cause):
        go()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_failure_keeps_the_earlier_result(kind: type[StackWriter], tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    with writer(kind, path) as open_writer:
        open_writer.write(np.ones((20, 8, 9), np.uint8))

    def fail() -> None:
        with writer(kind, path, overwrite=True) as open_writer:
            open_writer.write(np.zeros((17, 8, 9), np.uint8))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert open_volume(path).read().min() == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.zarr"]


@pytest.mark.parametrize("kind", WRITERS)
def test_earlier_result_is_replaced_only_when_told(kind: type[StackWriter], tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    for value, options in ((1, {}), (2, {"overwrite": True})):
        with writer(kind, path, **options) as open_writer:
            open_writer.write(np.full((20, 8, 9), value, np.uint8))
    with pytest.raises(OutputError, match="exists already"):
        writer(kind, path).__enter__()
    assert open_volume(path).read().max() == 2
