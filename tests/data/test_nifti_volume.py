from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.contracts import VolumeContract


def save(path: Path, array: NDArray[np.generic], affine: NDArray[np.float64], unit: str = "mm") -> Path:
    image = nibabel.Nifti1Image(array, affine)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


class TestNifti(VolumeContract):
    suffix = ".nii"

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        affine = np.diag([*(edge / 1000 for edge in self.voxel_size_um[::-1]), 1.0])
        return save(folder / f"scan{self.suffix}", array.T, affine)


class TestNiftiGz(TestNifti):
    suffix = ".nii.gz"


def test_affine_follows_the_axes(tmp_path: Path) -> None:
    affine = np.array([[0.0, -2, 0, 5], [1, 0, 0.5, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    volume = open_volume(save(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), affine))
    # voxel (column 1, row 2, plane 3) of the file is voxel (3, 2, 1) of the array
    np.testing.assert_allclose(volume.affine_ras @ [3, 2, 1, 1], affine @ [1, 2, 3, 1])
    np.testing.assert_allclose(volume.affine_lps @ [3, 2, 1, 1], [-1, -1, 1, 1] * (affine @ [1, 2, 3, 1]))


def test_micrometres_are_honoured(tmp_path: Path) -> None:
    volume = open_volume(save(tmp_path / "a.nii", np.zeros((4, 5, 6), np.uint8), np.diag([1.6, 1.6, 1.6, 1]), "micron"))
    assert volume.voxel_size_um == pytest.approx((1.6, 1.6, 1.6), rel=1e-6)


def test_slope_and_intercept_are_applied(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -3)
    nibabel.save(image, tmp_path / "scaled.nii")
    volume = open_volume(tmp_path / "scaled.nii")
    assert volume.dtype == np.float64
    np.testing.assert_allclose(volume.read(), nibabel.load(tmp_path / "scaled.nii").get_fdata().T)


def test_singular_affine_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    image.header.set_sform(np.diag([1.0, 1.0, 0.0, 1.0]), code=1)
    image.header["pixdim"][1:4] = 1
    nibabel.save(nibabel.Nifti1Image(image.dataobj, None, image.header), tmp_path / "flat.nii")
    with pytest.raises(InputError, match="singular"):
        open_volume(tmp_path / "flat.nii")


def test_four_dimensions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one 3-D image"):
        open_volume(save(tmp_path / "t.nii", np.zeros((2, 3, 4, 5), np.uint8), np.eye(4)))


def test_truncated_file_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "cut.nii", np.ones((8, 8, 8), np.uint8), np.eye(4))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"cut.nii: holds fewer bytes than the 864 its header says"):
        open_volume(path)


@pytest.mark.parametrize("change", ["flip", "cut"])
def test_damaged_gzip_is_refused(tmp_path: Path, change: str) -> None:
    save(tmp_path / "a.nii", np.ones((8, 8, 8), np.uint8), np.eye(4))
    content = bytearray(gzip.compress((tmp_path / "a.nii").read_bytes(), compresslevel=0))
    if change == "flip":
        content[600] ^= 1
    else:
        del content[-8:]
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"a.nii.gz: cannot be opened"):
        open_volume(tmp_path / "a.nii.gz")


def test_header_that_claims_fewer_planes_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "lies.nii", np.ones((8, 8, 8), np.uint8), np.eye(4))
    content = bytearray(path.read_bytes())
    content[46:48] = (5).to_bytes(2, "little")  # dim[3]
    path.write_bytes(content)
    with pytest.raises(InputError, match="holds more bytes than the 672"):
        open_volume(path)


def test_unstated_orientation_is_said(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.uint8), None)
    nibabel.save(image, tmp_path / "a.nii")
    assert any("orientation is not stated" in line for line in open_volume(tmp_path / "a.nii").warnings)


def test_real_mask_agrees_with_nibabel(sample_data: Path) -> None:
    path = sample_data / "ct-verse014-lumbar" / "sub-verse014_seg-vert_msk.nii.gz"
    expected = np.asarray(nibabel.load(path).dataobj).T
    np.testing.assert_array_equal(open_volume(path).read(), expected)


def test_places_that_contradict_each_other(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.diag([1.0, 1, 2, 1]))
    image.set_sform(np.diag([-1.0, -1, 2, 1]), 1)
    image.set_qform(np.diag([0.5, 0.5, 0.5, 1]), 1)
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"two places \(qform and sform\)"):
        open_volume(tmp_path / "a.nii")


def test_voxel_sizes_that_contradict_each_other(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((5, 6, 7), np.uint8), np.diag([1.0, 1, 2, 1]))
    image.set_sform(np.diag([1.0, 1, 2, 1]), 1)
    image.set_qform(None, 0)
    image.header["pixdim"][1:4] = 9
    nibabel.save(image, tmp_path / "a.nii")
    with pytest.raises(InputError, match=r"states voxels of \[9.0, 9.0, 9.0\]"):
        open_volume(tmp_path / "a.nii")
