"""HDF5 and NeXus files, as beamlines write them."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bonemonai.data.hdf5_probe import probe_hdf5
from bonemonai.data.volume import UM_PER_UNIT, Volume, scaling_affine_lps
from bonemonai.errors import InputError, SeveralVolumesError

_MOST_OBJECTS = 100_000
_SCALINGS = ("data_scaling_factor", "scaling_factor", "data_offset", "scale_factor", "add_offset")


class Hdf5Volume(Volume):
    """A 3-D dataset of an HDF5 file.

    Without a part, the signals of the file's NXdata groups are looked at, and all 3-D datasets where there are none;
    one of them is taken, of several one must be chosen. Voxel sizes come from NXdata's axes or ``element_size_um``.

    Args:
        path: a .h5, .hdf5, .hdf, .nxs or .nx file.
        part: path of a dataset in it, such as ``/entry/data/data``.

    Raises:
        InputError: if there is no such dataset, or parts of it were never written, which would read as fill values.
    """

    format = "HDF5"

    def __init__(self, path: Path, part: str = "") -> None:
        probe_hdf5(path)
        with _opened(path) as file:
            self.part = _chosen(file, path, part)
            dataset = file[self.part]
            if dataset.ndim < 3 or any(n != 1 for n in dataset.shape[:-3]):
                raise InputError(path, f"{self.part} has shape {dataset.shape}; one 3-D image is needed.")
            _check_written(dataset, path)
            size, warnings = _voxel_size_um(dataset, path)
            if _is_projections(file, self.part):
                warnings.append("NXtomo: these are projections by angle, not a reconstructed volume.")
            if dataset.chunks:
                self.planes_at_once = dataset.chunks[-3]
            super().__init__(
                path,
                shape=dataset.shape[-3:],
                dtype=dataset.dtype,
                affine_lps=scaling_affine_lps(size),
                warnings=warnings,
            )

    def _read(self, start: int, stop: int) -> NDArray[Any]:
        with _opened(self.path) as file:
            dataset = file[self.part]
            block: NDArray[Any] = dataset[(0,) * (dataset.ndim - 3) + (slice(start, stop),)]
            if dataset.chunks:
                _check_fill_values(dataset, start, block, self.path)
            return block


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        h5py = import_module("h5py")
        import_module("hdf5plugin")  # beamlines compress with more than zlib
    except ImportError:
        raise InputError(path, "is HDF5 and needs the extra nexus: pip install 'bonemonai[nexus]'.") from None
    with h5py.File(path, "r") as file:
        yield file


def _chosen(file: Any, path: Path, part: str) -> str:
    if part:
        if not hasattr(file.get(part), "ndim"):
            near = ", ".join(_volumes(file, path)) or "none"
            raise InputError(path, f"holds no dataset {part}; its 3-D datasets: {near}.")
        return part
    found = _signals(file, path) or _volumes(file, path)
    if not found:
        raise InputError(path, "holds no 3-D dataset.")
    if len(found) > 1:
        raise SeveralVolumesError(path, "choose one by its path, PATH::DATASET", found)
    return found[0]


def _objects(file: Any, path: Path) -> list[tuple[str, Any]]:
    """All groups and datasets, each once however it is linked."""
    found: list[tuple[str, Any]] = []

    def take(name: str, node: Any) -> None:
        found.append((f"/{name}", node))
        if len(found) > _MOST_OBJECTS:
            raise InputError(path, f"holds more than {_MOST_OBJECTS} objects; name the dataset, PATH::DATASET.")

    file.visititems(take)
    return found


def _is_volume(node: Any) -> bool:
    return hasattr(node, "ndim") and node.ndim >= 3 and node.dtype.kind in "uif" and min(node.shape[-3:]) > 1


def _volumes(file: Any, path: Path) -> list[str]:
    return [name for name, node in _objects(file, path) if _is_volume(node)]


def _signals(file: Any, path: Path) -> list[str]:
    """The 3-D signals of NXdata groups, without links to the same dataset."""
    found: dict[Any, str] = {}
    for name, node in _objects(file, path):
        if _text(node.attrs.get("NX_class")) != "NXdata":
            continue
        signal = _text(node.attrs.get("signal")) or "data"
        if signal in node and _is_volume(node[signal]):
            found.setdefault(node[signal].id, f"{name}/{signal}")
    return list(found.values())


def _is_projections(file: Any, part: str) -> bool:
    entry = file.get("/" + part.strip("/").split("/")[0])
    definition = entry.get("definition") if hasattr(entry, "get") else None
    return definition is not None and _text(definition[()]) == "NXtomo"


def _check_written(dataset: Any, path: Path) -> None:
    """Refuse a dataset of which a part was never written or lies in a file that is not there."""
    if dataset.is_virtual:
        _check_sources(dataset, path)
        return
    for name, offset, size in dataset.external or ():
        file = path.parent / _text(name)
        if not file.is_file() or file.stat().st_size < offset + size:
            raise InputError(path, f"{dataset.name} lacks values of {_text(name)}; they would read as fill values.")
    if dataset.external:
        return
    missing = _missing_chunks(dataset) if dataset.chunks else int(dataset.id.get_storage_size() < dataset.nbytes)
    if missing:
        raise InputError(path, f"{dataset.name} has {missing} chunk(s) never written, which read as fill values.")


def _check_sources(dataset: Any, path: Path) -> None:
    mapped = 0
    for source in dataset.virtual_sources():
        mapped += source.vspace.get_select_npoints()
        name = source.file_name
        if "%" in name or "%" in source.dset_name:
            raise InputError(path, f"{dataset.name} has sources by number ({name}), which are not checked.")
        if name != "." and not (path.parent / name).is_file():
            raise InputError(path, f"{dataset.name} lacks its source {name}; it would read as fill values.")
        with _opened(path if name == "." else path.parent / name) as file:
            if source.dset_name not in file:
                raise InputError(path, f"{dataset.name} lacks its source {source.dset_name} of {name}.")
            _check_written(file[source.dset_name], path)
    if mapped != dataset.size:
        raise InputError(path, f"{dataset.name} has sources for {mapped} of its {dataset.size} values.")


def _missing_chunks(dataset: Any) -> int:
    expected: int = math.prod(-(-n // c) for n, c in zip(dataset.shape, dataset.chunks, strict=True))
    stored: int = dataset.id.get_num_chunks()
    return max(0, expected - stored)


def _check_fill_values(dataset: Any, start: int, block: NDArray[Any], path: Path) -> None:
    """Refuse a chunk that reads as the fill value and is not where HDF5 looks for it: its index is damaged."""
    leading, sides = (0,) * (dataset.ndim - 3), dataset.chunks[-3:]
    planes = range(start - start % sides[0], start + len(block), sides[0])
    rows, columns = (range(0, n, side) for n, side in zip(dataset.shape[-2:], sides[1:], strict=True))
    for plane, row, column in itertools.product(planes, rows, columns):
        part = block[max(0, plane - start) : plane - start + sides[0], row : row + sides[1], column : column + sides[2]]
        if (part == dataset.fillvalue).all():
            try:
                dataset.id.read_direct_chunk((*leading, plane, row, column))
            except (OSError, RuntimeError, ValueError) as error:
                raise InputError(path, f"{dataset.name} has lost the chunk at plane {plane}, row {row}.") from error


def _voxel_size_um(dataset: Any, path: Path) -> tuple[list[float] | None, list[str]]:
    """Return (plane, row, column) in um and what is to be known."""
    scaling = [name for name in _SCALINGS if name in dataset.attrs or name in dataset.parent]
    if scaling:
        raise InputError(path, f"states {scaling[0]} for its values, which is not applied; write them scaled.")
    unknown = ["voxel size is not stated; say --voxel-size-um."]
    stated = dataset.attrs.get("element_size_um")
    if stated is not None:
        size = [float(edge) for edge in np.ravel(stated)[-3:]]
        return (size, []) if len(size) == 3 and _are_lengths(size) else (None, unknown)
    group = dataset.parent
    axes = [_text(name) for name in np.ravel(group.attrs.get("axes", []))][-3:]
    if len(axes) != 3 or any(name not in group for name in axes):
        return None, unknown
    size = []
    for name, length in zip(axes, dataset.shape[-3:], strict=True):
        positions = np.asarray(group[name][()], dtype=float).ravel()
        unit = UM_PER_UNIT.get(_text(group[name].attrs.get("units")).lower())
        steps = np.diff(positions)
        # centres, or edges
        fits = len(positions) in (length, length + 1) and len(steps) > 0
        if unit is None or not fits or not np.allclose(steps, steps[0], rtol=1e-3, atol=0):
            return None, unknown
        if steps[0] < 0:
            raise InputError(
                path, f"has an axis {name} that runs backwards; its image would be mirrored. Turn it round."
            )
        size.append(abs(float(steps.mean())) * unit)
    return (size, []) if _are_lengths(size) else (None, unknown)


def _are_lengths(size: Sequence[float]) -> bool:
    return all(math.isfinite(edge) and edge > 0 for edge in size)


def _text(value: Any) -> str:
    value = value.item() if isinstance(value, np.ndarray) and value.size == 1 else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")
