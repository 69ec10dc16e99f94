"""What the values of a scan mean: Hounsfield units, densities, or nothing that is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

from bonemonai.errors import InputError

if TYPE_CHECKING:
    from bonemonai.data.volume import Volume

Units = Literal["HU", "mg HA/cm3", "raw"]
UNITS: tuple[Units, ...] = get_args(Units)


def set_units(volume: Volume, units: str) -> None:
    """Say what a volume's values mean where its file does not.

    Args:
        volume: the scan.
        units: one of :data:`UNITS`.

    Raises:
        InputError: if the units are not known, or the file states others.
    """
    known = next((name for name in UNITS if name == units), None)
    if known is None:
        raise InputError("units", f"must be one of {', '.join(UNITS)}, got {units!r}.")
    if volume.units not in ("raw", known):
        raise InputError(volume.path, f"states its values in {volume.units}; they are not {known}.")
    volume.units = known


def refuse_other_units(volume: Volume, expects: Sequence[str] | None) -> None:
    """Refuse values that a workflow was not made for.

    Args:
        volume: the scan.
        expects: units that the workflow takes; None takes any.

    Raises:
        InputError: naming the cure.
    """
    if expects is None or volume.units in expects:
        return
    wanted = " or ".join(expects)
    if volume.units == "raw":
        cure = f"if they are, say --units '{expects[0]}'; if not, give the scan in its calibrated format."
    else:
        cure = "give a scan of the kind that it was trained on."
    raise InputError(volume.path, f"holds {volume.units} values; this workflow takes {wanted}: {cure}")
