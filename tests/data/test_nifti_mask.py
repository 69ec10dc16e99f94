from __future__ import annotations

import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray

from bonemonai.data import open_volume, write_nifti_mask
from bonemonai.errors import InputError, OutputError

MASK = np.arange(5 * 7 * 11).reshape(5, 7, 11) % 25


def oblique(shear: float = 0.0) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3] = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] @ np.diag([3, 0.75, 0.5])
    affine[:3, 0] += shear * affine[:3, 1]
    affine[:3, 3] = (-123.4567, 45.678, -987.6543)
    return affine


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize(("most", "dtype"), [(24, "uint8"), (300, "uint16")])
def test_all_readers_see_the_same(name: str, most: int, dtype: str, tmp_path: Path) -> None:
    mask, affine = MASK.copy(), oblique()
    mask[0, 0, 0] = most
    write_nifti_mask(tmp_path / name, mask, affine)
    ends = np.array([[0, 0, 0, 1], [4, 6, 10, 1]]).T
    volume = open_volume(tmp_path / name)
    assert (volume.dtype, volume.warnings, volume.oriented) == (np.dtype(dtype), [], True)
    np.testing.assert_array_equal(volume.read(), mask)
    np.testing.assert_allclose(volume.affine_lps @ ends, affine @ ends, atol=1e-4)
    image = nibabel.load(tmp_path / name)
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, mask)
    for place in (image.get_sform(), image.get_qform()):
        np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ place @ ends[[2, 1, 0, 3]], affine @ ends, atol=1e-3)
    itk = SimpleITK.ReadImage(str(tmp_path / name))
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(itk), mask)
    np.testing.assert_allclose(itk.TransformIndexToPhysicalPoint((10, 6, 4)), (affine @ ends)[:3, 1], atol=1e-3)


def test_same_mask_same_bytes_and_no_name_in_them(tmp_path: Path) -> None:
    for folder in ("one", "other"):
        write_nifti_mask(tmp_path / folder / f"{folder}.nii.gz", MASK > 3, oblique())
    first, other = (tmp_path / name / f"{name}.nii.gz" for name in ("one", "other"))
    assert first.read_bytes() == other.read_bytes()
    assert first.read_bytes()[3:8] == b"\0" * 5  # flags: no name; time: none
    assert gzip.decompress(first.read_bytes())[344:348] == b"n+1\0"
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["one.nii.gz"]


def test_a_sheared_scan_has_no_qform(tmp_path: Path) -> None:
    affine = oblique(shear=0.4)
    write_nifti_mask(tmp_path / "a.nii.gz", MASK, affine)
    volume = open_volume(tmp_path / "a.nii.gz")
    np.testing.assert_allclose(volume.affine_lps, affine, atol=1e-4)
    assert int(nibabel.load(tmp_path / "a.nii.gz").header["qform_code"]) == 0
    with pytest.raises(RuntimeError, match="orthonormal"):
        SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))


@pytest.mark.parametrize(
    ("mask", "affine", "name", "cause"),
    [
        (MASK.astype(float), np.eye(4), "a.nii", "mask: must hold whole numbers, got float64"),
        (MASK - 1, np.eye(4), "a.nii", "mask: must hold labels from 0 to 65535, got -1 to 23"),
        (MASK + 65530, np.eye(4), "a.nii", "mask: must hold labels from 0 to 65535"),
        (MASK[0], np.eye(4), "a.nii", "mask: must be 3-D"),
        (np.zeros((0, 2, 2), int), np.eye(4), "a.nii", "mask: must be 3-D"),
        (MASK, np.zeros((4, 4)), "a.nii", "affine_lps: must be 4 x 4, finite and not singular"),
        (MASK, np.full((4, 4), np.nan), "a.nii", "affine_lps: must be 4 x 4"),
        (MASK, np.eye(3), "a.nii", "affine_lps: must be 4 x 4"),
        (MASK, np.eye(4), "a.nrrd", r"a.nrrd: must end in .nii.gz or .nii"),
    ],
)
def test_what_is_no_mask_is_refused(
    mask: NDArray[np.generic], affine: NDArray[np.float64], name: str, cause: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=cause):
        write_nifti_mask(tmp_path / name, mask, affine)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        write_nifti_mask(tmp_path / "a.nii.gz", MASK, np.eye(4))
    assert (tmp_path / "a.nii.gz").read_text() == "mine"
    write_nifti_mask(tmp_path / "a.nii.gz", MASK, np.eye(4), overwrite=True)
    assert open_volume(tmp_path / "a.nii.gz").shape == (5, 7, 11)
