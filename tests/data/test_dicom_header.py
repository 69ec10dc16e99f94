from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.dicom_files import hounsfield, tag, write_enhanced, write_series

REFUSED = {
    "another patient": (tag("PatientID", "P008"), "differs from .* in patient"),
    "another name": (tag("PatientName", "John^Smith"), "differs from .* in patient"),
    "another frame of reference": (tag("FrameOfReferenceUID", "1.2.3"), "in frame of reference"),
    "another modality": (tag("Modality", "MR"), "in modality"),
    "other units": (tag("RescaleType", "US"), "in units"),
    "other photometry": (tag("PhotometricInterpretation", "MONOCHROME1"), "in photometric interpretation"),
    "another direction": (tag("ImageOrientationPatient", [0, 1, 0, 0, 0, 1]), "lies in another direction"),
    "slightly another direction": (tag("ImageOrientationPatient", [1, 0.001, 0, 0, 1, 0]), "lies in another direction"),
    "other pixels": (tag("PixelSpacing", [1.5, 1.251]), "has pixels of"),
    "a gap": (tag("ImagePositionPatient", [-12.5, 30, 104.1]), "slices are 2 mm apart"),
    "a slice aside": (tag("ImagePositionPatient", [-12.4, 30, 104]), "beside the line"),
    "a doubled position": (tag("ImagePositionPatient", [-12.5, 30, 102]), "a copy, or another time"),
    "no position": (tag("ImagePositionPatient", None), "states no ImagePositionPatient"),
    "a position of two numbers": (tag("ImagePositionPatient", [1, 2]), "3 finite numbers are due"),
    "no direction": (tag("ImageOrientationPatient", None), "states no ImageOrientationPatient"),
    "directions askew": (tag("ImageOrientationPatient", [1, 0, 0, 0.5, 1, 0], -1), "not at right angles"),
    "directions of no length": (tag("ImageOrientationPatient", [0] * 6, -1), "not at right angles"),
    "no pixel spacing": (tag("PixelSpacing", None), "states no PixelSpacing"),
    "pixel spacing zero": (tag("PixelSpacing", [0, 1]), "has PixelSpacing 0, 1 mm"),
    "no slope": (tag("RescaleSlope", None), "states no RescaleSlope"),
    "no intercept": (tag("RescaleIntercept", None), "states no RescaleIntercept"),
    "slope zero": (tag("RescaleSlope", 0), "has RescaleSlope 0"),
    "colour": (tag("SamplesPerPixel", 3), "is colour"),
    "a palette": (tag("PhotometricInterpretation", "PALETTE COLOR"), "is colour"),
    "burned-in text": (tag("BurnedInAnnotation", "YES"), "burned into its pixels"),
    "a secondary capture": (tag("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), "secondary capture"),
    "more bits stored than allocated": (tag("BitsStored", 17), "stores 17 of 16 bits"),
    "a high bit elsewhere": (tag("HighBit", 14), "high bit at 14"),
    "frames without places": (tag("NumberOfFrames", 2), "is cut short|frames without positions"),
    "not even a volume": (tag("ImagePositionPatient", [400, 30, 104], -1), "a copy, or another time"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_series_that_is_no_even_stack_of_one_scan_is_refused(what: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[what]
    with pytest.raises(InputError, match=cause) as refusal:
        open_volume(write_series(tmp_path / "a", hounsfield(), edit=edit))
    assert "Smith" not in str(refusal.value)
    assert "P00" not in str(refusal.value)


@pytest.mark.parametrize("value", ["nan", "inf", "one", "1e400", ""])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient"])
def test_numbers_that_are_none_are_refused(name: str, value: str, tmp_path: Path) -> None:
    """Written past pydicom's own checks, as scanners' software writes them."""
    folder = write_series(tmp_path / "a", hounsfield())
    file = sorted(folder.iterdir())[0]
    content = file.read_bytes()
    element = pydicom.dcmread(file)[name]
    start = struct.pack("<HH2s", element.tag.group, element.tag.element, b"DS")
    at = content.index(start)
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    new = "\\".join([value] * element.VM).encode()
    new += b" " * (len(new) % 2)
    file.write_bytes(content[:at] + start + struct.pack("<H", len(new)) + new + content[at + 8 + length :])
    with pytest.raises(InputError, match=file.name):
        open_volume(folder).read()


def test_file_without_a_preamble(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        del dataset.file_meta.TransferSyntaxUID
        bare = Dataset()
        bare.update(dict(dataset.items()))
        bare.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(open_volume(folder).read(), hounsfield())


def test_pixels_cut_short_are_refused_at_opening(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", np.zeros((3, 64, 64), np.int16))
    file = folder / "IM0001.dcm"
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"IM0001\.dcm: is cut short"):
        open_volume(folder)


def test_deflated_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    file = folder / "IM0001.dcm"
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file, enforce_file_format=True)
    with pytest.raises(InputError, match=r"IM0001\.dcm: is deflated"):
        open_volume(folder)


FRAMES = {
    "units": lambda n: ("PixelValueTransformationSequence", {"RescaleSlope": 1, "RescaleIntercept": 0,
                                                             "RescaleType": "HU" if n % 2 else "US"}),
    "stacks": lambda n: ("FrameContentSequence", {"StackID": str(1 + n // 3)}),
    "times": lambda n: ("FrameContentSequence", {"TemporalPositionIndex": 1 + n % 2}),
    "types": lambda n: ("CTImageFrameTypeSequence", {"FrameType": ["DERIVED", "MIP" if n < 2 else "NONE"]}),
}  # fmt: skip


@pytest.mark.parametrize("what", FRAMES)
def test_frames_of_several_kinds_make_no_volume(what: str, tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(4))
    dataset = pydicom.dcmread(path)
    for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        sequence, values = FRAMES[what](number)
        item = Dataset()
        for name, value in values.items():
            setattr(item, name, value)
        setattr(group, sequence, [item])
    dataset.save_as(path)
    with pytest.raises(InputError, match="frames of several stacks, times, types or units"):
        open_volume(path)


def test_frames_in_other_units_than_hounsfield_are_raw(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(4))
    dataset = pydicom.dcmread(path)
    dataset.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0].RescaleType = "MGML"
    dataset.save_as(path)
    assert open_volume(path).units == "raw"


@pytest.mark.parametrize(("kind", "cause"), [("LOCALIZER", "is a localizer"), ("MOSAIC", "is a mosaic of slices")])
def test_images_that_are_no_slices(kind: str, cause: str, tmp_path: Path) -> None:
    edit = tag("ImageType", ["ORIGINAL", "PRIMARY", kind], -1)
    with pytest.raises(InputError, match=cause):
        open_volume(write_series(tmp_path / "a", hounsfield(), edit=edit))
