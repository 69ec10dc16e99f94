"""What every implementation of an interface must do; a test class inherits and provides the subject."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from monai.transforms import LoadImage
from numpy.typing import NDArray

from bonemonai.data import VolumeReader, open_volume


class VolumeContract:
    """For each format: ``write(folder, array, voxel_size_um)`` returns the path to open."""

    voxel_size_um = (2.0, 1.5, 1.25)
    dtypes: tuple[str, ...] = ("uint8", "uint16", "int16", "float32")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        raise NotImplementedError

    @pytest.fixture
    def array(self) -> NDArray[np.generic]:
        # no two axes of one length, no symmetry: a transposition or flip shows
        return np.arange(5 * 7 * 11, dtype=np.uint16).reshape(5, 7, 11)

    def test_reads_every_dtype_exactly(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        for dtype in self.dtypes:
            (tmp_path / dtype).mkdir()
            typed = array.astype(dtype)
            volume = open_volume(self.write(tmp_path / dtype, typed))
            assert (volume.shape, volume.dtype) == (typed.shape, typed.dtype)
            np.testing.assert_array_equal(volume.read(), typed)

    def test_reads_blocks_of_planes(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        volume = open_volume(self.write(tmp_path, array))
        np.testing.assert_array_equal(volume.read(2, 4), array[2:4])
        np.testing.assert_array_equal(np.concatenate([block for _, block in volume.blocks(2)]), array)
        assert [start for start, _ in volume.blocks(2)] == [0, 2, 4]

    def test_refuses_planes_outside(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        volume = open_volume(self.write(tmp_path, array))
        for start, stop in ((-1, 2), (0, 6), (3, 3)):
            with pytest.raises(IndexError, match="not within the 5 planes"):
                volume.read(start, stop)

    def test_caller_owns_what_it_reads(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        volume = open_volume(self.write(tmp_path, array))
        volume.read()[:] = 0
        np.testing.assert_array_equal(volume.read(), array)

    def test_states_voxel_size_and_affine(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        volume = open_volume(self.write(tmp_path, array))
        assert volume.voxel_size_um == pytest.approx(self.voxel_size_um, rel=1e-6)
        step = volume.affine_lps[:3, :3]
        np.testing.assert_allclose(np.linalg.norm(step, axis=0) * 1000, self.voxel_size_um, rtol=1e-6)

    def test_survives_pickling(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        volume = pickle.loads(pickle.dumps(open_volume(self.write(tmp_path, array))))
        np.testing.assert_array_equal(volume.read(1, 2), array[1:2])

    def test_monai_loads_the_same(self, tmp_path: Path, array: NDArray[np.generic]) -> None:
        path = self.write(tmp_path, array)
        volume = open_volume(path)
        image = LoadImage(reader=VolumeReader(), ensure_channel_first=True, dtype=None)(path)
        np.testing.assert_array_equal(image[0].numpy(), array)
        np.testing.assert_allclose(image.affine.numpy(), volume.affine_ras, atol=1e-12)
