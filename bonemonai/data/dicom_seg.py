"""Masks as DICOM Segmentation objects, which refer to the series that they were made from."""

from __future__ import annotations

import hashlib
import io
import re
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.valuerep import DSfloat

import bonemonai
from bonemonai.data.atomic import atomic_path
from bonemonai.data.dicom_header import Elements, read_tags
from bonemonai.data.dicom_volume import DicomVolume
from bonemonai.data.silent_dicom import silent_dicom
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError

_NAME = "bonemonai"
_CONTENT_LABEL = "VERTEBRAE"
_SERIES_NUMBER = 900
# type 1, so it must stand there; a day on which nothing was scanned
_DATE, _TIME = "19700101", "000000"
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_KEPT = (*_UIDS, "SOPClassUID", "SOPInstanceUID", "Modality", "LossyImageCompression", "LossyImageCompressionRatio",
         "LossyImageCompressionMethod")  # fmt: skip
# what highdicom takes from the source; empty unless identifiers are kept
_IDENTIFIERS = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
                "StudyTime", "ReferringPhysicianName")  # fmt: skip
_LABEL = re.compile(r"(?P<level>[CTL]\d{1,2}|lumbar|)\s*(vertebra|vertebral body|)", re.IGNORECASE)
_LONGEST_TEXT = 64  # characters, of LO
_MOST_SEGMENTS = 255


def write_dicom_seg(
    path: str | Path,
    mask: NDArray[Any],
    source: str | Path | Volume,
    *,
    segments: Mapping[int, str],
    algorithm: str = _NAME,
    algorithm_version: str = bonemonai.__version__,
    description: str = "Vertebrae",
    pseudonym: str = "",
    keep_identifiers: bool = False,
    overwrite: bool = False,
) -> None:
    """Write a mask of vertebrae as a binary DICOM Segmentation of the series that it was made from.

    The object refers to the source's slices by their UIDs, frame by frame. Frames without a voxel of a segment are
    left out, and so are segments without a voxel. Of a tilted gantry each frame states its own place, exactly; programs
    that want a rectangular volume, as highdicom's get_volume, refuse it.

    Everything that is not derived from the mask, the arguments and those UIDs is constant (ContentDate, which must be
    there, is 1970-01-01), and the object's own UIDs are derived from its content: the same call gives the same bytes
    with the same versions of bonemonai and highdicom.

    **Privacy.** Without ``keep_identifiers`` the file holds no name, number, date, sex, accession number, physician or
    institution of the source: it is built from a list of elements that are wanted, not by removing others. The UIDs of
    study, series, slices and frame of reference do stand in it, for without them it would be no segmentation of that
    series: whoever holds the source, or access to an archive that does, can link it back to the patient. Texts given
    here (description, algorithm, pseudonym) are written as they are. An archive may not accept an object whose patient
    differs from its study's; for the hospital's own archive keep the identifiers.

    Args:
        path: the file to make.
        mask: (plane, row, column) in the source's stored order, as ``open_volume(source).read()`` has it (see
            :meth:`bonemonai.data.AxialVolume.to_source`); bool or whole numbers, 0 for the background.
        source: the DICOM series, see :func:`bonemonai.data.open_volume`; ``folder::UID`` names one of several.
        segments: label of each value: "vertebra" or "vertebral body", with "C1" to "C7", "T1" to "T13", "L1" to "L6"
            or "lumbar" before it, or one of these alone. 1 to 255 of them. They are coded as that vertebra in SNOMED
            CT; only the label tells a body from a whole vertebra.
        algorithm: name of what made the mask; up to 64 characters, as the next.
        algorithm_version: its version.
        description: SeriesDescription and ContentDescription.
        pseudonym: PatientID to write instead of the source's.
        keep_identifiers: write the source's patient and study elements.
        overwrite: replace what is there.

    Raises:
        InputError: if the extra ``clinical`` is not installed, the source is no DICOM series or states no UIDs, the
            mask is of another shape, empty or holds values that are no segment's, or a label or text is not valid.
        OutputError: if the place is taken or cannot be written.

    Source:
        DICOM PS3.3, A.51 and C.8.20 (Segmentation); PS3.16, CID 7150, 7151, 7162; UIDs under 2.25: PS3.5, B.2.
    """
    hd = _highdicom()
    path = Path(path)
    volume = source if isinstance(source, Volume) else open_volume(source)
    if not isinstance(volume, DicomVolume):
        raise InputError(
            volume.path, "is no DICOM series, or a view of one: a DICOM segmentation has nothing to refer to; give the "
            "series, or write the mask as NIfTI."
        )  # fmt: skip
    texts = {"algorithm": algorithm, "algorithm_version": algorithm_version, "description": description}
    for name, text in {**texts, "pseudonym": pseudonym}.items():
        _check_text(name, text, empty=name == "pseudonym")
    if pseudonym and keep_identifiers:
        raise InputError("pseudonym", "cannot be given where identifiers are kept; choose one.")
    numbers, labels = _numbered(mask, segments, volume)
    family = codes.DCM.ArtificialIntelligence
    identification = hd.AlgorithmIdentificationSequence(algorithm, family=family, version=algorithm_version)
    described = [
        hd.seg.SegmentDescription(
            number, label, codes.SCT.AnatomicalStructure, algorithm_type="AUTOMATIC",
            algorithm_identification=identification, **_coded(label),
        ) for number, label in enumerate(labels, start=1)
    ]  # fmt: skip
    with silent_dicom():
        images, planes = _source_images(volume, keep_identifiers)
        stored = np.empty_like(numbers)
        stored[planes] = numbers
        try:
            dataset = hd.seg.Segmentation(
                images,
                stored,
                "BINARY",
                described,
                series_instance_uid="2.25.0",
                series_number=_SERIES_NUMBER,
                sop_instance_uid="2.25.0",
                instance_number=1,
                manufacturer=_NAME,
                manufacturer_model_name=_NAME,
                software_versions=bonemonai.__version__,
                device_serial_number=bonemonai.__version__,
                content_label=_CONTENT_LABEL,
                content_description=description,
                series_description=description,
                content_date=_DATE,
                content_time=_TIME,
            )
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise InputError(volume.path, f"cannot be referred to by a DICOM segmentation: {error}") from error
        if not keep_identifiers:
            dataset.PatientID = pseudonym
            dataset.PatientIdentityRemoved = "YES"
            dataset.DeidentificationMethod = "Patient, study and institution left out; UIDs retained"
            dataset.LongitudinalTemporalInformationModified = "REMOVED"
        _fix_what_varies(dataset)
        with atomic_path(path, overwrite=overwrite) as partial:
            dataset.save_as(partial, enforce_file_format=True)


def _highdicom() -> Any:
    try:
        import highdicom
        import highdicom.seg
    except ImportError:
        raise InputError("DICOM segmentations", "need the extra clinical: pip install 'bonemonai[clinical]'.") from None
    return highdicom


def _check_text(name: str, text: str, *, empty: bool) -> None:
    if len(text) > _LONGEST_TEXT or "\\" in text or not text.isprintable() or not (empty or text.strip()):
        raise InputError(name, f"must be 1 to {_LONGEST_TEXT} characters of text without a backslash, got {text!r}.")
    if not text.isascii():
        raise InputError(name, f"must be plain ASCII, got {text!r}.")


def _numbered(
    mask: NDArray[Any], segments: Mapping[int, str], volume: Volume
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Segments numbered from 1 in the order of their values, those that occur; and their labels."""
    if mask.shape != volume.shape:
        raise InputError(volume.path, f"is {volume.shape} voxels; the mask is {mask.shape}.")
    if mask.dtype.kind not in "bui":
        raise InputError("mask", f"must hold whole numbers, got {mask.dtype}.")
    if not 1 <= len(segments) <= _MOST_SEGMENTS or min(segments) < 1:
        raise InputError("segments", f"must name 1 to {_MOST_SEGMENTS} values above 0, got {sorted(segments)[:10]}.")
    seen: set[str] = set()
    for label in segments.values():
        _coded(label)
        if label in seen:
            raise InputError("segments", f"name {label!r} twice; give each value a label of its own.")
        seen.add(label)
    found = [int(value) for value in np.unique(mask) if value != 0]
    unknown = [value for value in found if value not in segments]
    if unknown:
        raise InputError("mask", f"holds the values {unknown[:10]}, which are none of {sorted(segments)}.")
    if not found:
        raise InputError("mask", "is empty: there is nothing to write a segmentation of.")
    # sorted, as unique gives them
    numbers = np.searchsorted(found, mask) + 1
    return np.where(mask == 0, 0, numbers).astype(np.uint8), tuple(segments[value] for value in found)


def _coded(label: str) -> dict[str, Any]:
    """Type and place of a segment in SNOMED CT, as pydicom's copy of DICOM's context groups has them."""
    match = _LABEL.fullmatch(label.strip())
    if match is None or not label.strip():
        raise InputError("segments", f"must be labels such as 'L1', 'L1 vertebral body' or 'lumbar', got {label!r}.")
    level = match["level"].upper()
    code = getattr(codes.SCT, f"{level}Vertebra", None) if level not in ("", "LUMBAR") else codes.SCT.Vertebra
    if level in ("L6", "T13"):
        # numbers that few have, and the code book does not
        code = codes.SCT.Vertebra
    if code is None:
        raise InputError("segments", f"must be labels of vertebrae that there are, got {label!r}.")
    lumbar = {"anatomic_regions": [codes.SCT.LumbarSpine]} if level.startswith("L") else {}
    return {"segmented_property_type": code, **lumbar}


def _source_images(volume: DicomVolume, keep_identifiers: bool) -> tuple[list[Dataset], NDArray[np.intp]]:
    """The source's headers with what is wanted and nothing else, and where each plane goes among their frames."""
    names = (*_KEPT, *(("SpecificCharacterSet", *_IDENTIFIERS) if keep_identifiers else ()))
    files = list(dict.fromkeys(frame.path for frame in volume.frames))
    images = [_header(read_tags(file, names), file, volume, keep_identifiers) for file in files]
    seen: dict[str, Path] = {}
    for image, file in zip(images, files, strict=True):
        other = seen.setdefault(str(image.SOPInstanceUID), file)
        if other != file:
            raise InputError(file, f"states the SOPInstanceUID of {other.name}; a segmentation could mean either.")
        # files that only almost agree have their first one's, as the volume has
        for name in _UIDS:
            if image[name].value != images[0][name].value:
                raise InputError(file, f"differs from {files[0].name} in {name}.")
    if len(files) == 1 and len(volume.frames) > 1:
        order = np.array([frame.index for frame in volume.frames], dtype=np.intp)
        _add_frames(images[0], volume, order)
    else:
        order = np.arange(len(files), dtype=np.intp)
        for image, frame in zip(images, volume.frames, strict=True):
            _add_place(image, frame.position)
            _add_grid(image, image, volume)
    return images, order


def _header(elements: Elements, file: Path, volume: DicomVolume, keep_identifiers: bool) -> Dataset:
    image = Dataset()
    for name in _KEPT:
        value = elements.get(name)
        if name.endswith("UID") and not str(value or ""):
            raise InputError(
                file, f"states no {name}: a DICOM segmentation has nothing to refer to; write the mask as NIfTI."
            )
        if value is not None:
            setattr(image, name, value)
    for name in _IDENTIFIERS:
        value = elements.get(name) if keep_identifiers else None
        setattr(image, name, "" if value is None else value)
    if elements.get("SpecificCharacterSet"):
        image.SpecificCharacterSet = elements["SpecificCharacterSet"]
    image.Rows, image.Columns = volume.shape[1:]
    return image


def _add_place(holder: Dataset, position: Sequence[float]) -> None:
    holder.ImagePositionPatient = [_ds(x) for x in position]


def _add_grid(orientation: Dataset, measures: Dataset, volume: DicomVolume) -> None:
    frame = volume.frames[0]
    orientation.ImageOrientationPatient = [_ds(x) for x in frame.orientation]
    measures.PixelSpacing = [_ds(x) for x in frame.spacing]
    measures.SliceThickness = _ds(frame.thickness or (volume.voxel_size_um or (1000.0,))[0] / 1000)


def _add_frames(image: Dataset, volume: DicomVolume, order: NDArray[np.intp]) -> None:
    image.NumberOfFrames = len(order)
    shared, orientation, measures = Dataset(), Dataset(), Dataset()
    _add_grid(orientation, measures, volume)
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    image.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for plane in np.argsort(order):
        group, place = Dataset(), Dataset()
        _add_place(place, volume.frames[plane].position)
        group.PlanePositionSequence = [place]
        groups.append(group)
    image.PerFrameFunctionalGroupsSequence = groups


def _ds(number: float) -> DSfloat:
    return DSfloat(number, auto_format=True)


def _fix_what_varies(dataset: Dataset) -> None:
    """Leave out times of writing, and derive UIDs from the content."""
    for name in ("InstanceCreationDate", "InstanceCreationTime"):
        dataset.pop(name, None)
    for item in dataset.get("ContributingEquipmentSequence", []):
        item.pop("ContributionDateTime", None)
    _set_uids(dataset, "2.25.0", "2.25.0", "2.25.0")
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    digest = hashlib.sha256(content.getbuffer()).hexdigest()
    series, instance, dimensions = (
        f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{_NAME} {what} {digest}').int}"
        for what in ("series", "instance", "dimensions")
    )
    _set_uids(dataset, series, instance, dimensions)


def _set_uids(dataset: Any, series: str, instance: str, dimensions: str) -> None:
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, instance
    dataset.file_meta.MediaStorageSOPInstanceUID = instance
    for item in (*dataset.DimensionOrganizationSequence, *dataset.get("DimensionIndexSequence", [])):
        item.DimensionOrganizationUID = dimensions
