from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from bonemonai.data import OmeZarrStore, OmeZarrWriter, open_volume
from bonemonai.errors import InputError
from tests.contracts import VolumeContract


class TestOmeZarr05(VolumeContract):
    dtypes = ("uint8", "int16", "float32", "float64")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        path = folder / "scan.ome.zarr"
        size = self.voxel_size_um
        with OmeZarrWriter(path, shape=array.shape, dtype=array.dtype, voxel_size_um=size) as writer:
            writer.write(array)
        return path


class TestOmeZarr04(VolumeContract):
    """Zarr version 2, five axes, and another unit."""

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        group = zarr.open_group(folder / "scan.zarr", mode="w", zarr_format=2)
        data = group.create_array("full", shape=(1, 1, *array.shape), dtype=array.dtype, chunks=(1, 1, 2, 4, 4))
        data[:] = array[None, None]
        axes = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}]
        axes += [{"name": name, "type": "space", "unit": "nanometer"} for name in "zyx"]
        scale = [1.0, 1.0, *(edge * 1000 for edge in self.voxel_size_um)]
        dataset = {"path": "full", "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
        return folder / "scan.zarr"

    # a chunk of zeros is not written, and reads as missing
    @pytest.fixture
    def array(self) -> NDArray[np.generic]:
        return 1 + np.arange(5 * 7 * 11, dtype=np.uint16).reshape(5, 7, 11) % 200


def test_plain_array_has_no_voxel_size(tmp_path: Path) -> None:
    zarr.save_array(tmp_path / "plain.zarr", np.ones((2, 3, 4)))
    volume = open_volume(tmp_path / "plain.zarr")
    assert (volume.shape, volume.voxel_size_um) == ((2, 3, 4), None)
    np.testing.assert_array_equal(volume.read(1, 2), np.ones((1, 3, 4)))


def test_missing_chunk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.zarr"
    with OmeZarrWriter(path, shape=(20, 8, 8), dtype="uint8", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(np.zeros((20, 8, 8), np.uint8))
    assert open_volume(path).read().max() == 0
    shutil.rmtree(path / "0" / "c" / "1")
    with pytest.raises(InputError, match="lacks 1 of 2 chunks"):
        open_volume(path)


def test_flipped_bit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "scan.zarr"
    with OmeZarrWriter(path, shape=(2, 64, 64), dtype="uint8", voxel_size_um=(1, 1, 1)) as writer:
        writer.write(np.random.default_rng(0).integers(0, 9, (2, 64, 64), dtype=np.uint8))
    chunk = next(file for file in (path / "0" / "c").rglob("*") if file.is_file())
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read"):
        open_volume(path).read()


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4, 5)])
def test_what_is_not_one_volume_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    zarr.save_array(tmp_path / "bad.zarr", np.ones(shape))
    with pytest.raises(InputError, match="one 3-D image"):
        open_volume(tmp_path / "bad.zarr")


def test_broken_chunk_leaves_no_other_pending(tmp_path: Path) -> None:
    """At the exit of the process each pending task would be two lines on standard error, after the one of the error."""
    array = zarr.create_array(tmp_path / "scan.zarr", shape=(200, 8, 8), chunks=(1, 8, 8), dtype="uint8")
    array[:] = 1
    (tmp_path / "scan.zarr" / "c" / "0" / "0" / "0").write_bytes(b"no Zstandard")
    with pytest.raises(InputError, match="cannot be read"):
        open_volume(tmp_path / "scan.zarr").read()
    loop = zarr.core.sync.loop[0]
    assert loop is not None
    assert not asyncio.all_tasks(loop)


def test_group_without_image_is_refused(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    with pytest.raises(InputError, match="holds 0 OME-Zarr images"):
        open_volume(tmp_path / "empty.zarr")


def test_shards_are_counted_as_files(tmp_path: Path) -> None:
    path = tmp_path / "s.zarr"
    array = zarr.create_array(path, shape=(3, 4, 5), dtype="u2", chunks=(1, 1, 5), shards=(2, 2, 5))
    array[...] = 1
    assert open_volume(path).read().min() == 1
    (path / "c" / "0" / "1" / "0").unlink()
    with pytest.raises(InputError, match="lacks 1 of 4 chunks"):
        open_volume(path)


def test_absurd_claim_is_refused_at_once(tmp_path: Path) -> None:
    zarr.create_array(tmp_path / "big.zarr", shape=(100_000,) * 3, dtype="u1", chunks=(100,) * 3)
    with pytest.raises(InputError, match="claims 1000000000 chunks"):
        open_volume(tmp_path / "big.zarr")


@pytest.mark.parametrize("names", ["xyz", "cyx", "tyx"])
def test_other_axes_are_refused(tmp_path: Path, names: str) -> None:
    group = zarr.open_group(tmp_path / "scan.zarr", mode="w")
    group.create_array("0", shape=(3, 4, 5), dtype="u1")[:] = 1
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in names]
    dataset = {"path": "0", "coordinateTransformations": [{"type": "scale", "scale": [3, 2, 1]}]}
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [dataset]}]}
    with pytest.raises(InputError, match="the last three of 3 must be z, y, x"):
        open_volume(tmp_path / "scan.zarr")


def test_levels_in_the_wrong_order(tmp_path: Path) -> None:
    store = OmeZarrStore(tmp_path / "a.zarr", shape=(4, 600, 600), dtype="uint8", voxel_size_um=(1, 1, 1))
    store.create()[:] = 1
    store.finish({})
    group = zarr.open_group(tmp_path / "a.zarr", mode="a")
    ome = dict(group.attrs["ome"])
    ome["multiscales"][0]["datasets"].reverse()
    group.attrs["ome"] = ome
    with pytest.raises(InputError, match="does not list its full-resolution level first"):
        open_volume(tmp_path / "a.zarr")
