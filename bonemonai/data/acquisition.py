"""How a scan was taken: what its files say of the tube, the reconstruction and the grid, and nothing of the patient."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from bonemonai.data.derived_volume import DerivedVolume
from bonemonai.data.dicom_header import DicomFrame, read_tags
from bonemonai.data.dicom_volume import DicomVolume
from bonemonai.data.silent_dicom import silent_dicom
from bonemonai.data.volume import Volume, open_volume

Contrast = Literal["yes", "no", "unknown"]
_LONGEST = 64  # characters, the longest that DICOM's LO has
# by keyword, and where a multi-frame file keeps it: another keyword, in a functional group
_STATED = {
    "KVP": ("KVP", "CTXRayDetailsSequence"),
    "ConvolutionKernel": ("ConvolutionKernel", "CTReconstructionSequence"),
    "XRayTubeCurrent": ("XRayTubeCurrentInmA", "CTExposureSequence"),
    "Exposure": ("ExposureInmAs", "CTExposureSequence"),
}
_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_WHOLE = ("Modality", "Manufacturer", "ManufacturerModelName", "PatientPosition")
_CONTRAST = ("ContrastBolusAgent", "ContrastBolusAgentSequence", "ContrastBolusVolume")
# what is written where there was none, in capitals and without punctuation
_NO_CONTRAST = (
    "NO", "NON", "NONE", "NIL", "0", "NO CONTRAST", "WITHOUT", "WITHOUT CONTRAST", "W O", "NATIV", "NATIVE", "PLAIN",
)  # fmt: skip
_POSITIONS = ("HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL")
_MOST_LISTED = 4
_T = TypeVar("_T", bound=Hashable)


@dataclass(frozen=True)
class Acquisition:
    """How a scan was taken. None where the files do not say it, or slices say different things.

    It holds no identifier: no name, number, date, institution, station or UID is read for it. Texts are the vendor's,
    cleaned of control characters and at most 64 characters long; they are not escaped for HTML.

    Attributes:
        format: "DICOM", "NIfTI", ...
        modality: "CT", ...
        kvp: peak voltage of the tube, kV.
        kernel: of the reconstruction, the vendor's name.
        manufacturer: of the scanner.
        model: of the scanner.
        tube_current_ma: lowest and highest of the slices, mA; they differ where the dose is modulated.
        exposure_mas: lowest and highest of the slices, mAs.
        pixel_spacing_mm: between rows, between columns, mm.
        slice_interval_mm: distance of slices from their positions, at right angles to them, mm; None for one slice.
        slice_thickness_mm: SliceThickness, mm: how thick a slice is, which says nothing of the interval.
        contrast: "yes" where an agent is stated, "no" where it is said that there was none, and "unknown" where
            nothing is said: scanners leave the field out both without contrast and where nobody filled it in.
        patient_position: "HFS" (head first, supine), ...
        remarks: what slices do not agree on, one line each.
    """

    format: str
    modality: str | None = None
    kvp: float | None = None
    kernel: str | None = None
    manufacturer: str | None = None
    model: str | None = None
    tube_current_ma: tuple[float, float] | None = None
    exposure_mas: tuple[float, float] | None = None
    pixel_spacing_mm: tuple[float, float] | None = None
    slice_interval_mm: float | None = None
    slice_thickness_mm: float | None = None
    contrast: Contrast = "unknown"
    patient_position: str | None = None
    remarks: tuple[str, ...] = ()


def read_acquisition(source: str | Path | Volume) -> Acquisition:
    """Read how a scan was taken, from the headers of all its slices.

    Args:
        source: what :func:`bonemonai.data.open_volume` opens, ``folder::UID`` for one DICOM series of several, or a
            scan that is open; of a view, the scan that it views. Only DICOM says more than the geometry.

    Raises:
        InputError: if it cannot be read, or holds several series and none is chosen.

    Source:
        DICOM PS3.3, C.8.2.1 (CT Image), C.8.15.3 (Enhanced CT), C.7.6.4 (Contrast/Bolus).
    """
    volume = source if isinstance(source, Volume) else open_volume(source)
    while (viewed := volume.base if isinstance(volume, DerivedVolume) else volume.whole) is not volume:
        volume = viewed
    size = volume.voxel_size_um
    geometry: dict[str, Any] = {}
    if size is not None:
        geometry["pixel_spacing_mm"] = (size[1] / 1000, size[2] / 1000)
        geometry["slice_interval_mm"] = size[0] / 1000 if volume.shape[0] > 1 else None
    if not isinstance(volume, DicomVolume):
        return Acquisition(volume.format, **geometry)
    with silent_dicom():
        return Acquisition(volume.format, **geometry, **_stated(volume.frames))


def clean_text(value: Any, longest: int = _LONGEST) -> str | None:
    r"""Make a header's text fit for a page: no control or formatting characters, one space between words.

    Args:
        value: text, or several values of an element.
        longest: characters that are kept, at least 1.

    Returns:
        None where nothing is left.

    Example:
        >>> clean_text("  Br38f\x00\n 3 ")
        'Br38f 3'
    """
    values = [value] if value is None or isinstance(value, str) else list(value) if _is_list(value) else [value]
    text = ", ".join(str(one) for one in values if one is not None and str(one).strip())
    # control, formatting (such as right-to-left marks), surrogates, private use, unassigned
    kept = "".join(" " if unicodedata.category(character)[0] == "C" else character for character in text)
    return " ".join(kept.split())[:longest].rstrip() or None


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _stated(frames: Sequence[DicomFrame]) -> dict[str, Any]:
    """What the headers of a series say, by name of the field."""
    names = (*_WHOLE, *_CONTRAST, *_STATED, *_GROUPS)
    files = {path: read_tags(path, names) for path in dict.fromkeys(frame.path for frame in frames)}
    slices = [(files[frame.path], frame.index) for frame in frames]
    remarks: list[str] = []

    def common(field: str, of: Callable[[Any], _T | None], values: Sequence[Any]) -> _T | None:
        """What all slices say; None, and a remark, where they do not agree."""
        counts = Counter(of(value) for value in values)
        if len(counts) == 1:
            return next(iter(counts))
        said = [f"{'not stated' if v is None else _shown(v)} on {n}" for v, n in counts.most_common(_MOST_LISTED)]
        more = ", and others" if len(counts) > _MOST_LISTED else ""
        remarks.append(f"{field} differs between slices: {', '.join(said)}{more}.")
        return None

    by_slice = {name: [_find(elements, name, index) for elements, index in slices] for name in _STATED}
    contrast = [_contrast(elements) for elements in files.values()]
    by_file = {name: [elements.get(name) for elements in files.values()] for name in _WHOLE}
    return {
        "modality": common("modality", clean_text, by_file["Modality"]),
        "kvp": common("kVp", _positive, by_slice["KVP"]),
        "kernel": common("reconstruction kernel", clean_text, by_slice["ConvolutionKernel"]),
        "manufacturer": common("manufacturer", clean_text, by_file["Manufacturer"]),
        "model": common("scanner model", clean_text, by_file["ManufacturerModelName"]),
        "tube_current_ma": _range(by_slice["XRayTubeCurrent"]),
        "exposure_mas": _range(by_slice["Exposure"]),
        "slice_thickness_mm": common("slice thickness (mm)", _positive, [frame.thickness for frame in frames]),
        # where only some slices state one, it was given
        "contrast": common("contrast agent", str, contrast) or ("yes" if "yes" in contrast else "unknown"),
        "patient_position": common("patient position", _position, by_file["PatientPosition"]),
        "remarks": tuple(remarks),
    }


def _find(elements: Mapping[str, Any], name: str, index: int) -> Any:
    """An element of a slice: of its file, of the groups its frames share, or of its own frame's."""
    if elements.get(name) is not None:
        return elements[name]
    in_group, sequence = _STATED[name]
    shared, own = (elements.get(groups) or [] for groups in _GROUPS)
    # values are parsed as they are asked for, and may turn out to be none
    with suppress(ValueError, TypeError, IndexError, AttributeError):
        for group in (*own[index : index + 1], *shared[:1]):
            holder = group.get(sequence)
            if holder and holder[0].get(in_group) is not None:
                return holder[0].get(in_group)
    return None


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def _range(values: Sequence[Any]) -> tuple[float, float] | None:
    numbers = [number for number in map(_positive, values) if number is not None]
    return (min(numbers), max(numbers)) if numbers else None


def _contrast(elements: Mapping[str, Any]) -> Contrast:
    agent = clean_text(elements.get("ContrastBolusAgent"))
    words = "".join(character if character.isalnum() else " " for character in (agent or "").upper()).split()
    if words:
        return "no" if " ".join(words) in _NO_CONTRAST else "yes"
    given = elements.get("ContrastBolusAgentSequence") or _positive(elements.get("ContrastBolusVolume")) is not None
    return "yes" if given else "unknown"


def _position(value: Any) -> str | None:
    return str(value) if str(value) in _POSITIONS else None


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
