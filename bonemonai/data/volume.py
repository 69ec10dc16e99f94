"""One interface to a scan on disk, whatever its format: read headers now, planes when asked."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from bonemonai.data.units import Units, set_units
from bonemonai.errors import InputError

TIFF_SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
NIFTI_SUFFIXES = (".nii", ".nii.gz")
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
UM_PER_UNIT = {
    "nm": 1e-3, "nanometer": 1e-3, "nanometers": 1e-3, "nanometre": 1e-3,
    "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0, "micron": 1.0, "microns": 1.0, "micrometer": 1.0,
    "micrometers": 1.0, "micrometre": 1.0, "micrometres": 1.0,
    "mm": 1e3, "millimeter": 1e3, "millimeters": 1e3, "millimetre": 1e3, "millimetres": 1e3,
    "cm": 1e4, "centimeter": 1e4,
    "m": 1e6, "meter": 1e6, "meters": 1e6, "metre": 1e6, "metres": 1e6,
}  # fmt: skip
ZARR_MARKERS = ("zarr.json", ".zarray", ".zgroup")
_PARTED = ("DICOM", "HDF5", "Zarr")  # formats of several volumes a path
_SUFFIXES = (
    ("TIFF", TIFF_SUFFIXES),
    ("NIfTI", NIFTI_SUFFIXES),
    ("Scanco AIM", (".aim",)),
    ("Scanco ISQ", (".isq",)),
    ("HDF5", (".h5", ".hdf5", ".hdf", ".nxs", ".nx")),
    ("NRRD, MetaImage", (".nrrd", ".nhdr", ".mha", ".mhd")),
)
FILE_SUFFIXES = tuple(suffix for kind, suffixes in _SUFFIXES for suffix in suffixes if kind != "TIFF")
_ENOUGH = 32e6  # bytes of a read
_FORMATS = {  # to module and class
    "DICOM": ("dicom_volume", "DicomVolume"),
    "HDF5": ("hdf5_volume", "Hdf5Volume"),
    "NIfTI": ("nifti_volume", "NiftiVolume"),
    "NRRD, MetaImage": ("itk_volume", "ItkVolume"),
    "Scanco AIM": ("scanco_volume", "AimVolume"),
    "Scanco ISQ": ("scanco_volume", "IsqVolume"),
    "TIFF": ("tiff_volume", "TiffFileVolume"),
    "TIFF folder": ("tiff_volume", "TiffFolderVolume"),
    "Zarr": ("zarr_volume", "ZarrVolume"),
}


class Volume(ABC):
    """A 3-D scan whose planes are read on demand.

    Array axes are (plane, row, column) in every format. Opening reads headers only; a volume may be larger
    than memory, and it can be pickled (no file stays open between reads).

    Args:
        path: the file or folder.
        shape: (planes, rows, columns).
        dtype: of the values that :meth:`read` returns.
        affine_lps: 4 x 4 float64, from array index (plane, row, column) to millimetres in DICOM's and ITK's
            axes (x to the Left, y to the Posterior, z to the Superior); None where the voxel size is unknown.
        warnings: what a careful user should know: assumptions made, files ignored.

    Attributes:
        part: which of several volumes of the path this is: a DICOM series, an array of an HDF5 file.
        units: of the values: "HU", "mg HA/cm3", or "raw" where the file states none.
    """

    format: str
    costly_planes: bool = False  # each takes a file to open, or a codec; a look at a volume then samples few
    oriented: bool = False  # whether the file says where left, posterior and superior are
    part: str = ""
    units: Units = "raw"
    planes_at_once: int = 1  # planes that lie together on disk; reads of whole multiples decode nothing twice

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, int, int],
        dtype: DTypeLike,
        affine_lps: NDArray[np.float64] | None,
        warnings: Sequence[str] = (),
    ) -> None:
        self.path = path
        self.shape = shape
        self.dtype: np.dtype[Any] = np.dtype(dtype).newbyteorder("=")
        self.affine_lps = affine_lps
        self.warnings = list(warnings)
        if min(shape) < 1:
            raise InputError(path, f"is empty: its shape is {shape}.")
        if self.dtype.kind not in "uif":
            raise InputError(path, f"holds {self.dtype} values; integers or floats are needed.")

    @property
    def voxel_size_um(self) -> tuple[float, float, float] | None:
        """Edge lengths of a voxel along (plane, row, column) in micrometres, or None where unknown.

        The first is the distance of planes at right angles to them, also where a gantry was tilted.
        """
        if self.affine_lps is None:
            return None
        step, row, column = self.affine_lps[:3, :3].T * 1000.0
        across = np.cross(row, column)
        lengths = [abs(step @ across) / np.linalg.norm(across), np.linalg.norm(row), np.linalg.norm(column)]
        # ten digits: what is left of 1.6 um after its way through millimetres is 1.6 again
        plane, row, column = (float(f"{length:.10g}") for length in lengths)
        return plane, row, column

    @property
    def whole(self) -> Volume:
        """The scan whose grey values count; another one where this is a part of it."""
        return self

    @property
    def plane_numbers(self) -> Sequence[int]:
        """Number in the :attr:`whole` scan of each plane."""
        return range(self.shape[0])

    @property
    def source(self) -> str:
        """What :func:`open_volume` finds this volume by."""
        return f"{self.path}::{self.part}" if self.part else str(self.path)

    @property
    def affine_ras(self) -> NDArray[np.float64] | None:
        """The affine in NIfTI's and MONAI's axes (x to the Right, y to the Anterior), or None where unknown."""
        if self.affine_lps is None:
            return None
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.affine_lps

    @abstractmethod
    def _read(self, start: int, stop: int) -> NDArray[Any]:
        """Read planes start to stop - 1; the bounds are valid."""

    def read(self, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read a block of consecutive planes.

        Args:
            start: first plane.
            stop: one past the last plane; None reads to the end.

        Returns:
            (stop - start, rows, columns) in :attr:`dtype`, native byte order, owned by the caller.

        Raises:
            IndexError: if the block is not within the volume.
            InputError: if a plane cannot be read, naming the file.
        """
        stop = self.shape[0] if stop is None else stop
        if not 0 <= start < stop <= self.shape[0]:
            raise IndexError(f"planes [{start}, {stop}) are not within the {self.shape[0]} planes of {self.path}.")
        try:
            block = self._read(start, stop)
        except InputError:
            raise
        except Exception as error:
            # whatever a codec or parser raises on a broken file is about that file
            raise InputError(self.path, f"planes {start} to {stop - 1} cannot be read: {error}") from error
        found = (block.shape, block.dtype.newbyteorder("="))
        if found != ((stop - start, *self.shape[1:]), self.dtype):
            raise InputError(self.path, f"planes {start} to {stop - 1} came back as {found[0]} {found[1]}.")
        return np.require(block, dtype=self.dtype, requirements=["C", "O", "W"])

    def blocks(self, planes: int) -> Iterator[tuple[int, NDArray[Any]]]:
        """Yield (first plane, block) over the whole volume, ``planes`` at a time.

        Args:
            planes: planes a block, at least 1; the last block may be shorter. :meth:`planes_within` says how many.
        """
        for slab in self.slabs(planes):
            yield slab.start, self.read(slab.start, slab.stop)

    def slabs(self, together: int, planes: slice = slice(None)) -> Iterator[slice]:
        """Cut planes into reads; fewer planes than lie together on disk never cross a border between those.

        Args:
            together: planes of a read.
            planes: to be cut.
        """
        unit = max(together, self.planes_at_once)
        start, end, _ = planes.indices(self.shape[0])
        while start < end:
            stop = min(start + together, (start // unit + 1) * unit, end)
            yield slice(start, stop)
            start = stop

    def planes_within(self, memory: float) -> int:
        """How many planes to read together: whole multiples of :attr:`planes_at_once` decode nothing twice.

        Args:
            memory: bytes that they may take, decoded; a single plane is read whatever it takes. No more than 32 MB
                are asked for where fewer decode nothing twice either.
        """
        at_once = min(self.planes_at_once, self.shape[0])
        fitting = max(1, int(memory // (self.shape[1] * self.shape[2] * self.dtype.itemsize)))
        if fitting >= at_once:
            enough = int(min(memory, _ENOUGH) // (self.shape[1] * self.shape[2] * self.dtype.itemsize * at_once))
            return max(1, enough) * at_once
        # equal parts: each decodes all that lies together once more
        return -(-at_once // -(-at_once // fitting))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, shape={self.shape}, dtype={self.dtype})"


def scaling_affine_lps(
    voxel_size_um: Sequence[float] | None, origin_mm: Sequence[float] = (0.0, 0.0, 0.0)
) -> NDArray[np.float64] | None:
    """Make the affine of a stack that states a voxel size but no orientation.

    Columns run along +x, rows along +y, planes along +z, as ITK takes them.

    Args:
        voxel_size_um: along (plane, row, column); None gives None.
        origin_mm: (x, y, z) of the centre of voxel (0, 0, 0).

    Example:
        >>> scaling_affine_lps((2, 1, 1))[:3, :3] @ [1, 0, 0]
        array([0.   , 0.   , 0.002])
    """
    if voxel_size_um is None:
        return None
    affine = np.eye(4)
    affine[:3, :3] = np.fliplr(np.diag(np.asarray(voxel_size_um, dtype=float)[::-1] / 1000.0))
    affine[:3, 3] = origin_mm
    return affine


def open_volume(
    path: str | Path,
    *,
    voxel_size_um: float | str | Sequence[float] | None = None,
    units: str | None = None,
) -> Volume:
    """Open a scan: DICOM, TIFF, OME-Zarr or Zarr, NIfTI, NRRD, MetaImage, Scanco AIM or ISQ, HDF5 or NeXus.

    Args:
        path: the file or folder. Where it holds several volumes, ``path::part`` names one: ``folder::1.2.840.1`` a
            DICOM series by its SeriesInstanceUID, ``scan.nxs::/entry/data/data`` a dataset, ``a.zarr::raw`` an array.
        voxel_size_um: edge length in micrometres, one number or (plane, row, column), for files that do not
            state it. It also overrules what a file states; the overruling is put into the volume's warnings.
        units: "HU", "mg HA/cm3" or "raw", for files that do not state what their values mean.

    Raises:
        InputError: if the path does not exist or cannot be used, naming the file and the cause.
    """
    path, part = split_part(path)
    try:
        usable = path.is_file() or path.is_dir()
    except OSError as error:  # a name too long, say
        raise InputError(path, f"cannot be opened: {error.strerror}.") from error
    if not usable:
        raise InputError(path, "no such file or folder.")
    try:
        kind = _format(path)
        if part and kind not in _PARTED:
            raise InputError(path, f"is {kind} and holds one volume; it has no part {part!r}.")
        # one module a format, imported when it is needed: zarr alone takes 0.4 s to import
        module, cls = _FORMATS[kind]
        volume: Volume = getattr(import_module(f"bonemonai.data.{module}"), cls)(path, *([part] if part else []))
    except (InputError, ImportError):
        raise
    except Exception as error:
        raise InputError(path, f"cannot be opened: {error}") from error
    if voxel_size_um is not None:
        _overrule_voxel_size(volume, voxel_size_um)
    if units is not None:
        set_units(volume, units)
    return volume


def split_part(path: str | Path) -> tuple[Path, str]:
    """Take ``path::part`` apart; a path without a part gives an empty one.

    Example:
        >>> split_part("scans/17::1.2.840.1")[1]
        '1.2.840.1'
    """
    name, _, part = str(path).partition("::")
    return Path(name), part


def _format(path: Path) -> str:
    # Scanco's systems number versions: C0001234.ISQ;1
    name = re.sub(r";\d+$", "", path.name.lower())
    if path.is_dir():
        if any((path / marker).exists() for marker in ZARR_MARKERS):
            return "Zarr"
        return _folder_format(path)
    for kind, suffixes in _SUFFIXES:
        if name.endswith(suffixes):
            return kind
    if name.endswith(DICOM_SUFFIXES) or begins_like_dicom(path):
        return "DICOM"
    known = ", ".join(suffix for _, suffixes in _SUFFIXES for suffix in suffixes)
    raise InputError(path, f"is not a format that can be read: DICOM or TIFF folders, .zarr, .dcm, {known}.")


def _folder_format(folder: Path) -> str:
    """A folder of TIFF planes, or one of DICOM files; never one of both, of which one would be overlooked."""
    files = [entry for entry in folder.iterdir() if entry.is_file() and not entry.name.startswith(".")]
    tiffs = [file for file in files if file.name.lower().endswith(TIFF_SUFFIXES)]
    if not tiffs:
        return "DICOM"
    odd = next((file for file in sorted(set(files) - set(tiffs)) if begins_like_dicom(file)), None)
    if odd is not None:
        raise InputError(odd, "is DICOM in a folder of TIFF files; give a folder of one kind.")
    return "TIFF folder"


def refuse_dangling_links(entries: Sequence[Path]) -> None:
    """Refuse a link to a file that is not there: a slice that was not fetched, as of git-annex, would not be missed.

    Args:
        entries: of a folder.

    Raises:
        InputError: naming the link.
    """
    for entry in entries:
        if entry.is_symlink() and not entry.exists():
            raise InputError(entry, "is a link to a file that is not there; fetch it first.")


def begins_like_dicom(path: Path) -> bool:
    """Whether a file has the mark of a DICOM file; older ones lack it."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _overrule_voxel_size(volume: Volume, voxel_size_um: float | str | Sequence[float]) -> None:
    try:
        size = np.broadcast_to(np.asarray(voxel_size_um, dtype=float), (3,))
    except ValueError:
        size = np.zeros(3)
    if not ((size >= 1e-4) & (size <= 1e5)).all():
        raise InputError(
            "voxel_size_um", f"must be one number or three, 1e-4 to 1e5 (micrometres), got {voxel_size_um}."
        )
    stated = volume.voxel_size_um
    if stated is None or volume.affine_lps is None:
        volume.affine_lps = scaling_affine_lps([float(edge) for edge in size])
        volume.warnings = [line for line in volume.warnings if "voxel size" not in line]
    elif not np.allclose(stated, size, rtol=1e-6, atol=0):
        volume.affine_lps = volume.affine_lps @ np.diag([*(size / np.asarray(stated)), 1.0])
        volume.warnings.append(f"voxel size {tuple(size.tolist())} um as given overrules {stated} um in the file.")
