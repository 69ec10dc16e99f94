"""Whether a scan was taken like those a network was trained on: a description for the weights' card, and warnings.

A scan is a mapping of what is known of it, as :func:`bonemonai.analysis.scan_acquisition` makes it. What is missing,
None, NaN, empty or "unknown" is "not stated". Its entries:

- ``KVP`` (kV), ``ConvolutionKernel``, ``Manufacturer``: as DICOM has them;
- ``contrast``: "yes" or "no", whether an agent was given;
- ``in_plane_spacing_mm``: one number or (row, column); ``slice_interval_mm``: between slices, not their thickness;
- ``hu_slice_*``, ``hu_mark_*``: see :func:`intensity_statistics`.

No patient and no file is named in the description. A scan that passes may still be unlike the training data in what is
not looked at: patients, dose, table height, metal.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.errors import InputError

SPACING_TOLERANCE = 0.1  # ours, a share: resampling to the network's grid makes up for less
INTENSITY_TOLERANCE_HU = 20.0  # ours: contrast medium or 20 kV less shift vertebral bone by about as much

_WORDS = {"ConvolutionKernel": "kernel", "Manufacturer": "manufacturer", "contrast": "contrast agent"}
_SPACINGS = {"in_plane_spacing_mm": "in-plane spacing", "slice_interval_mm": "slice interval"}
_REGIONS = {"hu_slice": "the whole slice", "hu_mark": "the body mark"}
_STATISTICS = {
    "p01": "1st percentile", "p50": "median", "p99": "99th percentile", "mean": "mean", "sd": "standard deviation",
}  # fmt: skip
_INTENSITIES = {
    f"{region}_{name}": f"{statistic} in {where}"
    for region, where in _REGIONS.items()
    for name, statistic in _STATISTICS.items()
}
_RANGES = {**_SPACINGS, **_INTENSITIES}
_AIR_HU = -1024.0  # padding outside of the field of view is lower still, by convention of the maker
_LONGEST = 60  # characters of a value in a warning


def intensity_statistics(hu: NDArray[Any], mark: NDArray[np.bool_] | None = None) -> dict[str, float | None]:
    """Summarise the grey values of a scan's slices.

    Args:
        hu: Hounsfield units, any shape; values below -1024, which are padding, count as -1024.
        mark: bool, of the same shape: the marked vertebral body. Without one, or where nothing is marked, its
            statistics are None.

    Returns:
        ``hu_slice_p01``, ``_p50``, ``_p99`` (percentiles), ``_mean`` and ``_sd`` of all values, HU, and the same of the
        marked ones as ``hu_mark_*``.

    Raises:
        InputError: if there is no value, one is not finite, or the mark is of another shape.

    Example:
        >>> found = intensity_statistics(np.array([[0.0, 100.0]]), np.array([[False, True]]))
        >>> found["hu_slice_mean"], found["hu_mark_mean"]
        (50.0, 100.0)
    """
    values = np.asarray(hu, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise InputError(
            "grey values", f"are {values.size}, not all finite or none; give the scan in Hounsfield units."
        )
    if mark is not None and (mark.shape != values.shape or mark.dtype != bool):
        raise InputError("mark", f"is {mark.dtype} of {mark.shape}; want bool of {values.shape}, as the grey values.")
    values = np.maximum(values, _AIR_HU)
    marked = values[mark] if mark is not None else values[:0]
    return {**_summary("hu_slice", values), **_summary("hu_mark", marked)}


def describe_acquisitions(scans: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Summarise the training scans, for the card beside the weights.

    Args:
        scans: see the module.

    Returns:
        JSON values: ``scans`` (count); of ``KVP`` (kV), ``ConvolutionKernel``, ``Manufacturer`` and ``contrast`` the
        ``values`` that occur, sorted; of spacings (mm) and intensities (HU) ``minimum`` and ``maximum`` (None where no
        scan states it); and of each ``not_stated``, the count of scans that do not.

    Raises:
        InputError: if there is no scan, or an entry is no number where one is due.

    Example:
        >>> known = describe_acquisitions([{"KVP": 120}, {"KVP": 140}, {}])
        >>> known["scans"], known["KVP"]
        (3, {'values': [120.0, 140.0], 'not_stated': 1})
    """
    rows = list(scans)
    if not rows:
        raise InputError("scans", "are none; describe the scans that were trained on.")
    described: dict[str, Any] = {"scans": len(rows)}
    kilovolts = [_numbers(row, "KVP") for row in rows]
    described["KVP"] = {"values": sorted({kv for each in kilovolts for kv in each}), "not_stated": kilovolts.count([])}
    for name in _WORDS:
        words = [_word(row.get(name)) for row in rows]
        spelled = {word.casefold(): word for word in reversed(words) if word}
        described[name] = {"values": sorted(spelled.values()), "not_stated": words.count("")}
    for name in _RANGES:
        numbers = [_numbers(row, name) for row in rows]
        every = [number for each in numbers for number in each]
        bounds = {"minimum": min(every, default=None), "maximum": max(every, default=None)}
        described[name] = {**bounds, "not_stated": numbers.count([])}
    return described


def check_acquisition(
    scan: Mapping[str, Any],
    known: Mapping[str, Any] | None,
    *,
    spacing_tolerance: float = SPACING_TOLERANCE,
    intensity_tolerance_hu: float = INTENSITY_TOLERANCE_HU,
) -> list[str]:
    """Compare a scan with those a network was trained on. It warns, and refuses nothing.

    A tube voltage, a kernel, a manufacturer or a contrast agent is unusual if no training scan had it (kV to the whole
    number, words but for case). A spacing is, if it lies further outside the range of the training scans than a share
    of the bound; an intensity, if it does so by more Hounsfield units than the tolerance. A warning gives the distance.

    Args:
        scan: see the module. An entry that is left out is warned of as not stated. What no training scan stated is not
            compared, but for a contrast agent that was given.
        known: what :func:`describe_acquisitions` returned, from the weights' card; None or empty where it has none.
        spacing_tolerance: share of a bound, 0 or more.
        intensity_tolerance_hu: HU, 0 or more.

    Returns:
        Warnings, one line each; none if all is as in training.

    Raises:
        ValueError: if a tolerance is negative.

    Example:
        >>> known = describe_acquisitions([{"KVP": 120, "slice_interval_mm": 5.0}])
        >>> for line in check_acquisition({"KVP": 80, "slice_interval_mm": 1.0}, known):
        ...     print(line)
        kVp is 80 kV; training scans had 120.
        slice interval is 1 mm, 4 below the training scans' 5 to 5.
    """
    if not (spacing_tolerance >= 0 and intensity_tolerance_hu >= 0):
        found = f"{spacing_tolerance} and {intensity_tolerance_hu}"
        raise ValueError(f"tolerances must be 0 or more, got {found}.")
    if not known:
        return ["nothing is known of the scans that these weights were trained on; this one was compared with none."]
    warnings = [_check_kilovolt(scan, known)]
    warnings += [_check_word(scan, known, name) for name in _WORDS]
    for name in _SPACINGS:
        warnings += _check_range(scan, known, name, "mm", relative=spacing_tolerance)
    for name in _INTENSITIES:
        warnings += _check_range(scan, known, name, "HU", absolute=intensity_tolerance_hu)
    return [line for line in warnings if line]


def _summary(region: str, values: NDArray[np.float64]) -> dict[str, float | None]:
    if not values.size:
        return dict.fromkeys(f"{region}_{name}" for name in _STATISTICS)
    numbers = [*np.percentile(values, [1, 50, 99]), values.mean(), values.std()]
    return {f"{region}_{name}": float(number) for name, number in zip(_STATISTICS, numbers, strict=True)}


def _word(value: Any) -> str:
    """A value on one line, empty where it is not stated; DICOM's several values are joined as DICOM does."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    parts = [value] if isinstance(value, str) or not isinstance(value, Iterable) else list(value)
    word = "\\".join(" ".join(str(part).split()) for part in parts)
    return "" if word.casefold() == "unknown" else word


def _numbers(row: Mapping[str, Any], name: str) -> list[float]:
    """The numbers of an entry; none where it is not stated.

    Raises:
        InputError: if it is stated, and no number.
    """
    value = row.get(name)
    several = isinstance(value, Iterable) and not isinstance(value, str)
    found = []
    for part in value if several else [value]:  # type: ignore[union-attr]
        if part is None or part == "":
            continue
        try:
            number = float(part)
        except (TypeError, ValueError) as error:
            raise InputError(name, f"is {_short(part)}, no number; correct it, or leave it out.") from error
        if math.isinf(number):
            raise InputError(name, f"is {number}; correct it, or leave it out.")
        found += [] if math.isnan(number) else [number]
    return found


def _short(value: Any) -> str:
    text = _word(value)
    return repr(text if len(text) <= _LONGEST else text[:_LONGEST] + "...")


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)


def _entry(known: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = known.get(name)
    return entry if isinstance(entry, Mapping) else {}


def _stated(scan: Mapping[str, Any], name: str, label: str) -> tuple[list[float], str]:
    """The numbers of an entry, and a warning where there are none."""
    try:
        numbers = _numbers(scan, name)
    except InputError as error:
        return [], f"{label} {error.cause.split(';')[0]}."
    return numbers, "" if numbers else f"{label} is not stated."


def _check_kilovolt(scan: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    values = [float(value) for value in _entry(known, "KVP").get("values") or ()]
    if not values:
        return ""
    numbers, warning = _stated(scan, "KVP", "kVp")
    odd = [number for number in numbers if round(number) not in {round(value) for value in values}]
    return f"kVp is {_listed(odd)} kV; training scans had {_listed(values)}." if odd else warning


def _check_word(scan: Mapping[str, Any], known: Mapping[str, Any], name: str) -> str:
    values, word = [str(value) for value in _entry(known, name).get("values") or ()], _word(scan.get(name))
    if not values:
        given = name == "contrast" and word.casefold() == "yes"
        return "contrast agent was given; no training scan states one." if given else ""
    if not word:
        return f"{_WORDS[name]} is not stated; training scans had {_listed(values)}."
    if word.casefold() in {value.casefold() for value in values}:
        return ""
    return f"{_WORDS[name]} is {_short(word)}; training scans had {_listed(values)}."


def _check_range(
    scan: Mapping[str, Any],
    known: Mapping[str, Any],
    name: str,
    unit: str,
    *,
    relative: float = 0.0,
    absolute: float = 0.0,
) -> list[str]:
    low, high = (_entry(known, name).get(bound) for bound in ("minimum", "maximum"))
    if low is None or high is None:
        return []
    numbers, warning = _stated(scan, name, _RANGES[name])
    lines = [warning] if warning else []
    for number in dict.fromkeys(numbers):
        below, above = low - number, number - high
        bound, side = (low, "below") if below > above else (high, "above")
        distance = max(below, above)
        if distance > absolute + relative * abs(bound):
            found = f"{_RANGES[name]} is {number:.4g} {unit}, {distance:.3g} {side}"
            lines.append(f"{found} the training scans' {low:.4g} to {high:.4g}.")
    return lines
