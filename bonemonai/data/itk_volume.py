"""NRRD and MetaImage files, read by ITK, with headers that must say what they mean."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name
from numpy.typing import NDArray

from bonemonai.data.volume import UM_PER_UNIT, Volume
from bonemonai.errors import InputError

_HEADER_BYTES = 65536
_SPACING = {"nrrd": r"^(spacings|space directions)\s*:", "meta": r"^(ElementSpacing|ElementSize)\s*="}
_DATA_FILE = {"nrrd": r"^data ?file\s*:\s*(.+)$", "meta": r"^ElementDataFile\s*=\s*(.+)$"}


class ItkVolume(Volume):
    """A .nrrd, .nhdr, .mha or .mhd image.

    ITK takes a header without spacing for 1 mm; here its voxel size is unknown. Uncompressed MetaImages are read plane
    by plane; the others come whole at the first read, and are held in memory.

    Args:
        path: the file, or the header beside its data.

    Raises:
        InputError: if the image is not 3-D with one value a voxel, or its data lie elsewhere or are cut short.
    """

    def __init__(self, path: Path) -> None:
        kind = "nrrd" if path.suffix.lower() in (".nrrd", ".nhdr") else "meta"
        self.format = "NRRD" if kind == "nrrd" else "MetaImage"
        header = _header(path, kind)
        _check_data_file(header, kind, path)
        reader = _reader(path)
        reader.ReadImageInformation()
        dims, size = reader.GetDimension(), reader.GetSize()
        if dims != 3 or reader.GetNumberOfComponents() != 1:
            raise InputError(
                path, f"has size {size} and {reader.GetNumberOfComponents()} values a voxel; a 3-D image is needed."
            )
        self._streams = kind == "meta" and not re.search(r"^CompressedData\s*=\s*True", header, re.M | re.I)
        self._whole: NDArray[Any] | None = None
        if self._streams:
            # ITK reads what is left of a file that was cut short
            _check_length(path, header, size)
        if kind == "nrrd":
            _check_encoding(path, header)
        affine, warnings = _affine_lps(reader, header, kind, path)
        dtype = sitk.GetArrayFromImage(sitk.Image([1, 1, 1], reader.GetPixelID())).dtype
        super().__init__(path, shape=size[::-1], dtype=dtype, affine_lps=affine, warnings=warnings)

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        if self._streams:
            reader = _reader(self.path)
            reader.ReadImageInformation()
            columns, rows, _ = reader.GetSize()
            reader.SetExtractIndex([0, 0, start])
            reader.SetExtractSize([columns, rows, stop - start])
            return np.asarray(sitk.GetArrayFromImage(reader.Execute()))
        if self._whole is None:
            self._whole = sitk.GetArrayFromImage(_reader(self.path).Execute())
        return self._whole[start:stop]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_whole": None}


def _reader(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    return reader


def _header(path: Path, kind: str) -> str:
    with open(path, "rb") as stream:
        content = stream.read(_HEADER_BYTES)
    if kind == "nrrd":
        if not content.startswith(b"NRRD000"):
            raise InputError(path, "is no NRRD file.")
        content = re.split(rb"\r?\n\r?\n", content, maxsplit=1)[0]
    else:
        match = re.search(rb"^ElementDataFile\s*=.*$", content, re.M)
        if match is None:
            raise InputError(path, "is no MetaImage: its header names no ElementDataFile.")
        content = content[: match.end()]
    return content.decode("latin-1")


def _check_data_file(header: str, kind: str, path: Path) -> None:
    """Data beside the header, under a name of their own; nothing else is opened."""
    named = re.search(_DATA_FILE[kind], header, re.M | re.I)
    name = named.group(1).strip() if named else "LOCAL"
    if name.upper() == "LOCAL":
        return
    if name.upper().startswith("LIST") or "%" in name:
        raise InputError(path, "spreads its data over several files; join them first.")
    if Path(name).name != name or "\\" in name:
        raise InputError(path, f"names data elsewhere ({name}); they must lie beside the header.")
    if not (path.parent / name).is_file():
        raise InputError(path, f"lacks its data file {name}.")


def _check_length(path: Path, header: str, size: tuple[int, ...]) -> None:
    fields = {k.strip().lower(): v.strip() for k, _, v in (line.partition("=") for line in header.splitlines())}
    width = {"char": 1, "short": 2, "int": 4, "long": 4, "long_long": 8, "float": 4, "double": 8}
    kind = fields.get("elementtype", "").lower().removeprefix("met_")
    if kind.removeprefix("u") not in width:
        raise InputError(path, f"has ElementType {fields.get('elementtype')}, which is not supported.")
    needed = int(np.prod(size, dtype=np.int64)) * width[kind.removeprefix("u")]
    name = fields["elementdatafile"]
    if name.upper() == "LOCAL":
        # the values follow the header's last line
        begins = len(header.encode("latin-1")) + 1
        length = path.stat().st_size - begins
    else:
        length = (path.parent / name).stat().st_size - max(0, int(fields.get("headersize", 0)))
    if length < needed or (length > needed + 1 and fields.get("headersize", "0") != "-1"):
        raise InputError(path, f"holds {length} bytes of values; its header says {needed}.")


def _check_encoding(path: Path, header: str) -> None:
    """Read a compressed NRRD to its end, where its checksum is; ITK stops at the last value."""
    encoding = re.search(r"^encoding\s*:\s*(\S+)", header, re.M | re.I)
    name = encoding.group(1).lower() if encoding else ""
    if name == "raw":
        return
    if name not in ("gz", "gzip"):
        raise InputError(path, f"has encoding {name or 'none'}; raw and gzip are read.")
    beside = re.search(_DATA_FILE["nrrd"], header, re.M | re.I)
    data = path.parent / beside.group(1).strip() if beside else path
    with open(data, "rb") as stream:
        if beside is None:
            content = stream.read(_HEADER_BYTES)
            end = re.search(rb"\r?\n\r?\n", content)
            stream.seek(end.end() if end else 0)
        with gzip.GzipFile(fileobj=stream) as unpacked:
            while unpacked.read(1 << 20):
                pass


def _affine_lps(
    reader: sitk.ImageFileReader, header: str, kind: str, path: Path
) -> tuple[NDArray[np.float64] | None, list[str]]:
    if not re.search(_SPACING[kind], header, re.M | re.I):
        return None, ["voxel size is not stated; say --voxel-size-um."]
    spacing = np.array(reader.GetSpacing())
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    unit, warnings = _unit_um(header, kind)
    affine = np.eye(4)
    affine[:3, :3] = (direction * spacing)[:, ::-1] * unit / 1000.0
    affine[:3, 3] = np.array(reader.GetOrigin()) * unit / 1000.0
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * edges.prod() > 0:
        raise InputError(path, f"states a voxel size of {spacing.tolist()} along {direction.tolist()}.")
    return affine, warnings


def _unit_um(header: str, kind: str) -> tuple[float, list[str]]:
    """Micrometres a unit of length of the header."""
    if kind == "meta":
        return 1000.0, []
    stated = re.search(r"^(space units|units)\s*:\s*(.+)$", header, re.M | re.I)
    units = set(re.findall(r'"([^"]*)"', stated.group(2))) - {""} if stated else set()
    if len(units) == 1 and (unit := units.pop().lower()) in UM_PER_UNIT:
        return UM_PER_UNIT[unit], []
    return 1000.0, ["unit of length is not stated; taken as mm, the format's custom."]
