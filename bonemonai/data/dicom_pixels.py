"""Stored values of DICOM frames, decoded under limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.encaps import generate_frames
from pydicom.pixels import iter_pixels
from pydicom.uid import UID, RLELossless

from bonemonai.data.bounded_file import BoundedFile
from bonemonai.data.dicom_header import transfer_syntax
from bonemonai.data.silent_dicom import silent_dicom
from bonemonai.errors import InputError

_PIXEL_DATA = b"\xe0\x7f\x10\x00"
_J2K_START = b"\xff\x4f\xff\x51"
# frame headers of JPEG and JPEG-LS; C4, C8 and CC are other segments
_JPEG_FRAMES = (*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0), 0xF7)


def stored_values(path: Path, indices: Sequence[int], shape: tuple[int, int]) -> NDArray[Any]:
    """Decode frames of one file.

    Bits above BitsStored, which old files use for overlays, are cut off, and the sign is extended from there.

    Args:
        path: the file.
        indices: of the frames.
        shape: (rows, columns) that the header states.

    Returns:
        (frames, rows, columns), an integer type.

    Raises:
        InputError: if pixels are missing or cannot be decoded, or the compressed image is of another size than the
            header says; that is found before memory is asked for.
    """
    try:
        with silent_dicom(), BoundedFile(path) as stream:
            dataset = pydicom.dcmread(stream, stop_before_pixels=True, force=True)
            if not UID(transfer_syntax(dataset)).is_compressed and dataset.original_encoding[1]:
                frames = _read_native(stream, dataset, path, indices, shape)
            else:
                stream.seek(0)
                dataset = pydicom.dcmread(stream, force=True)
                frames = _decode(dataset, path, indices, shape)
    except InputError:
        raise
    except Exception as error:
        raise InputError(path, f"cannot be decoded: {error}") from error
    values = np.stack(frames)
    if values.shape != (len(indices), *shape) or values.dtype.kind not in "ui":
        raise InputError(path, f"decodes to {values.dtype} of shape {values.shape[1:]}, not {shape}.")
    return _within_stored_bits(values, int(dataset.get("BitsStored", dataset.BitsAllocated)), dataset, path)


def _read_native(
    stream: Any, dataset: Any, path: Path, indices: Sequence[int], shape: tuple[int, int]
) -> list[NDArray[Any]]:
    """Read the frames that are asked for, and no others, from where the header ended."""
    implicit, _ = dataset.original_encoding
    element = stream.read(8 if implicit else 12)
    start, length = stream.tell(), int.from_bytes(element[-4:], "little")
    if element[:4] != _PIXEL_DATA:
        raise InputError(path, "holds no integer pixels.")
    dtype = np.dtype(f"<{'i' if dataset.get('PixelRepresentation') else 'u'}{int(dataset.BitsAllocated) // 8}")
    a_frame = shape[0] * shape[1] * dtype.itemsize
    needed = int(dataset.get("NumberOfFrames", 1) or 1) * a_frame
    # values are padded to an even length
    available = path.stat().st_size - start
    if length not in (needed, needed + needed % 2) or available < needed:
        raise InputError(path, f"holds {min(length, available)} bytes of pixels; its header says {needed}.")
    frames = []
    for index in indices:
        stream.seek(start + index * a_frame)
        frames.append(np.frombuffer(stream.read(a_frame), dtype).reshape(shape))
    return frames


def _decode(dataset: Any, path: Path, indices: Sequence[int], shape: tuple[int, int]) -> list[NDArray[Any]]:
    if "PixelData" not in dataset:
        raise InputError(path, "holds no pixels.")
    dataset.file_meta = getattr(dataset, "file_meta", None) or pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(transfer_syntax(dataset))
    _check_length(dataset, path, shape)
    options: dict[str, Any] = {"raw": True, "correct_unused_bits": False}
    return [np.asarray(frame) for frame in iter_pixels(dataset, indices=list(indices), **options)]


def _check_length(dataset: Any, path: Path, shape: tuple[int, int]) -> None:
    syntax = dataset.file_meta.TransferSyntaxUID
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if not syntax.is_compressed:
        needed = frames * shape[0] * shape[1] * dataset.BitsAllocated // 8
        length = len(dataset.PixelData)
        # values are padded to an even length
        if length not in (needed, needed + needed % 2):
            raise InputError(path, f"holds {length} bytes of pixels; its header says {needed}.")
        return
    if syntax == RLELossless:
        return
    for number, frame in enumerate(generate_frames(dataset.PixelData, number_of_frames=frames)):
        size = codestream_size(frame)
        if size != shape:
            raise InputError(
                path, f"holds a compressed image of {size} in frame {number + 1}; its header says {shape}."
            )


def codestream_size(frame: bytes) -> tuple[int, int] | None:
    """(rows, columns) that a JPEG, JPEG-LS or JPEG 2000 image states itself; None if it states none.

    Args:
        frame: compressed.
    """
    start = frame.find(_J2K_START, 0, 4096)
    if start >= 0 and len(frame) >= start + 24:
        right, bottom, left, top = (int.from_bytes(frame[start + n : start + n + 4], "big") for n in (8, 12, 16, 20))
        return bottom - top, right - left
    at = 2
    while frame[:2] == b"\xff\xd8" and at + 9 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker in _JPEG_FRAMES:
            return int.from_bytes(frame[at + 5 : at + 7], "big"), int.from_bytes(frame[at + 7 : at + 9], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(frame[at + 2 : at + 4], "big")
    return None


def _within_stored_bits(values: NDArray[Any], stored: int, dataset: Any, path: Path) -> NDArray[Any]:
    """Cut off the bits above BitsStored, if they are an overlay's; as values they would be changed by that."""
    unused = values.dtype.itemsize * 8 - stored
    if unused <= 0:
        return values
    # out and back: fills with zeros where unsigned, with the sign where signed
    kept: NDArray[Any] = (values << unused) >> unused
    # an overlay within the pixels says at which bit it lies (60xx,0102); one of its own has 0
    overlays = [dataset.get((group, 0x0102)) for group in range(0x6000, 0x6020, 2) if (group, 0x0010) in dataset]
    if not any(bit is not None and int(bit.value) >= stored for bit in overlays) and not np.array_equal(kept, values):
        raise InputError(
            path, f"holds values of more than the {stored} bits that its header says, and no overlay there."
        )
    return kept
