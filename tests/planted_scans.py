"""Scans with a patient's identifiers in every place that their formats have for them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pandas as pd
import pydicom
import tifffile
import zarr
from pydicom.dataset import Dataset

from tests.dicom_files import hounsfield, write_series
from tests.scanco_files import write_isq

FOLDER = "Mustermann_Erika_19610412"  # files and folders are named after the patient
_PREFIX = "1.2.276.0.99887766"  # of UIDs
_DATES = ("19610412", "1961-04-12", "1961:04:12", "1961/04/12", "12.04.1961", "12-APR-1961",
          "20170831", "2017-08-31", "2017:08:31", "2017/08/31", "31.08.2017", "31-AUG-2017")  # fmt: skip
# no text of the project, of a library or of a phantom holds one of these
IDENTIFIERS = (
    "Mustermann", "Erika", "Wilhelmine", "ZQPID-778812", "ZQOTHER-4411", "ZQACC55501", "Quakenbrück", "Quacksalber",
    "Balduin", "Operateur", "ZQSTUDY41", "ZQPRIVATE-9", "ZQSTATION", "ZQSERIAL", "Kanalstrasse", "ZQDESCRIBED",
    "143359.2718", *_DATES,
)  # fmt: skip
# a DICOM segmentation is one of a series only by these; nothing else may hold them
UIDS = (_PREFIX,)
_TAGS: dict[str, Any] = {
    "PatientName": "Mustermann^Erika^Wilhelmine", "PatientID": "ZQPID-778812", "OtherPatientIDs": "ZQOTHER-4411",
    "PatientBirthDate": "19610412", "PatientAddress": "Kanalstrasse 7", "PatientBirthName": "Mustermann",
    "PatientComments": "Erika", "AccessionNumber": "ZQACC55501", "InstitutionName": "Klinikum Quakenbrück",
    "InstitutionAddress": "Kanalstrasse 9", "ReferringPhysicianName": "Quacksalber^Balduin",
    "PerformingPhysicianName": "Quacksalber^Balduin", "OperatorsName": "Operateur^Zilla", "StudyID": "ZQSTUDY41",
    "StationName": "ZQSTATION", "DeviceSerialNumber": "ZQSERIAL", "StudyDescription": "ZQDESCRIBED Mustermann",
    "SeriesDescription": "ZQDESCRIBED", "ProtocolName": "ZQDESCRIBED", "ImageComments": "ZQDESCRIBED Erika",
    "RequestedProcedureDescription": "ZQDESCRIBED", "BodyPartExamined": "ZQDESCRIBED",
    **{f"{what}Date": "20170831" for what in ("Study", "Series", "Acquisition", "Content", "InstanceCreation")},
    **{f"{what}Time": "143359.2718" for what in ("Study", "Series", "Acquisition", "Content", "InstanceCreation")},
}  # fmt: skip
_WORDS = "Mustermann, Erika; born 12.04.1961; scanned 31-AUG-2017 at Quakenbrück"
_ASCII = _WORDS.replace("ü", "ue") + "; ZQPID-778812"


def plant_in_dicom(dataset: Dataset, number: int) -> None:
    """Put identifiers into one slice.

    Args:
        dataset: of the slice.
        number: of the series, so that UIDs differ.
    """
    dataset.SpecificCharacterSet = "ISO_IR 100"
    for name, value in _TAGS.items():
        setattr(dataset, name, value)
    dataset.PatientID = f"{_TAGS['PatientID']}-{number}"
    dataset.private_block(0x0019, "ZQPRIVATE-9", create=True).add_new(0x01, "LO", "ZQPRIVATE-9 Mustermann")
    for name, part in (("StudyInstanceUID", 1), ("SeriesInstanceUID", 2), ("FrameOfReferenceUID", 3)):
        setattr(dataset, name, f"{_PREFIX}.{number}.{part}")
    instance = f"{_PREFIX}.{number}.4.{dataset.InstanceNumber}"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = instance


def plant_in_dicom_folder(folder: Path, number: int) -> None:
    """Put identifiers into every slice of a series, and into the names of its files."""
    for index, path in enumerate(sorted(folder.iterdir())):
        dataset = pydicom.dcmread(path)
        plant_in_dicom(dataset, number)
        path.unlink()
        dataset.save_as(folder / f"{FOLDER}_{index:04d}.dcm")


def plant_in_tiffs(folder: Path) -> None:
    """Put identifiers into the tags of ImageJ's planes, and into the names of their files."""
    for path in sorted(folder.glob("*.tif")):
        with tifffile.TiffFile(path) as tif:
            page = tif.pages[0]
            values, resolution = page.asarray(), (page.tags[282].value, page.tags[283].value)
            described = f"{page.tags[270].value}\npatient={_ASCII}\n"
        path.unlink()
        tifffile.imwrite(
            path.with_name(f"{FOLDER}_{path.stem}.tif"), values, photometric="minisblack", description=described,
            resolution=resolution, software="ZQSERIAL", datetime="2017:08:31 14:33:59", metadata=None,
            extratags=[(315, "s", 0, _ASCII, True), (316, "s", 0, "ZQSTATION", True)],
        )  # fmt: skip


def plant_in_nifti(path: Path) -> None:
    """Put identifiers into the texts of a NIfTI header."""
    image = nibabel.load(path)
    data = np.asanyarray(image.dataobj).copy()
    header = image.header.copy()
    header["descrip"], header["aux_file"], header["db_name"] = b"Mustermann^Erika 12.04.1961", b"Mustermann", b"Erika"
    header["intent_name"] = b"ZQDESCRIBED"
    planted = nibabel.Nifti1Image(data, None, header)
    planted.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", _ASCII.encode()))
    nibabel.save(planted, path)


def plant_in_aim(path: Path) -> None:
    """Put identifiers into the processing log of an AIM of version 030."""
    content = path.read_bytes()
    sizes = list(struct.unpack_from("<5q", content, 16))
    start = 56 + sizes[1]
    lines = (("Patient Name", "Mustermann, Erika"), ("Index Patient", "ZQPID-778812"), ("Operator", "Operateur"),
             ("Original Creation-Date", "31-AUG-2017 14:33"), ("Birth", "12-APR-1961"))  # fmt: skip
    log = content[start : start + sizes[2] - 1] + "".join(f"{k:<30}{v:>23}\n" for k, v in lines).encode() + b"\0"
    rest = content[start + sizes[2] :]
    sizes[2] = len(log)
    path.write_bytes(content[:16] + struct.pack("<5q", *sizes) + content[56:start] + log + rest)


def plant_in_study(manifest: Path, plant: Callable[[Path], Any] | None = None) -> None:
    """Name the folders of a study's patients after a patient, in its manifest too; pseudonyms stay.

    Args:
        manifest: of the study.
        plant: called with each file or folder that the manifest names, once.
    """
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    for number, folder in enumerate(sorted({value.split("/")[0] for value in table["image"]})):
        named = f"{FOLDER}_{number}"
        (manifest.parent / folder).rename(manifest.parent / named)
        table = table.replace(f"^{folder}/", f"{named}/", regex=True)
    table.to_csv(manifest, index=False)
    found = {
        value for column in table for value in table[column] if "/" in value and (manifest.parent / value).exists()
    }
    for value in sorted(found) if plant else ():
        plant(manifest.parent / value)


def write_planted_scans(folder: Path) -> dict[str, str]:
    """Write a small scan of each format; format to what opens it."""
    folder.mkdir(parents=True)
    array = np.random.default_rng(0).integers(0, 1000, (5, 6, 8)).astype(np.int16)
    write_series(folder / "dicom", hounsfield(), edit=lambda dataset, plane: plant_in_dicom(dataset, 7))
    pixels = {"axes": "ZYX", "Name": _WORDS, "Description": _WORDS, "AcquisitionDate": "2017-08-31T14:33:59",
              "PhysicalSizeX": 2.0, "PhysicalSizeY": 2.0, "PhysicalSizeZ": 2.0}  # fmt: skip
    tifffile.imwrite(folder / f"{FOLDER}.ome.tif", array.astype(np.uint16), metadata=pixels, photometric="minisblack")
    image = nibabel.Nifti1Image(array, np.diag([1.0, 1.0, 1.0, 1.0]))
    nibabel.save(image, folder / f"{FOLDER}.nii.gz")
    plant_in_nifti(folder / f"{FOLDER}.nii.gz")
    write_isq(folder / f"{FOLDER}.isq", array)
    isq = bytearray((folder / f"{FOLDER}.isq").read_bytes())
    isq[128:168] = b"Mustermann, Erika".ljust(40, b"\0")
    (folder / f"{FOLDER}.isq").write_bytes(isq)
    group = zarr.create_group(folder / f"{FOLDER}.zarr", attributes={"patient": _WORDS, "id": "ZQPID-778812"})
    group.create_array(FOLDER, data=array, attributes={"operator": "Operateur^Zilla"})
    with h5py.File(folder / f"{FOLDER}.nxs", "w") as file:
        data = file.create_dataset(f"entry/{FOLDER}/data", data=array)
        file.attrs["sample"], data.attrs["operator"] = _WORDS, "Operateur"
        file["entry/sample/name"] = _WORDS
    names = ("ome.tif", "nii.gz", "isq", "zarr", "nxs")
    paths = {"dicom": str(folder / "dicom"), **{name: str(folder / f"{FOLDER}.{name}") for name in names}}
    return {**paths, "zarr": f"{paths['zarr']}::{FOLDER}"}
