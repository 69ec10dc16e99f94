"""Volumes served plane by plane, so that a scan larger than memory can be trained and inferred on."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from torch.utils.data import Dataset

from bonemonai.data.histogram import volume_histogram
from bonemonai.data.units import refuse_other_units
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError


class PlaneDataset(Dataset[Any]):
    """The planes of one or more volumes as items of a MONAI dataset.

    An item holds, for each key, the plane as (1, H, W) in the type on disk, the other entries of its row, its
    number as ``plane``, and as ``histogram`` the grey values of the whole volume it comes from, which
    transforms need in order to scale a plane like its neighbours. Drop that entry before items are collated.

    Args:
        data: rows such as :func:`bonemonai.data.manifest_items` gives, the values of ``keys`` being paths or
            open volumes. ``<key>_plane`` is the plane of a key whose file holds chosen planes only, such as a mask that
            was predicted for the slices of a manifest.
        keys: entries to read planes from; the first one's grey values are counted.
        transform: applied to each item.
        step: take every step-th plane; neighbouring planes at 1.6 um show the same lacunae. A row that names a plane
            in its column ``plane`` gives that one only.
        progress: show a bar while grey values are counted.
        expects: units that the first key's values may have, such as ("HU",); None takes any.

    Raises:
        InputError: if there is no row, the volumes of a row differ in shape, or values are in other units.
    """

    def __init__(
        self,
        data: Sequence[Mapping[Hashable, Any]],
        keys: Sequence[str] = ("image",),
        transform: Callable[[Any], Any] | None = None,
        *,
        step: int = 1,
        progress: bool = True,
        expects: Sequence[str] | None = None,
    ) -> None:
        if not data:
            raise InputError("data", "the data set is empty: it has no row.")
        if step < 1:
            raise ValueError(f"step must be >= 1 (planes), got {step}.")
        self.data, self.keys, self.transform = list(data), tuple(keys), transform
        # a manifest of slices names each scan many times
        known: dict[tuple[Any, ...], Volume] = {}
        self.volumes = [{key: _open(row, key, known) for key in self.keys} for row in self.data]
        for row, volumes in zip(self.data, self.volumes, strict=True):
            refuse_other_units(volumes[self.keys[0]], expects)
            for key, volume in volumes.items():
                own_plane = str(row.get(f"{key}_plane", ""))
                if own_plane and not str(row.get("plane", "")):
                    raise InputError(
                        volume.path, f"is given as plane {own_plane} of all planes: a column plane is due."
                    )
                _check_shape(volume, volumes[self.keys[0]], own_plane)
        self._planes = [
            _planes(row, volumes[self.keys[0]], step) for row, volumes in zip(self.data, self.volumes, strict=True)
        ]
        self._ends = list(accumulate(len(planes) for planes in self._planes))
        firsts = {id(volumes[self.keys[0]]): volumes[self.keys[0]] for volumes in self.volumes}
        counted = {key: volume_histogram(volume, progress=progress) for key, volume in firsts.items()}
        self._histograms = [counted[id(volumes[self.keys[0]])] for volumes in self.volumes]

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Any:
        if not 0 <= index < len(self):
            raise IndexError(f"plane {index} is not within {len(self)}.")
        row = bisect_right(self._ends, index)
        plane = self._planes[row][index - (self._ends[row - 1] if row else 0)]
        item = dict(self.data[row])
        for key, volume in self.volumes[row].items():
            own = str(item.get(f"{key}_plane", ""))
            number = int(own) if own else plane
            item[key] = volume.read(number, number + 1)
        item |= {"plane": plane, "histogram": self._histograms[row]}
        return item if self.transform is None else self.transform(item)


def _open(row: Mapping[Hashable, Any], key: str, known: dict[tuple[Any, ...], Volume]) -> Volume:
    if key not in row:
        raise InputError("manifest", f"has no column {key!r}, which this workflow needs.")
    value = row[key]
    if isinstance(value, Volume):
        return value
    if not value:
        raise InputError(str(row.get("image") or "manifest"), f"has an empty {key!r} in the manifest.")
    options = {"voxel_size_um": row.get("voxel_size_um") or None, "units": row.get("units") or None}
    where = (value, *options.values())
    if where not in known:
        known[where] = open_volume(value, **options)
    return known[where]


def _check_shape(volume: Volume, first: Volume, own_plane: str) -> None:
    axes = slice(1, None) if own_plane else slice(None)
    if volume.shape[axes] != first.shape[axes]:
        raise InputError(volume.path, f"has shape {volume.shape}, but {first.path} has {first.shape}.")
    if own_plane and not (own_plane.isdigit() and int(own_plane) < volume.shape[0]):
        raise InputError(volume.path, f"has no plane {own_plane!r}; its planes are 0 to {volume.shape[0] - 1}.")


def _planes(row: Mapping[Hashable, Any], volume: Volume, step: int) -> Sequence[int]:
    named = str(row.get("plane", "")).strip()
    if not named:
        return range(0, volume.shape[0], step)
    if not named.isdigit() or int(named) >= volume.shape[0]:
        raise InputError(volume.path, f"has no plane {named!r}; its planes are 0 to {volume.shape[0] - 1}.")
    return [int(named)]
