from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest

from bonemonai.data import NiftiWriter, open_volume


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_comes_back_with_its_geometry(dtype: str, tmp_path: Path) -> None:
    array = np.arange(5 * 7 * 11).reshape(5, 7, 11).astype(dtype)
    # an oblique scan: columns, rows and planes along no axis, planes 3 um apart
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.diag([3, 2, 1]) / 1000
    affine[:3, 3] = (4, -5, 6)
    writer = NiftiWriter(tmp_path / "a.nii", shape=array.shape, dtype=dtype, voxel_size_um=(3, 2, 1), affine_lps=affine)
    with writer:
        for plane in array:
            writer.write(plane)
    volume = open_volume(tmp_path / "a.nii")
    np.testing.assert_array_equal(volume.read(), array)
    np.testing.assert_allclose(volume.affine_lps, affine, rtol=1e-6)
    assert volume.warnings == []
    image = nibabel.load(tmp_path / "a.nii")
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-6)


def test_without_an_orientation_the_axes_are_x_y_z(tmp_path: Path) -> None:
    with NiftiWriter(tmp_path / "a.nii", shape=(2, 3, 4), dtype="uint8", voxel_size_um=(3, 2, 1)) as writer:
        writer.write(np.zeros((2, 3, 4), np.uint8))
    assert open_volume(tmp_path / "a.nii").voxel_size_um == pytest.approx((3, 2, 1))


@pytest.mark.parametrize(("wrong", "message"), [({"dtype": "float16"}, "float16"), ({"shape": (1, 40000, 1)}, "32767")])
def test_what_nifti_does_not_have(wrong: dict[str, object], message: str, tmp_path: Path) -> None:
    given = {"shape": (2, 3, 4), "dtype": "uint8", "voxel_size_um": (1, 1, 1), **wrong}
    with pytest.raises(ValueError, match=message):
        NiftiWriter(tmp_path / "a.nii", **given)
