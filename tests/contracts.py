"""What every implementation of an interface must do; a test class inherits and provides the subject."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
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


class TransformContract:
    """For each dictionary transform: ``make()`` returns it, ``item()`` what it takes; see also ``keeps_shape``."""

    keeps_shape = True
    keys: tuple[str, ...] = ("image",)

    def make(self) -> Any:
        raise NotImplementedError

    def item(self) -> dict[str, Any]:
        """A plane, (1, H, W), that knows where it lies and in what units."""
        values = np.random.default_rng(0).normal(100, 30, (1, 64, 80)).astype(np.float32)
        affine = torch.diag(torch.tensor([2.0, 1.5, 1.25, 1.0], dtype=torch.float64))
        return {"image": MetaTensor(values, affine=affine, meta={"units": "HU"}), "other": [1, 2]}

    def test_leaves_its_input_and_other_entries_as_they_are(self) -> None:
        item = self.item()
        before = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in item.items()}
        result = self.make()(item)
        for key, value in before.items():
            assert torch.equal(item[key], value) if isinstance(value, torch.Tensor) else item[key] is value
        for one in result if isinstance(result, list) else [result]:
            assert one["other"] == [1, 2]

    def test_same_item_same_result(self) -> None:
        first, again = (self._arrays(self.make()(self.item())) for _ in range(2))
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))

    def test_survives_pickling(self) -> None:
        first, again = (self._arrays(t(self.item())) for t in (self.make(), pickle.loads(pickle.dumps(self.make()))))
        assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))

    def test_place_and_units_stay_on_the_image(self) -> None:
        if not self.keeps_shape:
            pytest.skip("what is cut out lies elsewhere")
        item = self.item()
        result = self.make()(item)
        for key in self.keys:
            assert result[key].shape[-2:] == item["image"].shape[-2:]
            assert torch.equal(result[key].affine, item["image"].affine)
            assert result[key].meta["units"] == "HU"

    def test_missing_key_is_an_error_unless_it_may_be_missing(self) -> None:
        item = self.item()
        del item["image"]
        with pytest.raises(KeyError, match="image"):
            self.make()(item)

    def _arrays(self, result: Any) -> list[torch.Tensor]:
        items = result if isinstance(result, list) else [result]
        return [torch.as_tensor(item[key]) for item in items for key in self.keys]
