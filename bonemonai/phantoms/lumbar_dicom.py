"""CT Image Storage files of a phantom: one file a slice, with the habits of three vendors and a patient who is none."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.phantoms.lumbar_acquisition import CTAcquisition, Vendor

_MODELS: dict[Vendor, str] = {
    "Philips": "bonemonai phantom (Philips habits)",
    "SIEMENS": "bonemonai phantom (Siemens habits)",
    "GE MEDICAL SYSTEMS": "bonemonai phantom (GE habits)",
}
_PADDING = -2000  # GE's


@dataclass(frozen=True)
class FakePatient:
    """A patient who does not exist, and whose every identifier says so; something for privacy tests to find.

    Attributes:
        number: from 1.
        sex: "F" or "M".
        age_years: at the scan.
        seed: of dates and UIDs.
    """

    number: int
    sex: Literal["F", "M"] = "F"
    age_years: int = 60
    seed: int = 0

    @property
    def name(self) -> str:
        """PatientName."""
        return f"ZZFAKE^PHANTOM{self.number:04d}"

    @property
    def patient_id(self) -> str:
        """PatientID."""
        return f"ZZ-FAKE-{self.seed % 1000:03d}-{self.number:06d}"

    @property
    def accession(self) -> str:
        """AccessionNumber."""
        return f"ZZACC{self.seed % 1000:03d}{self.number:06d}"

    @property
    def study_date(self) -> str:
        """Of the year 2004, or a few years later."""
        rng = np.random.default_rng([self.seed, self.number, 27])
        return f"{2004 + rng.integers(5)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"

    @property
    def birth_date(self) -> str:
        """On the second of a month, so that the age is right."""
        day = f"{1 + self.number % 12:02d}02"
        return f"{int(self.study_date[:4]) - self.age_years - (self.study_date[4:] < day)}{day}"

    def uid(self, *what: object) -> UID:
        """A UID under 2.25 that the seed decides.

        Args:
            what: tells one UID of this patient from another.
        """
        digest = hashlib.sha256(repr(("bonemonai", self.seed, self.number, *what)).encode()).digest()
        return UID(f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}")


def write_dicom_series(
    folder: str | Path,
    hu: NDArray[np.int16],
    affine_lps: NDArray[np.float64],
    acquisition: CTAcquisition,
    patient: FakePatient,
    *,
    overwrite: bool = False,
) -> Path:
    """Write a scan as one CT series, one file a slice.

    Names of files tell nothing of their order, and neither do InstanceNumbers of the direction: they run downwards
    (Philips, Siemens) or upwards (GE). Philips: 12 bits unsigned. Siemens: explicit about its kernel and, where
    ``acquisition.extended``, 16 bits with intercept -8192. GE: signed, implicit VR, outside the reconstructed circle
    PixelPaddingValue -2000, which the rescale turns into -3024 HU. SliceThickness is that of the slices, which differs
    from their distance where they overlap; SpacingBetweenSlices is stated by Philips only. ManufacturerModelName and
    QualityControlImage say that all this is a phantom.

    Args:
        folder: to make.
        hu: (planes, rows, columns), upwards.
        affine_lps: axis-aligned, square pixels; to at most 6 decimals of a mm.
        acquisition: how the scan was made.
        patient: who never lived.
        overwrite: replace what is there.

    Returns:
        The folder.

    Raises:
        OutputError: if the folder is there, or cannot be written.

    Source: DICOM PS3.3, A.3 (CT Image IOD).
    """
    base = _header(hu.shape[1:], affine_lps, acquisition, patient)
    order = np.random.default_rng([patient.seed, patient.number, 28]).permutation(len(hu))
    with atomic_path(folder, overwrite=overwrite) as partial:
        partial.mkdir(parents=True)
        for plane, values in enumerate(hu):
            upwards = acquisition.vendor == "GE MEDICAL SYSTEMS"
            number = plane + 1 if upwards else len(hu) - plane
            _place(base, affine_lps, plane, number, patient)
            stored = values.astype(np.int32) - int(base.RescaleIntercept)
            base.PixelData = stored.astype("<i2" if base.PixelRepresentation else "<u2").tobytes()
            base["PixelData"].VR = "OW"
            base.save_as(partial / _file_name(acquisition.vendor, int(order[plane]), base), enforce_file_format=True)
    return Path(folder)


def _header(
    size: tuple[int, ...], affine: NDArray[np.float64], acquisition: CTAcquisition, patient: FakePatient
) -> FileDataset:
    """Everything that slices share."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    implicit = acquisition.vendor == "GE MEDICAL SYSTEMS"
    meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    ds = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SOPClassUID = CTImageStorage
    _patient_and_study(ds, patient)
    _equipment(ds, acquisition)
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.FrameOfReferenceUID, ds.PositionReferenceIndicator = patient.uid("frame"), ""
    ds.PixelSpacing = [_decimal(affine[1, 1]), _decimal(affine[0, 2])]
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.SliceThickness = _decimal(acquisition.thickness_mm)
    ds.Rows, ds.Columns = size
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.RescaleSlope, ds.RescaleType = 1, "HU"
    ds.WindowCenter, ds.WindowWidth = 40, 400
    ds.QualityControlImage, ds.BurnedInAnnotation, ds.LossyImageCompression = "YES", "NO", "00"
    ds.ImageComments = "Synthetic phantom, not a human being; made by bonemonai."
    _HABITS[acquisition.vendor](ds, acquisition)
    return ds


def _patient_and_study(ds: Dataset, patient: FakePatient) -> None:
    ds.PatientName, ds.PatientID = patient.name, patient.patient_id
    ds.PatientBirthDate, ds.PatientSex = patient.birth_date, patient.sex
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = patient.uid("study"), patient.uid("series")
    ds.StudyDate = ds.SeriesDate = ds.AcquisitionDate = ds.ContentDate = patient.study_date
    ds.StudyTime, ds.SeriesTime, ds.AcquisitionTime, ds.ContentTime = "080000", "080500", "080600", "080700"
    ds.AccessionNumber, ds.StudyID, ds.SeriesNumber = patient.accession, f"{patient.number}", 2
    ds.ReferringPhysicianName, ds.InstitutionName = "ZZFAKE^REFERRER", "ZZFAKE Phantom Hospital"
    ds.StudyDescription, ds.SeriesDescription = "Lumbar spine phantom", "Lumbar spine axial"
    ds.AcquisitionNumber, ds.BodyPartExamined, ds.PatientPosition, ds.Modality = 1, "LSPINE", "HFS", "CT"


def _equipment(ds: Dataset, acquisition: CTAcquisition) -> None:
    ds.Manufacturer, ds.ManufacturerModelName = acquisition.vendor, _MODELS[acquisition.vendor]
    ds.DeviceSerialNumber, ds.StationName = "ZZ0000", "ZZPHANTOM"
    ds.SoftwareVersions = f"bonemonai {bonemonai.__version__}"
    ds.KVP, ds.GantryDetectorTilt = acquisition.kvp, 0
    ds.XRayTubeCurrent, ds.ExposureTime = round(220 * acquisition.dose), 500
    ds.ConvolutionKernel = acquisition.kernel_name
    if acquisition.contrast > 0:
        ds.ContrastBolusAgent = "Synthetic iodine"


def _philips(ds: Dataset, acquisition: CTAcquisition) -> None:
    ds.RescaleIntercept = -1024
    ds.PixelRepresentation = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.SpacingBetweenSlices = _decimal(acquisition.interval_mm)
    private = ds.private_block(0x00E1, "ELSCINT1", create=True)
    private.add_new(0x50, "DS", "0")


def _siemens(ds: Dataset, acquisition: CTAcquisition) -> None:
    bits, intercept = (16, -8192) if acquisition.extended else (12, -1024)
    ds.RescaleIntercept = intercept
    ds.PixelRepresentation = 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, bits, bits - 1
    if acquisition.kernel_name.startswith("Br"):
        ds.ConvolutionKernel = [acquisition.kernel_name, "2"]
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    ds.WindowCenter, ds.WindowWidth = [40, 300], [400, 1500]
    ds.WindowCenterWidthExplanation = ["WINDOW1", "WINDOW2"]
    private = ds.private_block(0x0029, "SIEMENS MEDCOM HEADER", create=True)
    private.add_new(0x60, "LO", "com")


def _ge(ds: Dataset, acquisition: CTAcquisition) -> None:
    ds.RescaleIntercept = -1024
    ds.PixelRepresentation = 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.PixelPaddingValue = _PADDING
    first = ds.private_block(0x0009, "GEMS_IDEN_01", create=True)
    first.add_new(0x01, "LO", "GE_GENESIS_FF")
    second = ds.private_block(0x0043, "GEMS_PARM_01", create=True)
    second.add_new(0x10, "US", round(400 * acquisition.dose))


_HABITS: dict[Vendor, Callable[[Dataset, CTAcquisition], None]] = {
    "Philips": _philips,
    "SIEMENS": _siemens,
    "GE MEDICAL SYSTEMS": _ge,
}


def _place(ds: FileDataset, affine: NDArray[np.float64], plane: int, number: int, patient: FakePatient) -> None:
    """What a slice has of its own."""
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = patient.uid("slice", plane)
    ds.InstanceNumber = number
    position = affine[:3, 3] + plane * affine[:3, 0]
    ds.ImagePositionPatient = [_decimal(value) for value in position]
    ds.SliceLocation = _decimal(position[2])


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _file_name(vendor: Vendor, number: int, ds: FileDataset) -> str:
    if vendor == "Philips":
        return f"IM_{number + 1:04d}"
    if vendor == "SIEMENS":
        return f"CT.{ds.SOPInstanceUID[-12:]}.{number + 1:04d}.IMA"
    return f"i{2000000 + 7 * number}.CTDC.{number + 1}"
