"""Measured numbers with their names and units, as text, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

Format = Literal["text", "csv", "json"]
FORMATS: tuple[Format, ...] = get_args(Format)


class Quantity(NamedTuple):
    """A number with its name and unit, or a word that says how numbers were made.

    Attributes:
        name: ASBMR's, with a suffix where a method gives another number than the usual one.
        value: of it.
        unit: "1" of a ratio or a count, "-" of a word.
    """

    name: str
    value: float | int | str
    unit: str


def format_quantities(quantities: Sequence[Quantity], style: Format = "text") -> str:
    r"""Write a list of quantities.

    Args:
        quantities: to be told.
        style: "text" has a line of name, value (six digits) and unit each, parted by spaces, of which words have none;
            "csv" and "json" have all digits.

    Example:
        >>> format_quantities([Quantity("BV/TV", 0.25, "1"), Quantity("bone", "grey > 63", "-")])
        'BV/TV 0.25 1\nbone grey_>_63 -'
    """
    if style == "json":
        # NaN and infinity are no JSON
        rows = [{**row._asdict(), "value": row.value if _is_finite(row.value) else None} for row in quantities]
        return json.dumps(rows, indent=2, allow_nan=False)
    if style == "csv":
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerows([Quantity._fields, *quantities])
        return stream.getvalue().rstrip("\n")
    return "\n".join(f"{name} {_short(value)} {unit}" for name, value, unit in quantities)


def _is_finite(value: float | int | str) -> bool:
    return isinstance(value, str) or math.isfinite(value)


def _short(value: float | int | str) -> str:
    return "_".join(value.split()) if isinstance(value, str) else f"{value:.6g}"
