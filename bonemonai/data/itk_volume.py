"""NRRD and MetaImage files, read by ITK, with headers that must say what they mean."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own name
from numpy.typing import NDArray

from bonemonai.data.itk_header import ItkHeader, read_meta_header, read_nrrd_header
from bonemonai.data.volume import UM_PER_UNIT, Volume
from bonemonai.errors import InputError

_SPACING = ("spacings", "space directions", "elementspacing", "elementsize")


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
        header = read_nrrd_header(path) if kind == "nrrd" else read_meta_header(path)
        header.check_data()
        reader = _reader(path)
        reader.ReadImageInformation()
        dims, size, values = reader.GetDimension(), reader.GetSize(), reader.GetNumberOfComponents()
        if dims != 3 or values != 1:
            raise InputError(path, f"has size {size} and {values} values a voxel; a 3-D image is needed.")
        self._streams = kind == "meta" and not header.compressed
        self._whole: NDArray[Any] | None = None
        affine, warnings = _affine_lps(reader, header)
        space = header.fields.get("space", "").lower()
        self.oriented = "left" in space or "right" in space if kind == "nrrd" else "transformmatrix" in header.fields
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


def _affine_lps(reader: sitk.ImageFileReader, header: ItkHeader) -> tuple[NDArray[np.float64] | None, list[str]]:
    """The affine, or None where the header states no spacing, or no unit that is known."""
    fields = header.fields
    stated = next((name for name in _SPACING if name in fields), None)
    unit, warnings = _unit_um(fields)
    if stated is None or unit is None:
        return None, [*warnings, "voxel size is not stated; say --voxel-size-um."]
    if "nan" in fields[stated].lower() or "inf" in fields[stated].lower():
        raise InputError(header.path, f"states {stated} as {fields[stated]}.")
    spacing = np.array(reader.GetSpacing())
    direction = np.array(reader.GetDirection()).reshape(3, 3)
    affine = np.eye(4)
    affine[:3, :3] = (direction * spacing)[:, ::-1] * unit / 1000.0
    affine[:3, 3] = np.array(reader.GetOrigin()) * unit / 1000.0
    edges = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not abs(np.linalg.det(affine[:3, :3])) > 1e-6 * edges.prod() > 0:
        raise InputError(header.path, f"states a voxel size of {spacing.tolist()} along {direction.tolist()}.")
    return affine, warnings


def _unit_um(fields: dict[str, str]) -> tuple[float | None, list[str]]:
    """Micrometres a unit of length of the header; None where it states one that is not known."""
    stated = fields.get("space units", fields.get("units", ""))
    units = {unit for unit in re.findall(r'"([^"]*)"', stated) if unit}
    if "distanceunits" in fields:
        units = {fields["distanceunits"]}
    if not units:
        # MetaImage's own unit is mm
        taken = ["unit of length is not stated; taken as mm, the format's custom."] if "sizes" in fields else []
        return 1000.0, taken
    known = [UM_PER_UNIT.get(unit.lower()) for unit in units]
    if len(known) > 1 or known[0] is None:
        return None, [f"voxel size is stated in {', '.join(sorted(units))}, which is not known or not one unit."]
    return known[0], []
