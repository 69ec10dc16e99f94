"""What one DICOM file states about its image: read without its pixels, refused where it cannot be relied on."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from bonemonai.data.bounded_file import BoundedFile
from bonemonai.data.silent_dicom import silent_dicom
from bonemonai.errors import InputError

_TAGS = [
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "ImageType", "BurnedInAnnotation",
    "PatientID", "PatientName", "PatientBirthDate", "FrameOfReferenceUID", "InstanceNumber",
    "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns", "NumberOfFrames", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelPaddingValue", "RescaleSlope", "RescaleIntercept", "RescaleType", "Units",
    "ModalityLUTSequence", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "SeriesNumber", "SeriesDate", "SeriesTime", "ConvolutionKernel", "LossyImageCompression",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
# what frames of one volume share, and the functional group that states it
_FRAME_KINDS = (
    ("RescaleType", "PixelValueTransformationSequence"),
    ("StackID", "FrameContentSequence"),
    ("TemporalPositionIndex", "FrameContentSequence"),
    ("FrameType", "CTImageFrameTypeSequence"),
    ("FrameType", "MRImageFrameTypeSequence"),
)
# what tells series apart where a stripped header has no UID
_INSTEAD_OF_UID = ("SeriesNumber", "SeriesDate", "SeriesTime", "ImageType", "ConvolutionKernel")
_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")  # JPEG baseline and extended
_PIXELS = tuple(struct.pack(f"{order}HH", 0x7FE0, element) for order in "<>" for element in (0x08, 0x09, 0x10))
_DEFLATED = "1.2.840.10008.1.2.1.99"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class DicomFrame:
    """One plane: where it lies and what its stored values mean.

    Attributes:
        path: its file.
        index: of the frame within the file.
        position: (x, y, z) of the centre of its first pixel, mm, DICOM's axes.
        orientation: directions of a row (along columns) and of a column (along rows).
        spacing: (between rows, between columns), mm.
        slope: of value = slope * stored + intercept.
        intercept: see slope.
        thickness: of the slice, mm; None where not stated. It says nothing of the distance to the next.
        kind: what all frames of a volume must share: units of the rescale, stack, time, type of frame.
    """

    path: Path
    index: int
    position: tuple[float, float, float]
    orientation: tuple[float, float, float, float, float, float]
    spacing: tuple[float, float]
    slope: float
    intercept: float
    thickness: float | None
    kind: tuple[str, ...] = ()


@dataclass(frozen=True)
class DicomHeader:
    """One file of a series.

    Attributes:
        path: the file.
        series: SeriesInstanceUID; empty in a stripped header.
        modality: CT, MR, ...
        refusal: why this is no image that can be a part of a volume; empty where it can.
        meant: whether it is meant to be a part of one, and only cannot: such a series is not passed over.
        same: what all files of a volume must share, by name.
        frames: its planes; none where there is a refusal.
        shape: (rows, columns).
        stored_bits: of a value.
        signed: whether stored values are.
        inverted: whether low values are meant to be shown bright (MONOCHROME1).
        units: "HU" or "raw".
        number: InstanceNumber, never used for the order.
        stated_distance: SpacingBetweenSlices, mm; None where not stated.
        syntax: transfer syntax.
        lossy: whether it was compressed with loss at any time.
    """

    path: Path
    series: str
    modality: str
    refusal: str
    same: Mapping[str, Any]
    meant: bool = False
    frames: Sequence[DicomFrame] = ()
    shape: tuple[int, int] = (0, 0)
    stored_bits: int = 0
    signed: bool = False
    inverted: bool = False
    units: Literal["HU", "raw"] = "raw"
    number: int | None = None
    stated_distance: float | None = None
    syntax: str = ""
    lossy: bool = False


def read_header(path: Path) -> DicomHeader | None:
    """Read a file's header.

    Args:
        path: any file.

    Returns:
        None if the file is no DICOM file. A file that is one, but no image that can be a part of a volume, has a
        :attr:`DicomHeader.refusal`, so that a report beside the slices stops nobody who does not choose it.

    Raises:
        InputError: if the file begins like DICOM, and is damaged.
    """
    dataset = read_elements(path)
    if dataset is None:
        return None
    series, modality = (str(dataset.get(name, "") or "") for name in ("SeriesInstanceUID", "Modality"))
    refusal = _not_an_image(dataset)
    meant = not refusal
    try:
        if meant:
            _check_pixels(dataset, path)
            return _image_header(dataset, path, series, modality)
    except InputError as error:
        refusal = error.cause
    except (ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError) as error:
        refusal = f"has a header that cannot be read: {error}"
    return DicomHeader(path, series, modality, refusal, {}, meant)


class Elements(dict[str, Any]):
    """A header's elements by keyword: looking one up in pydicom's own data set takes ten times as long.

    Attributes:
        file_meta: the file's meta information.
        original_encoding: whether it is implicit, and little endian.
    """

    file_meta: Any
    original_encoding: tuple[bool, bool]


def read_elements(path: Path) -> Elements | None:
    """Read the elements that matter here, up to the pixels; None if it is no DICOM file.

    Raises:
        InputError: if the file begins like DICOM, and is damaged, or is an image without pixels.
    """
    with BoundedFile(path) as stream:
        start = stream.read(1024)
        marked = start[128:132] == b"DICM"
        # a deflated file is unpacked whole, however large it grows
        if marked and _DEFLATED.encode() in start:
            raise InputError(path, "is deflated; write it anew in another transfer syntax (dcmconv does).")
        stream.seek(0)
        try:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            # where reading stopped: at the pixels, or at the end of a file that has none
            at_pixels = stream.read(4) in _PIXELS
            elements = Elements((element.keyword, element.value) for element in dataset)
        except Exception as error:
            if marked:
                raise InputError(path, f"is a damaged DICOM file: {error}") from error
            return None
    if not marked and not ("Rows" in elements and "BitsAllocated" in elements):
        return None
    elements.file_meta = getattr(dataset, "file_meta", {})
    elements.original_encoding = dataset.original_encoding  # type: ignore[assignment]
    kind = UID(str(elements.get("SOPClassUID", "") or ""))
    if not at_pixels and ("Rows" in elements or not kind or "Image" in kind.name):
        # cut off within the header, it would pass for a report that belongs to another series
        raise InputError(path, "is an image without pixels: cut short, or stripped.")
    return elements


def read_tags(path: Path, names: Sequence[str]) -> Elements:
    """Read some elements of a file that is known to be DICOM, and nothing else; a value that is none is left out.

    Args:
        path: the file, one that :func:`read_header` took.
        names: keywords. What is not among them is not read, so it cannot reach a result.

    Raises:
        InputError: if the file cannot be read any more.
    """
    elements = Elements()
    try:
        with silent_dicom(), BoundedFile(path) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True, specific_tags=list(names))
            for name in names:
                with suppress(ValueError, TypeError, OverflowError, NotImplementedError):
                    if name in dataset:
                        elements[name] = dataset[name].value
    except Exception as error:
        raise InputError(path, f"is a damaged DICOM file: {error}") from error
    return elements


def _not_an_image(dataset: Elements) -> str:
    """Why a file is not a part of a volume, in words; nothing where it may be."""
    if "Rows" not in dataset or "Columns" not in dataset:
        return "holds no image"
    kind = UID(str(dataset.get("SOPClassUID", "")))
    if str(kind).startswith(_SECONDARY_CAPTURE):
        return "is a secondary capture, a picture of a screen"
    if kind.name.startswith(("Segmentation", "Label Map", "RT Dose", "Parametric Map", "Ultrasound")):
        return f"is a {kind.name.removesuffix(' Storage')}, not a scan"
    if str(dataset.get("BurnedInAnnotation", "") or "").upper() == "YES":
        return "has text burned into its pixels (BurnedInAnnotation), which may be a patient's name"
    samples = dataset.get("SamplesPerPixel", 1)
    photometric = str(dataset.get("PhotometricInterpretation", "") or "")
    if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        return f"is colour ({samples} samples a pixel, {photometric or 'no photometric interpretation'})"
    types = [str(word).upper() for word in _listed(dataset.get("ImageType"))]
    if "LOCALIZER" in types or "MOSAIC" in types:
        return f"is a {'localizer' if 'LOCALIZER' in types else 'mosaic of slices'}, no slice"
    if "ModalityLUTSequence" in dataset:
        return "gives its values by a table (ModalityLUTSequence), which is not supported"
    return ""


def _listed(value: Any) -> Sequence[Any]:
    return [] if value is None else [value] if isinstance(value, str) else list(value)


def _check_pixels(dataset: Elements, path: Path) -> None:
    allocated, stored = int(dataset["BitsAllocated"]), int(dataset.get("BitsStored", dataset["BitsAllocated"]))
    rows, columns = int(dataset["Rows"]), int(dataset["Columns"])
    if allocated not in (8, 16, 32) or not 1 <= stored <= allocated:
        raise InputError(path, f"stores {stored} of {allocated} bits, which is not supported.")
    if int(dataset.get("HighBit", stored - 1)) != stored - 1:
        raise InputError(path, f"has its high bit at {dataset['HighBit']}, not {stored - 1}, which is not supported.")
    if rows < 1 or columns < 1:
        raise InputError(path, f"is {rows} x {columns} pixels large.")
    syntax = transfer_syntax(dataset)
    if not UID(syntax).is_compressed:
        needed = rows * columns * int(dataset.get("NumberOfFrames", 1) or 1) * allocated // 8
        if path.stat().st_size < needed:
            raise InputError(path, f"is cut short: {path.stat().st_size} bytes, but its pixels are {needed}.")


def transfer_syntax(dataset: Elements | Dataset) -> str:
    """UID of a file's transfer syntax; an old file without a preamble states none, and its encoding tells."""
    stated = str(getattr(dataset, "file_meta", {}).get("TransferSyntaxUID", "") or "")
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return stated or str(ImplicitVRLittleEndian if implicit else explicit)


def _image_header(dataset: Elements, path: Path, series: str, modality: str) -> DicomHeader:
    frames = _frames(dataset, path)
    for frame in frames:
        if frame.kind != frames[0].kind:
            raise InputError(path, "holds frames of several stacks, times, types or units; one volume is needed.")
    kind = frames[0].kind[0]
    hounsfield = modality == "CT" and kind.upper() in ("", "HU")
    number = dataset.get("InstanceNumber")
    return DicomHeader(
        path,
        series,
        modality,
        refusal="",
        meant=True,
        frames=frames,
        shape=(int(dataset["Rows"]), int(dataset["Columns"])),
        stored_bits=int(dataset.get("BitsStored", dataset["BitsAllocated"])),
        signed=bool(dataset.get("PixelRepresentation", 0)),
        # values in units are what the rescale gives, however they are to be shown
        inverted=dataset["PhotometricInterpretation"] == "MONOCHROME1" and not _in_units(dataset, kind, modality),
        units="HU" if hounsfield else "raw",
        number=None if number is None else int(number),
        stated_distance=_stated_distance(dataset, path),
        syntax=transfer_syntax(dataset),
        lossy=str(dataset.get("LossyImageCompression", "")) == "01" or transfer_syntax(dataset) in _LOSSY,
        same={
            "patient": tuple(str(dataset.get(n, "") or "") for n in ("PatientID", "PatientName", "PatientBirthDate")),
            "size": (int(dataset["Rows"]), int(dataset["Columns"])),
            "modality": modality,
            "units": (kind or str(dataset.get("Units", "") or "")),
            "photometric interpretation": str(dataset["PhotometricInterpretation"]),
            "frame of reference": str(dataset.get("FrameOfReferenceUID", "") or ""),
            **({} if series else {name: str(dataset.get(name, "") or "") for name in _INSTEAD_OF_UID}),
        },
    )


def _in_units(dataset: Elements, kind: str, modality: str) -> bool:
    return modality in ("CT", "PT") or kind not in ("", "US") or bool(dataset.get("Units"))


def _frames(dataset: Elements, path: Path) -> list[DicomFrame]:
    count = int(dataset.get("NumberOfFrames", 1) or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        if count != 1:
            raise InputError(path, f"holds {count} frames without positions; a volume's frames state theirs.")
        return [_frame(dataset, [dataset], path, 0)]
    if len(groups) != count:
        raise InputError(path, f"holds {count} frames, but states where {len(groups)} lie.")
    shared = dataset.get("SharedFunctionalGroupsSequence") or [Dataset()]
    return [_frame(dataset, [group, shared[0]], path, index) for index, group in enumerate(groups)]


def _frame(dataset: Elements, groups: Sequence[Elements | Dataset], path: Path, index: int) -> DicomFrame:
    def find(name: str, sequence: str) -> Any:
        """An element of this frame's functional groups, or else of those all frames share."""
        for group in groups:
            holder = group if group is dataset else (group.get(sequence) or [Dataset()])[0]
            if holder.get(name) is not None:
                return holder.get(name)
        return None

    position = _numbers(find("ImagePositionPatient", "PlanePositionSequence"), 3, "ImagePositionPatient", path)
    orientation = _numbers(
        find("ImageOrientationPatient", "PlaneOrientationSequence"), 6, "ImageOrientationPatient", path
    )
    spacing = _numbers(find("PixelSpacing", "PixelMeasuresSequence"), 2, "PixelSpacing", path)
    if min(spacing) <= 0:
        raise InputError(path, f"has PixelSpacing {spacing[0]:g}, {spacing[1]:g} mm.")
    slope, intercept = (find(name, "PixelValueTransformationSequence") for name in ("RescaleSlope", "RescaleIntercept"))
    if slope is None and intercept is None and str(dataset.get("Modality", "")) != "CT":
        slope, intercept = 1.0, 0.0
    (slope,), (intercept,) = _numbers(slope, 1, "RescaleSlope", path), _numbers(intercept, 1, "RescaleIntercept", path)
    if slope == 0:
        raise InputError(path, "has RescaleSlope 0.")
    thickness = find("SliceThickness", "PixelMeasuresSequence")
    return DicomFrame(
        path,
        index,
        (position[0], position[1], position[2]),
        tuple(orientation),  # type: ignore[arg-type]
        (spacing[0], spacing[1]),
        slope,
        intercept,
        None if thickness is None else _numbers(thickness, 1, "SliceThickness", path)[0],
        tuple(str(find(name, sequence) or "") for name, sequence in _FRAME_KINDS),
    )


def _numbers(value: Any, count: int, name: str, path: Path) -> list[float]:
    if value is None or value == "":
        raise InputError(path, f"states no {name}.")
    values = [float(v) for v in value] if isinstance(value, Sequence) and not isinstance(value, str) else [float(value)]
    if len(values) != count or not all(map(math.isfinite, values)):
        raise InputError(path, f"states {name} as {value}; {count} finite number{'s' * (count > 1)} are due.")
    return values


def _stated_distance(dataset: Elements, path: Path) -> float | None:
    value = dataset.get("SpacingBetweenSlices")
    return None if value is None or value == "" else abs(_numbers(value, 1, "SpacingBetweenSlices", path)[0])
