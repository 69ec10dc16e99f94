from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.contracts import VolumeContract
from tests.dicom_files import SERIES, hounsfield, set_pixels, tag, write_enhanced, write_series


class TestDicomSeries(VolumeContract):
    voxel_size_um = (2000.0, 1500.0, 1250.0)
    dtypes = ("int16",)

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write_series(folder, array)


class TestEnhancedMultiFrame(VolumeContract):
    voxel_size_um = (2000.0, 1500.0, 1250.0)
    dtypes = ("int16",)

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write_enhanced(folder / "volume.dcm", array, order=[3, 0, 4, 1, 2])


def test_order_is_by_position_along_the_normal_and_units_are_hounsfield(tmp_path: Path) -> None:
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), slope=0.5, intercept=-1000.0))
    np.testing.assert_array_equal(volume.read(), hounsfield())
    assert (volume.units, volume.dtype, volume.part) == ("HU", np.dtype(np.float32), SERIES)


def test_sign_and_rescale_of_each_slice(tmp_path: Path) -> None:
    def own(dataset: Dataset, plane: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -100 - plane
        dataset.PixelRepresentation = plane % 2
        stored = hounsfield()[plane] if plane % 2 else hounsfield()[plane] + 1000
        set_pixels(dataset, stored.astype(np.int16 if plane % 2 else np.uint16))

    values = open_volume(write_series(tmp_path / "a", hounsfield(), edit=own)).read()
    for plane in range(5):
        stored = hounsfield()[plane].astype(int) + (0 if plane % 2 else 1000)
        np.testing.assert_array_equal(values[plane], 2 * stored - 100 - plane)


def test_monochrome1_keeps_hounsfield_and_turns_other_values(tmp_path: Path) -> None:
    """Hounsfield units follow from the rescale, whichever way a viewer shows them (PS3.3 C.7.6.3.1.2, C.11.1)."""
    inverted = tag("PhotometricInterpretation", "MONOCHROME1", -1)
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), edit=inverted))
    np.testing.assert_array_equal(volume.read(), hounsfield())
    assert any("MONOCHROME1" in warning for warning in volume.warnings)

    def raw(dataset: Dataset, plane: int) -> None:
        inverted(dataset, plane)
        dataset.Modality, dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = "MR", 0, 12, 11
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
        set_pixels(dataset, (hounsfield()[plane] + 1000).astype(np.uint16))

    volume = open_volume(write_series(tmp_path / "b", hounsfield(), edit=raw))
    np.testing.assert_array_equal(volume.read(), 4095 - (hounsfield().astype(int) + 1000))
    assert volume.units == "raw"


def test_real_series_with_masks_beside_it(sample_data: Path) -> None:
    """Siemens, JPEG 2000; SliceThickness says 3, positions say 2; vertebra masks of the same scan must overlay."""
    folder = sample_data / "ct-totalseg-siemens-dicom"
    volume = open_volume(folder / "dicom")
    assert (volume.shape, volume.dtype, volume.units) == ((20, 512, 512), np.dtype(np.int16), "HU")
    assert volume.voxel_size_um == pytest.approx((2000, 976.5625, 976.5625))
    image, mask = volume.read(), nibabel.load(folder / "seg_dicom.nii.gz")
    voxels = np.argwhere(np.isin(np.asarray(mask.dataobj), (32, 33)))
    world = nibabel.affines.apply_affine(mask.affine, voxels)
    index = nibabel.affines.apply_affine(np.linalg.inv(volume.affine_ras), world)
    assert np.abs(index - np.round(index)).max() < 0.02
    inside = image[tuple(np.round(index).astype(int).T)]
    assert 100 < np.median(inside) < 300  # vertebrae
    assert np.median(image) < 0


def test_files_that_ship_with_pydicom_are_read_right_or_refused() -> None:
    """Each is an image that pydicom itself decodes to the same values, or refused in one line."""
    read = set()
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            values = open_volume(path).read()
        except InputError:
            continue
        dataset = pydicom.dcmread(path)
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        np.testing.assert_array_equal(values[0], dataset.pixel_array * float(slope) + float(intercept))
        read.add(path.name)
    assert {"CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "693_J2KI.dcm", "MR_small_RLE.dcm"} <= read
