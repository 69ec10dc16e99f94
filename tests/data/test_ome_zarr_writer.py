from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr
from ome_zarr_models.v05 import Image

from bonemonai.data import OmeZarrWriter, open_volume


def write(path: Path, array: np.ndarray, kind: str = "label", **options: object) -> None:
    with OmeZarrWriter(
        path, shape=array.shape, dtype=array.dtype, voxel_size_um=(3.0, 2.0, 1.0), kind=kind, **options
    ) as writer:
        for start in range(0, len(array), 5):
            writer.write(array[start : start + 5])


def test_levels_follow_the_specification(tmp_path: Path) -> None:
    """The models of the specification's authors accept it; so do the viewers that are built on them."""
    array = np.random.default_rng(0).integers(0, 2, (18, 40, 1030), dtype=np.uint8)
    write(tmp_path / "mask.ome.zarr", array, attributes={"seed": 1})
    image = Image.from_zarr(zarr.open_group(tmp_path / "mask.ome.zarr", mode="r"))
    datasets = image.attributes.ome.multiscales[0].datasets
    scales = [dataset.coordinateTransformations[0].scale for dataset in datasets]
    assert scales == [[3, 2, 1], [6, 4, 2], [12, 8, 4]]
    group = zarr.open_group(tmp_path / "mask.ome.zarr", mode="r")
    assert [group[d.path].shape for d in datasets] == [(18, 40, 1030), (9, 20, 515), (5, 10, 258)]
    assert group.attrs["bonemonai"] == {"seed": 1}
    np.testing.assert_array_equal(open_volume(tmp_path / "mask.ome.zarr").read(), array)
    np.testing.assert_array_equal(group["1"][:], array[::2, ::2, ::2])


def test_image_levels_are_means_placed_between_voxels(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random((4, 6, 1024)).astype(np.float32)
    write(tmp_path / "scan.zarr", array, kind="image")
    group = zarr.open_group(tmp_path / "scan.zarr", mode="r")
    expected = array.reshape(2, 2, 3, 2, 512, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(group["1"][:], expected, rtol=1e-6)
    transforms = group.attrs["ome"]["multiscales"][0]["datasets"][1]["coordinateTransformations"]
    assert transforms[1] == {"type": "translation", "translation": [1.5, 1.0, 0.5]}


def test_integer_means_are_rounded(tmp_path: Path) -> None:
    write(tmp_path / "scan.zarr", np.full((2, 2, 1024), 3, np.uint8), kind="image")
    assert zarr.open_group(tmp_path / "scan.zarr", mode="r")["1"][:].min() == 3
