"""Where the slices of a DICOM series lie: their order and an exact affine, or a refusal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.dicom_header import DicomFrame
from bonemonai.errors import InputError

_GAP_SHARE, _GAP_MM = 0.01, 0.01  # how far a slice may lie from where an even stack has it
_DIRECTION, _SPACING = 1e-4, 1e-4  # how far directions (cosines) and pixel spacings (ratio) of slices may differ
_TILT_DEGREES = 0.1


class StackGeometry(NamedTuple):
    """An even stack of slices.

    Attributes:
        frames: from the first plane to the last.
        affine_lps: 4 x 4 float64, array index (plane, row, column) to mm in DICOM's axes.
        warnings: what had to be assumed.
    """

    frames: list[DicomFrame]
    affine_lps: NDArray[np.float64]
    warnings: list[str]


def stack_geometry(frames: Sequence[DicomFrame], subject: Path) -> StackGeometry:
    """Order slices by their position along the normal, and check that they make an even stack.

    Numbers and names of files play no part, nor do SliceThickness and SpacingBetweenSlices, which often are wrong. A
    tilted gantry shifts each slice by the same step: the affine then is sheared, and exact.

    Args:
        frames: in any order.
        subject: the series, for messages about all of it.

    Raises:
        InputError: if slices differ in direction or pixel spacing, lie at one position, or leave a gap.

    References:
        DICOM PS3.3, C.7.6.2.1.1, equation C.7.6.2.1-1.
    """
    first = frames[0]
    row, column = _directions(first)
    for frame in frames[1:]:
        if np.abs(np.subtract(frame.orientation, first.orientation)).max() > _DIRECTION:
            raise InputError(frame.path, f"lies in another direction than {first.path.name}: a localizer among them?")
        if not np.allclose(frame.spacing, first.spacing, rtol=_SPACING, atol=0):
            raise InputError(frame.path, f"has pixels of {frame.spacing} mm, but {first.path.name} of {first.spacing}.")
    normal = np.cross(row, column)
    places = np.array([frame.position for frame in frames]) @ normal
    order = np.argsort(places, kind="stable")
    ordered = [frames[index] for index in order]
    step, warnings = _step(ordered, normal, subject)
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = row * first.spacing[1]
    affine[:3, 3] = ordered[0].position
    return StackGeometry(ordered, affine, warnings)


def _directions(frame: DicomFrame) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    row, column = np.array(frame.orientation[:3]), np.array(frame.orientation[3:])
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    # headers round to a few digits; what is further off is no direction
    if max(abs(length - 1) for length in lengths) > 1e-2 or abs(row @ column) > 1e-2:
        raise InputError(frame.path, f"states directions that are not at right angles: {list(frame.orientation)}.")
    return row / lengths[0], column / lengths[1]


def _step(
    ordered: Sequence[DicomFrame], normal: NDArray[np.float64], subject: Path
) -> tuple[NDArray[np.float64], list[str]]:
    """From one slice to the next."""
    if len(ordered) == 1:
        return _step_of_one(ordered[0], normal)
    positions = np.array([frame.position for frame in ordered])
    step = (positions[-1] - positions[0]) / (len(ordered) - 1)
    intervals = np.diff(positions @ normal)
    usual = float(np.median(intervals))
    tolerance = max(_GAP_SHARE * usual, _GAP_MM)
    for frame, before, interval in zip(ordered[1:], ordered, intervals, strict=False):
        if interval <= min(_GAP_MM, 0.1 * usual):
            raise InputError(
                frame.path, f"lies where {_name(before, frame)} does: a copy, or another time or reconstruction."
            )
        if abs(interval - usual) > tolerance:
            raise InputError(
                frame.path, f"lies {interval:.4g} mm from {_name(before, frame)}, but slices are {usual:.4g} mm "
                f"apart: {'some are missing' if interval > usual else 'the stack is uneven'}."
            )  # fmt: skip
    even = positions[0] + np.arange(len(ordered))[:, None] * step
    off = np.abs(positions - even).max(axis=1)
    if off.max() > tolerance:
        worst = ordered[int(off.argmax())]
        raise InputError(worst.path, f"lies {off.max():.3g} mm beside the line on which the other slices lie.")
    angle = math.degrees(math.acos(min(1.0, abs(float(step @ normal)) / float(np.linalg.norm(step)))))
    if angle > 60:
        raise InputError(subject, f"is no volume: its slices follow each other at {angle:.0f} degrees to their normal.")
    if angle > _TILT_DEGREES:
        return step, [f"slices are shifted against each other by {angle:.1f} degrees (gantry tilt); the affine is "
                      "sheared and exact, right angles are not to be taken for granted."]  # fmt: skip
    return step, []


def _step_of_one(frame: DicomFrame, normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], list[str]]:
    if frame.thickness is None or not frame.thickness > 0:
        raise InputError(frame.path, "is a single slice that does not state its thickness.")
    return normal * frame.thickness, ["a single slice; its thickness is taken from the SliceThickness tag."]


def _name(frame: DicomFrame, other: DicomFrame) -> str:
    return frame.path.name if frame.path != other.path else f"frame {frame.index + 1}"
