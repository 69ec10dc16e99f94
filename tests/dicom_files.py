"""DICOM files for tests: right ones, to be made wrong one tag at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

SERIES = "1.2.826.0.1.3680043.10.1"
Edit = Callable[[Dataset, int], None]


def stack_dataset(shape: tuple[int, int], *, kind: str = CTImageStorage) -> FileDataset:
    """An image's header without a place."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = UID(kind), UID(f"{SERIES}.9")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)  # type: ignore[arg-type]
    dataset.SOPClassUID, dataset.SOPInstanceUID, dataset.SeriesInstanceUID = kind, f"{SERIES}.9", SERIES
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", "P007", "Jane^Smith"
    dataset.FrameOfReferenceUID = f"{SERIES}.5"
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 13, 12, 1
    return dataset


def write_series(
    folder: Path,
    hounsfield: NDArray[Any],
    *,
    slope: float = 1.0,
    intercept: float = -1024.0,
    origin: tuple[float, float, float] = (-12.5, 30.0, 100.0),
    row: tuple[float, float, float] = (1, 0, 0),
    column: tuple[float, float, float] = (0, 1, 0),
    spacing: tuple[float, float] = (1.5, 1.25),
    step: tuple[float, float, float] | None = None,
    interval: float = 2.0,
    edit: Edit | None = None,
    shuffled: bool = True,
) -> Path:
    """Write one file a plane; names and InstanceNumbers run against the positions.

    Args:
        folder: to write to; made.
        hounsfield: (planes, rows, columns).
        slope: of the rescale.
        intercept: of the rescale.
        origin: of the first plane, mm.
        row: direction of rows.
        column: direction of columns.
        spacing: (between rows, between columns), mm.
        step: from plane to plane, mm; along the normal by default.
        interval: length of that step.
        edit: called with each dataset and its plane, just before it is written.
        shuffled: number files against their order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    along = np.cross(row, column) * interval if step is None else np.array(step)
    for plane, values in enumerate(hounsfield):
        dataset = stack_dataset(values.shape)
        number = (plane * 7) % len(hounsfield) if shuffled and len(hounsfield) % 7 else plane
        dataset.SOPInstanceUID = f"{SERIES}.{number + 1}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = number + 1
        dataset.ImagePositionPatient = [float(f"{x:.10g}") for x in np.array(origin) + plane * along]
        dataset.ImageOrientationPatient = [float(f"{x:.10g}") for x in (*row, *column)]
        dataset.PixelSpacing, dataset.SliceThickness = list(spacing), 3.0
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = slope, intercept, "HU"
        set_pixels(dataset, np.round((values - intercept) / slope).astype(np.int16))
        if edit is not None:
            edit(dataset, plane)
        dataset.save_as(folder / f"IM{number:04d}.dcm", enforce_file_format=True)
    return folder


def set_pixels(dataset: Dataset, stored: NDArray[Any]) -> None:
    """Give a dataset uncompressed values."""
    dataset.PixelData = np.ascontiguousarray(stored, dtype=stored.dtype.newbyteorder("<")).tobytes()
    dataset["PixelData"].VR = "OW" if stored.dtype.itemsize > 1 else "OB"


def write_enhanced(path: Path, hounsfield: NDArray[Any], *, order: list[int] | None = None) -> Path:
    """Write one multi-frame file; frames in a given order."""
    dataset = stack_dataset(hounsfield.shape[1:], kind=EnhancedCTImageStorage)
    order = list(range(len(hounsfield))) if order is None else order
    dataset.NumberOfFrames = len(hounsfield)
    shared, measures, orientation, transformation = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [1.5, 1.25], 2.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    transformation.RescaleSlope, transformation.RescaleIntercept, transformation.RescaleType = 1, -1024, "HU"
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [transformation]
    dataset.SharedFunctionalGroupsSequence = [shared]
    groups = []
    for plane in order:
        group, position = Dataset(), Dataset()
        position.ImagePositionPatient = [-12.5, 30.0, 100.0 + 2.0 * plane]
        group.PlanePositionSequence = [position]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    set_pixels(dataset, (hounsfield[order] + 1024).astype(np.int16))
    dataset.save_as(path, enforce_file_format=True)
    return path


def hounsfield(planes: int = 5) -> NDArray[np.int16]:
    """Values of a small scan."""
    # no two axes of one length, no symmetry: a transposition or flip shows
    return (np.arange(planes * 6 * 8).reshape(planes, 6, 8) - 1000).astype(np.int16)


def tag(name: str, value: Any, plane: int = 2) -> Any:
    """Change one tag of one slice; None takes it out."""

    def edit(dataset: Dataset, index: int) -> None:
        if index == plane or plane < 0:
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return edit
