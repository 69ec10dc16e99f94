from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bonemonai.data import open_volume
from bonemonai.errors import OutputError
from bonemonai.phantoms import CTAcquisition, FakePatient, write_dicom_series
from bonemonai.phantoms.lumbar_acquisition import VENDORS
from tests.dicom_conformance import conformance_errors

AFFINE = np.array([[0, 0, 0.71875, -183.25], [0, 0.71875, 0, -340.875], [3, 0, 0, -512.44], [0, 0, 0, 1.0]])
PATIENT = FakePatient(7, "M", 71, seed=3)
HABITS = [*((vendor, False) for vendor in VENDORS), ("SIEMENS", True)]


def hounsfield(how: CTAcquisition) -> np.ndarray:
    hu = np.random.default_rng(0).integers(-1024, 3071, (5, 12, 16)).astype(np.int16)
    hu[:, 0, 0] = how.outside_hu
    return hu


def written(folder: Path, vendor: str, extended: bool = False) -> tuple[Path, CTAcquisition, list[pydicom.Dataset]]:
    how = CTAcquisition(vendor=vendor, thickness_mm=5.0, interval_mm=3.0, extended=extended, contrast=1.0)  # type: ignore[arg-type]
    path = write_dicom_series(folder / f"{vendor}{extended}", hounsfield(how), AFFINE, how, PATIENT)
    return path, how, [pydicom.dcmread(file) for file in sorted(path.iterdir())]


@pytest.mark.parametrize(("vendor", "extended"), HABITS)
def test_reader_gives_back_values_and_places(tmp_path: Path, vendor: str, extended: bool) -> None:
    path, how, _ = written(tmp_path, vendor, extended)
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(), hounsfield(how))
    np.testing.assert_allclose(volume.affine_lps, AFFINE, atol=1e-9)
    assert volume.units == "HU"
    assert not volume.warnings


@pytest.mark.parametrize(("vendor", "extended"), HABITS)
def test_files_conform_to_the_ct_image_iod(tmp_path: Path, vendor: str, extended: bool) -> None:
    path, _, _ = written(tmp_path, vendor, extended)
    assert [error for file in path.iterdir() for error in conformance_errors(file)] == []


def test_the_validator_finds_what_is_wrong(tmp_path: Path) -> None:
    path, _, (first, *_) = written(tmp_path, "SIEMENS")
    del first.PixelSpacing, first.AcquisitionNumber
    first.SOPInstanceUID, first.DistanceSourceToDetector, first.RTPlanLabel = "", 1000, "plan"
    first.save_as(path / "wrong.dcm")
    found = "; ".join(conformance_errors(path / "wrong.dcm"))
    for tag in (
        "(0028,0030) TagMissing",
        "(0020,0012) TagMissing",
        "(0008,0018) TagEmpty",
        "(300A,0002) TagUnexpected",
    ):
        assert tag in found
    assert found.count(";") == 3


def test_vendors_have_their_habits(tmp_path: Path) -> None:
    headers = {vendor: written(tmp_path, vendor)[2] for vendor in VENDORS}
    philips, siemens, ge = (headers[vendor] for vendor in VENDORS)
    assert {ds.file_meta.TransferSyntaxUID for ds in ge} == {ImplicitVRLittleEndian}
    assert {ds.file_meta.TransferSyntaxUID for ds in (*philips, *siemens)} == {ExplicitVRLittleEndian}
    for vendor, files in headers.items():
        upwards = sorted(files, key=lambda ds: ds.ImagePositionPatient[2])
        numbers = [int(ds.InstanceNumber) for ds in upwards]
        assert numbers == ([1, 2, 3, 4, 5] if vendor == "GE MEDICAL SYSTEMS" else [5, 4, 3, 2, 1])
        assert [ds.SOPInstanceUID for ds in files] != [ds.SOPInstanceUID for ds in upwards]  # names out of order
        assert "phantom" in files[0].ManufacturerModelName
        assert (files[0].QualityControlImage, files[0].SliceThickness) == ("YES", 5)
    assert (ge[0].PixelRepresentation, ge[0].PixelPaddingValue, ge[0].ConvolutionKernel) == (1, -2000, "STANDARD")
    assert (philips[0].PixelRepresentation, philips[0].SpacingBetweenSlices) == (0, 3)
    assert list(siemens[0].ConvolutionKernel) == ["Br40d", "2"]
    assert written(tmp_path, "SIEMENS", True)[2][0].RescaleIntercept == -8192
    creators = [[e.value for e in files[0] if e.tag.is_private_creator] for files in (philips, siemens, ge)]
    assert creators == [["ELSCINT1"], ["SIEMENS MEDCOM HEADER"], ["GEMS_IDEN_01", "GEMS_PARM_01"]]


def test_patient_is_there_to_be_found_and_is_nobody(tmp_path: Path) -> None:
    for ds in written(tmp_path, "Philips")[2]:
        assert (str(ds.PatientName), ds.PatientID) == ("ZZFAKE^PHANTOM0007", "ZZ-FAKE-003-000007")
        assert ds.AccessionNumber == "ZZACC003000007"
        assert ds.InstitutionName.startswith("ZZFAKE")
        assert (ds.PatientAge, ds.PatientSex) == ("071Y", "M")
    for number in range(1, 25):
        patient = FakePatient(number, age_years=63)
        born, seen = patient.birth_date, patient.study_date
        assert int(seen[:4]) - int(born[:4]) - (seen[4:] < born[4:]) == 63


def test_uids_are_the_seeds_and_unique(tmp_path: Path) -> None:
    files = written(tmp_path, "Philips")[2]
    uids = [uid for ds in files for uid in (ds.SOPInstanceUID, ds.SeriesInstanceUID, ds.StudyInstanceUID)]
    assert len(set(uids)) == len(files) + 2
    assert all(uid.startswith("2.25.") and len(uid) <= 64 and uid.is_valid for uid in uids)
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in files)
    assert PATIENT.uid("study") == FakePatient(7, seed=3).uid("study") != FakePatient(7, seed=4).uid("study")


def test_what_is_there_is_kept_unless_asked(tmp_path: Path) -> None:
    path, how, _ = written(tmp_path, "Philips")
    with pytest.raises(OutputError, match="exists already"):
        write_dicom_series(path, hounsfield(how), AFFINE, how, PATIENT)
    write_dicom_series(path, hounsfield(how)[:3], AFFINE, how, PATIENT, overwrite=True)
    assert len(list(path.iterdir())) == 3
