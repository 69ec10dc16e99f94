"""Slices at the same relative positions in every scan, of scans without intensity artefacts (paper 1)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from bonemonai.data.atomic import atomic_path
from bonemonai.data.data_card import copy_data_card
from bonemonai.data.manifest import read_manifest, write_manifest
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError, OutputError

logger = logging.getLogger(__name__)

_TOP = 0.05  # of a plane's grey range: where values crowd below a detector's limit
_MOSTLY = 0.5  # of a plane: it is background then
_CROWD = 0.002  # of a plane's pixels: as many crowd there at least


def select_slices(
    manifest_path: str | Path,
    number: int,
    out_path: str | Path,
    *,
    margin: float = 0.05,
    check: Callable[[Volume], str] | None = None,
    label_is_path: bool = True,
    overwrite: bool = False,
    progress: bool = False,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Write a manifest of slices, and beside it a list of the scans that were left out, with the reason.

    Every scan gives the same number of slices at the same relative positions, so that they correspond between
    patients. The list, ``<stem>_left_out.csv``, names a scan by its row in the manifest, ``scan_0003`` being the
    fourth, and no patient; it is written when it is empty, too. A scan that cannot be read stops the selection, and
    nothing is written.

    Args:
        manifest_path: of the scans, one row each.
        number: slices of each scan; the paper took 440 a patient.
        out_path: the manifest to be written, one row a slice, with a column ``plane``; the other columns are kept. It
            must lie in a folder that holds the scans as well.
        margin: share of the depth at each end from which no slice is taken, 0 to less than 0.5.
        check: gives the reason to leave a volume out, or nothing; :func:`intensity_artefact` by default.
        label_is_path: see :func:`bonemonai.data.read_manifest`.
        overwrite: replace both files.
        progress: show a bar on standard error.

    Returns:
        The slices, as :func:`bonemonai.data.read_manifest` would give them, and the scans left out, with the columns
        ``scan`` and ``reason``.

    Raises:
        InputError: if the manifest or a scan cannot be read, a scan is too shallow, slices were selected already, or no
            scan is left.
        OutputError: if a file exists or cannot be written.

    Source:
        Poles et al., section II-A, which names neither the positions nor a criterion for artefacts.
    """
    _refuse_numbers(number, margin)
    manifest_path, out_path = Path(manifest_path), Path(out_path)
    left_out_path = out_path.with_name(f"{out_path.stem}_left_out.csv")
    if manifest_path.resolve() in (out_path.resolve(), left_out_path.resolve()):
        raise OutputError(manifest_path, "is the manifest of the scans; choose another place for that of the slices.")
    manifest = _scans(manifest_path, label_is_path=label_is_path)
    check = check or partial(intensity_artefact, margin=margin)
    # the list first: where the manifest stands, its list does
    with (
        atomic_path(out_path, overwrite=overwrite) as slices_file,
        atomic_path(left_out_path, overwrite=overwrite) as left_out_file,
    ):
        # tried now: hours of reading are not to end at a place that cannot hold the result
        write_manifest(manifest, slices_file)
        volumes = [open_volume(image) for image in manifest["image"]]
        planes = [_planes_of(volume, number, margin) for volume in volumes]
        reasons = [check(volume) for volume in tqdm(volumes, desc="scans checked", disable=not progress)]
        left_out = _left_out(reasons, manifest_path)
        selected = _one_row_a_plane(manifest, [[] if r else p for r, p in zip(reasons, planes, strict=True)])
        write_manifest(selected, slices_file)
        left_out.to_csv(left_out_file, index=False, lineterminator="\n")
    copy_data_card(manifest_path, out_path)
    return selected, left_out


def relative_planes(depth: int, number: int, *, margin: float = 0.05) -> list[int]:
    """Planes at relative positions that do not depend on the depth, and of which no two are neighbours.

    What lies between the margins is cut into equal parts, and the plane in the middle of each is taken: the i-th of n
    holds the point (i + 1/2) / n of the way.

    Args:
        depth: planes of the scan.
        number: planes to take.
        margin: share of the depth at each end from which none is taken, 0 to less than 0.5.

    Returns:
        Plane numbers from 0, rising by 2 or more.

    Raises:
        InputError: if the scan is too shallow, saying how many fit.

    Example:
        >>> relative_planes(100, 3, margin=0.2)
        [30, 50, 70]
    """
    _refuse_numbers(number, margin)
    most = (depth + 1) // 2
    planes = _middles(depth, number, margin) if number <= most else None
    if planes is None:
        smaller = (_middles(depth, fewer, margin) for fewer in range(min(number - 1, most), 0, -1))
        fitting = next((len(fewer) for fewer in smaller if fewer is not None), 0)
        cause = f"of {number} planes, no two of them neighbours, is too many for a depth of {depth}: {fitting} fit."
        raise InputError("number", cause)
    return planes


def _middles(depth: int, number: int, margin: float) -> list[int] | None:
    """The planes, or None where two would be neighbours."""
    # fractions: a part's middle on a border of two planes is not to fall to either side by rounding
    start = Fraction(str(margin))
    parts = [(1 - 2 * start) * Fraction(2 * index + 1, 2 * number) for index in range(number)]
    planes = [math.floor(depth * (start + part)) for part in parts]
    return planes if all(later - earlier >= 2 for earlier, later in pairwise(planes)) else None


def intensity_artefact(
    volume: Volume,
    *,
    margin: float = 0.05,
    places: int = 64,
    flat: float = 0.05,
    clipped: float = 0.01,
    step: float = 0.25,
    darkened: float = 0.1,
) -> str:
    """Say what is wrong with the grey values of a scan, if anything.

    Two neighbouring planes are read at each of some evenly spaced places. Reported are NaN and infinite values; a plane
    that is nearly of one value; a plane in which many pixels stand at the largest value while others crowd just
    below it (a background, or a mask, has nothing there); and neighbouring planes of which mean, standard deviation or
    share of the darkest value differ abruptly: the beam dropped, or a picture is missing. Where two places differ that
    much, planes between are read by halving until the two neighbours are found or the change proves gradual, which is
    anatomy.

    The paper gives no criterion; the limits are ours. In undamaged scans the differences that ``step`` limits reach
    0.05 (microCT of trabecular bone), 0.08 (phantoms of 330 x 330 pixels) and 0.2 (of 100 x 100, which whole trabeculae
    leave from plane to plane), and the share that ``clipped`` limits 0.0001; 0.01 is what the paper's own saturation
    hides. A beam that drops by 10 % is found in raw phantoms, by 30 % in scans whose background is near 0.

    Not found: an artefact that is over before the next place (``places`` of half the depth read every plane), a slow
    drift, and shadows cut off at one value in the whole scan, as 8-bit windows do on purpose. Pixels of value 0 are
    background: they never count as cut off at the dark end, and where they are most of a plane, it may be flat, unless
    its neighbours differ.

    Args:
        volume: any size; two planes are held at once, and one as float64.
        margin: share of the depth at each end that is not looked at, 0 to less than 0.5.
        places: to look at, at least 1.
        flat: standard deviation up to which a plane is nearly of one value, in units of the scan's usual one (the
            median over planes).
        clipped: share of a plane's pixels at its largest value, from 0 to 1, from which it is saturated.
        step: largest difference of neighbouring planes in mean and in standard deviation, in units of the usual
            standard deviation, or of theirs if that is larger.
        darkened: largest difference of neighbouring planes in the share of pixels at the least value, 0 to 1.

    Returns:
        The reason in one line, or nothing.

    Raises:
        InputError: if a plane cannot be read.
    """
    _refuse_numbers(places, margin, "places")
    planes: dict[int, _Plane] = {}
    for start, stop in _pairs(volume.shape[0], margin, places):
        for plane in _measure(volume, start, stop):
            if plane.non_finite:
                return _not_finite(plane)
            planes[plane.number] = plane
    spreads = [plane.spread for plane in planes.values() if plane.spread]
    if not spreads:
        return f"the {len(planes)} planes looked at hold a single grey value each"
    usual = float(np.median(spreads))
    limits = _Limits(usual, flat, clipped, step, darkened)
    faults = (limits.fault(plane) for plane in planes.values())
    steps = (_abrupt(volume, one, other, limits) for one, other in pairwise(planes[key] for key in sorted(planes)))
    return next(filter(None, chain(faults, steps)), "")


@dataclass(frozen=True)
class _Plane:
    """What is judged of a plane; means and standard deviations in grey values, shares from 0 to 1."""

    number: int
    non_finite: int = 0
    mean: float = 0.0
    spread: float = 0.0
    background: float = 0.0
    darkest: float = 0.0
    clipped: float = 0.0


@dataclass(frozen=True)
class _Limits:
    usual: float
    flat: float
    clipped: float
    step: float
    darkened: float

    def fault(self, plane: _Plane) -> str:
        if plane.non_finite:
            return _not_finite(plane)
        name = f"plane {plane.number}"
        if plane.spread <= self.flat * self.usual and plane.background < _MOSTLY:
            return f"{name} is flat: standard deviation {plane.spread:.4g}, {self.usual:.4g} being usual in this scan"
        if plane.clipped >= self.clipped:
            return f"{name} is saturated: {plane.clipped:.1%} of its pixels have its largest value"
        return ""

    def step_between(self, one: _Plane, other: _Plane) -> str:
        scale = max(self.usual, one.spread, other.spread)
        mean = abs(one.mean - other.mean) / scale
        # near 1 it is the change of the standard deviation, and no leap where the last bone leaves the picture
        contrast = abs(one.spread**2 - other.spread**2) / (2 * scale**2)
        if max(mean, contrast) <= self.step and abs(one.darkest - other.darkest) <= self.darkened:
            return ""
        return (
            f"the intensity changes abruptly from plane {one.number} to {other.number}: "
            f"mean {one.mean:.4g} to {other.mean:.4g}, standard deviation {one.spread:.4g} to {other.spread:.4g} "
            f"({self.usual:.4g} being usual), pixels of the least value {one.darkest:.1%} to {other.darkest:.1%}"
        )


def _not_finite(plane: _Plane) -> str:
    return f"plane {plane.number} holds {plane.non_finite} NaN or infinite values"


def _abrupt(volume: Volume, one: _Plane, other: _Plane, limits: _Limits) -> str:
    """Whether two planes differ by a step between neighbours, which is then named, or gradually."""
    step = limits.step_between(one, other)
    if not step or other.number - one.number == 1:
        return step
    number = (one.number + other.number) // 2
    (middle,) = _measure(volume, number, number + 1)
    return limits.fault(middle) or _abrupt(volume, one, middle, limits) or _abrupt(volume, middle, other, limits)


def _pairs(depth: int, margin: float, places: int) -> Iterator[tuple[int, int]]:
    """Evenly spaced neighbours between the margins, (first, one past the last); every plane where that is no more."""
    start = Fraction(str(margin))
    low, high = math.floor(depth * start), math.ceil(depth * (1 - start))
    places = min(places, -(-(high - low) // 2))
    for place in range(places):
        first = low + place * (high - low) // places
        yield first, min(first + 2, high)


def _measure(volume: Volume, start: int, stop: int) -> list[_Plane]:
    return [_measured(number, plane) for number, plane in enumerate(volume.read(start, stop), start=start)]


def _measured(number: int, plane: NDArray[Any]) -> _Plane:
    non_finite = plane.size - int(np.count_nonzero(np.isfinite(plane)))
    if non_finite:
        return _Plane(number, non_finite)
    # as float64: neither do integers overflow nor do small differences of large values vanish
    low, high = float(plane.min()), float(plane.max())
    mean, spread = float(plane.mean(dtype=np.float64)), float(plane.std(dtype=np.float64))
    background = 1 - np.count_nonzero(plane) / plane.size
    if low == high:
        # exactly: the mean of equal values may differ from them in the last digit
        return _Plane(number, mean=low, background=background)
    darkest = np.count_nonzero(plane == low) / plane.size if low else 0.0
    largest = np.count_nonzero(plane == high)
    below = np.count_nonzero(plane >= high - _TOP * (high - low)) - largest
    clipped = largest / plane.size if below >= _CROWD * plane.size else 0.0
    return _Plane(number, mean=mean, spread=spread, background=background, darkest=darkest, clipped=clipped)


def _scans(path: Path, *, label_is_path: bool) -> pd.DataFrame:
    manifest = read_manifest(path, label_is_path=label_is_path)
    if "plane" in manifest:
        raise InputError(path, "has a column 'plane': it lists slices already; give the manifest of the scans.")
    return manifest


def _planes_of(volume: Volume, number: int, margin: float) -> list[int]:
    try:
        return relative_planes(volume.shape[0], number, margin=margin)
    except InputError as error:
        raise InputError(volume.path, f"{error.subject} {error.cause}") from error


def _left_out(reasons: Sequence[str], manifest_path: Path) -> pd.DataFrame:
    rows = [(f"scan_{row:04d}", reason) for row, reason in enumerate(reasons) if reason]
    for scan, reason in rows:
        logger.warning("%s is left out: %s.", scan, reason)
    if len(rows) == len(reasons):
        raise InputError(manifest_path, f"names no scan without an intensity artefact; of {rows[0][0]}, {rows[0][1]}.")
    return pd.DataFrame(rows, columns=["scan", "reason"], dtype=object)


def _one_row_a_plane(manifest: pd.DataFrame, planes: Sequence[Sequence[int]]) -> pd.DataFrame:
    selected = manifest.loc[manifest.index.repeat([len(numbers) for numbers in planes])].reset_index(drop=True)
    # object, as read_manifest gives it: pandas may take another type for text
    return selected.assign(plane=pd.Series([str(plane) for numbers in planes for plane in numbers], dtype=object))


def _refuse_numbers(number: object, margin: object, name: str = "number") -> None:
    # these come from a command line as they are
    if not isinstance(number, int) or number < 1:
        raise InputError(name, f"must be a whole number, 1 or more, got {number}.")
    if not isinstance(margin, int | float) or not 0 <= margin < 0.5:
        raise InputError("margin", f"must be a share of the depth, 0 to less than 0.5, got {margin}.")
