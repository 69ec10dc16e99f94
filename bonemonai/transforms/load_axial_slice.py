"""One axial slice of a scan, and of masks that belong to it, by its number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform

from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.lumbar_slices import open_axial
from bonemonai.data.same_grid import refuse_other_grid
from bonemonai.data.units import refuse_other_units
from bonemonai.errors import InputError
from bonemonai.transforms.fit_plane import SPACING_KEY

_HELD = 4  # open scans: a scan and its masks


class LoadAxialSliced(MapTransform):
    """Read the slice that an item names from the scan and the masks that it names.

    Args:
        keys: entries that hold paths; the first is the scan, the others must lie on its grid.
        plane_key: entry that holds the number of the slice, counted from the feet.
        expects: units that the scan's values may have.
        allow_missing_keys: skip keys that are not there.

    Shape:
        Each entry becomes (1, H, W), float32; rows run to the back, columns to the patient's left. ``spacing`` is that
        of rows and of columns, mm.

    Raises:
        InputError: if a file cannot be read, holds other units, has no such slice, or a mask is on another grid.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        plane_key: str = "plane",
        expects: Sequence[str] | None = ("HU",),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.plane_key, self.expects = plane_key, expects
        self._open: OrderedDict[tuple[str, str | None], AxialVolume] = OrderedDict()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Read an item's slices."""
        item = dict(data)
        plane = int(item[self.plane_key])
        scan: AxialVolume | None = None
        for key in self.key_iterator(item):
            path = str(item[key])
            volume = self._volume(path, (str(item.get("units") or "") or None) if scan is None else None)
            if scan is None:
                refuse_other_units(volume, self.expects)
                scan = volume
            else:
                refuse_other_grid(volume, scan)
            if not 0 <= plane < volume.shape[0]:
                raise InputError(
                    path, f"has no axial slice {plane}; there are {volume.shape[0]}, counted from the feet."
                )
            item[key] = torch.from_numpy(volume.read(plane, plane + 1).astype(np.float32))
        if scan is not None:
            item[SPACING_KEY] = scan.pixel_spacing_mm
        return item

    def __getstate__(self) -> dict[str, Any]:
        # which scans are open is no setting: not to be pickled, nor to count in a digest
        return {**self.__dict__, "_open": OrderedDict()}

    def _volume(self, path: str, units: str | None) -> AxialVolume:
        known = self._open.pop((path, units), None)
        volume = open_axial(path, units) if known is None else known
        self._open[path, units] = volume
        while len(self._open) > _HELD:
            self._open.popitem(last=False)
        return volume
