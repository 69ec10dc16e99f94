"""Results get their names when all of them are complete: at once, or, after a kill, by whoever comes next."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bonemonai.data.json_file import read_json, write_json
from bonemonai.data.nifti_writer import NiftiWriter
from bonemonai.data.ome_zarr_store import OmeZarrStore
from bonemonai.data.stack_writer import StackWriter
from bonemonai.data.tiff_stack_writer import TiffStackWriter
from bonemonai.data.volume import Volume, open_volume

_COPY_BYTES = 64e6  # of a result that are held while it is copied


class Publication:
    """Moves complete results from a run's hidden folder to where users look for them.

    ``publishing.json`` in the hidden folder is the point of no return: once it is there, the results are complete, and
    :meth:`complete` gives them their names however often it is interrupted. ``run.json`` beside the results, which
    is written last, says how they came about.

    Args:
        output_dir: where users look.
        work_dir: the hidden folder.
    """

    def __init__(self, output_dir: Path, work_dir: Path) -> None:
        self.output_dir, self.work_dir = output_dir, work_dir

    @property
    def _announced(self) -> Path:
        return self.work_dir / "publishing.json"

    @property
    def _copies(self) -> Path:
        return self.work_dir / "copies"

    def record(self) -> dict[str, Any] | None:
        """What ``run.json`` says; None if nothing has been published."""
        return read_json(self.output_dir / "run.json")

    def announce(self, about: Mapping[str, Any], names: Sequence[str]) -> None:
        """Say that everything is complete, and give it its names.

        Args:
            about: how the results came about; JSON values.
            names: of all that is published.
        """
        write_json(self._announced, {**about, "files": list(names)})
        self.complete()

    def complete(self) -> None:
        """Give results their names, all of them, if they have been announced."""
        record = read_json(self._announced)
        if record is None:
            return
        earlier = (self.record() or {}).get("files", [])
        replaced = self.work_dir / "replaced"
        replaced.mkdir(exist_ok=True)
        for name in record["files"]:
            source = next((f for f in (self.work_dir / name, self._copies / name) if f.exists()), None)
            if source is not None:
                final = self.output_dir / name
                if final.exists():
                    _remove(replaced / name)
                    final.rename(replaced / name)
                source.rename(final)
        for name in set(earlier) - set(record["files"]):
            _remove(self.output_dir / name)
        write_json(self.output_dir / "run.json", record)
        self._announced.unlink()
        shutil.rmtree(replaced)
        self.drop_copies()

    def is_whole(self) -> bool:
        """Whether all that was published is there, metadata included."""
        for name in (self.record() or {}).get("files", []):
            path = self.output_dir / name
            if not path.exists():
                return False
            if name.endswith(".zarr") and "ome" not in ((read_json(path / "zarr.json") or {}).get("attributes") or {}):
                return False
        return True

    def take_back(self, names: Sequence[str]) -> None:
        """Move results to where blocks can be written again; without a record they are not finished."""
        for name in names:
            if (self.output_dir / name).is_dir():
                (self.output_dir / name).rename(self.work_dir / name)
        (self.output_dir / "run.json").unlink(missing_ok=True)

    def copy(self, array: OmeZarrStore, also: str, scan: Volume) -> None:
        """Make a complete result's copy in another format, to be published with it.

        Args:
            array: the result.
            also: "tiff" or "nifti".
            scan: gives voxel size and place.
        """
        volume = open_volume(array.path)
        # neither format has float16, and ImageJ's TIFF no int16
        narrow = volume.dtype in (np.dtype(np.float16), np.dtype(np.int16))
        dtype = np.dtype(np.float32) if narrow else volume.dtype
        common: dict[str, Any] = {"shape": volume.shape, "dtype": dtype, "voxel_size_um": scan.voxel_size_um}
        path = self._copies / copied_name(array.path.name, also)
        writer: StackWriter
        if also == "nifti":
            writer = NiftiWriter(path, **common, affine_lps=scan.affine_lps, overwrite=True)
        else:
            writer = TiffStackWriter(path, **common, overwrite=True)
        with writer:
            for _, block in volume.blocks(volume.planes_within(_COPY_BYTES)):
                writer.write(block.astype(dtype))

    def drop_copies(self) -> None:
        """Remove copies that were not published."""
        shutil.rmtree(self._copies, ignore_errors=True)


def copied_name(name: str, also: str) -> str:
    """Name of a result's copy in another format."""
    return name.removesuffix(".ome.zarr") + (".nii" if also == "nifti" else "")


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
