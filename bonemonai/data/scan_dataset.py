"""The scans an inference is to go through: one, or those of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from bonemonai.data.manifest import distinct, manifest_items, read_manifest
from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.data.selected_planes import SelectedPlanes
from bonemonai.data.units import refuse_other_units
from bonemonai.data.volume import Volume, open_volume
from bonemonai.errors import InputError

Transform = Callable[[dict[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Scan:
    """A scan that is not opened yet, so that a bad one is met when its turn comes.

    Attributes:
        name: of the folder its results go to; empty where there is one scan only. No patient's name: results travel.
        path: file or folder.
        voxel_size_um: where the files do not state it.
        transform: of its planes.
        image_key: entry of the transform's output that the network gets.
        units: of the values, where the files do not state them.
        expects: units that the workflow was made for; None takes any.
        planes: numbers of the planes that are meant; all where there are none.
        rows: of the manifest that name it.
        view: makes of the volume the one that is inferred, such as an up-sampled one.
    """

    name: str
    path: Path
    voxel_size_um: Any = None
    transform: Transform | None = None
    image_key: str = "image"
    units: str | None = None
    expects: Sequence[str] | None = None
    planes: tuple[int, ...] = ()
    rows: tuple[int, ...] = ()
    view: Callable[[Volume], Volume] | None = None

    def open(self) -> PreparedVolume:
        """Open it.

        Raises:
            InputError: if it cannot be read, or its values are in other units than the workflow was made for.
        """
        volume = open_volume(self.path, voxel_size_um=self.voxel_size_um or None, units=self.units or None)
        refuse_other_units(volume, self.expects)
        seen = volume if self.view is None else self.view(volume)
        chosen = SelectedPlanes(seen, self.planes) if self.planes else seen
        return PreparedVolume(chosen, self.transform, self.image_key)


class ScanDataset(Dataset[Scan]):
    """One scan, or all scans of a manifest.

    Args:
        path: a scan, or a manifest (.csv) with a column ``image`` and, optionally, ``voxel_size_um`` and ``plane``: of
            a scan whose rows name planes, only these are meant.
        transform: of each plane, see :class:`PreparedVolume`.
        voxel_size_um: of scans that do not state it; a manifest's column goes first.
        split: use this split of the manifest only.
        image_key: entry the network gets, and column of the manifest.
        units: of the values, "HU", "mg HA/cm3" or "raw", where the files do not state them; a manifest's column
            ``units`` goes first.
        expects: units that the workflow was made for; None takes any.
        unlabelled: leave out the rows of a manifest that have a label.
        view: see :class:`Scan`.

    Raises:
        InputError: if the manifest cannot be read or no row is left.

    Example:
        >>> [scan.name for scan in ScanDataset("scan.tif")]
        ['']
    """

    def __init__(
        self,
        path: str | Path,
        transform: Transform | None = None,
        *,
        voxel_size_um: float | Sequence[float] | None = None,
        split: str | None = None,
        image_key: str = "image",
        units: str | None = None,
        expects: Sequence[str] | None = None,
        unlabelled: bool = False,
        view: Callable[[Volume], Volume] | None = None,
    ) -> None:
        path = Path(path)
        self.is_batch = path.suffix.lower() == ".csv"
        if not self.is_batch:
            self.scans = [Scan("", path, voxel_size_um, transform, image_key, units, expects, view=view)]
            return
        manifest = read_manifest(path)
        rows = {index: row for index, row in enumerate(manifest_items(manifest)) if split in (None, row.get("split"))}
        if unlabelled:
            rows = {index: row for index, row in rows.items() if not row.get("label")}
        if not rows:
            raise InputError(path, f"no {'unlabelled ' if unlabelled else ''}row of split {split!r}.")
        if image_key not in manifest:
            raise InputError(path, f"has no column {image_key!r}.")
        self.scans = []
        for image in distinct([row[image_key] for row in rows.values()]):
            own = {index: row for index, row in rows.items() if row[image_key] == image}
            planes, numbers = _planes(path, own)
            row = rows[min(numbers)]
            self.scans.append(
                Scan(f"scan_{min(numbers):04d}", Path(image), row.get("voxel_size_um") or voxel_size_um, transform,
                     image_key, row.get("units") or units, expects, planes, numbers, view)
            )  # fmt: skip

    def __len__(self) -> int:
        return len(self.scans)

    def __getitem__(self, index: int) -> Scan:
        return self.scans[index]


def _planes(manifest: Path, rows: Mapping[int, Mapping[Hashable, Any]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The planes that rows of one scan name, in order, and the rows in the same order."""
    named = {index: str(row.get("plane", "")) for index, row in rows.items()}
    if not any(named.values()):
        return (), tuple(rows)
    wrong = [plane for plane in named.values() if not plane.isdigit()]
    if wrong:
        raise InputError(manifest, f"names a plane {wrong[0]!r}; a number is due in every row of the scan, or in none.")
    numbers = sorted(rows, key=lambda index: int(named[index]))
    return tuple(int(named[index]) for index in numbers), tuple(numbers)
