from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.errors import InputError, SeveralVolumesError
from tests.contracts import VolumeContract

ARRAY = np.arange(5 * 7 * 11, dtype=np.uint16).reshape(5, 7, 11)


def write(
    path: Path, array: NDArray[Any], *, name: str = "/entry/data/data", size: bool = True, **options: Any
) -> Path:
    with h5py.File(path, "a") as file:
        dataset = file.create_dataset(name, data=array, **options)
        if size:
            dataset.attrs["element_size_um"] = (2.0, 1.5, 1.25)
    return path


class TestHdf5(VolumeContract):
    dtypes = ("uint8", "uint16", "int16", "float32", "float16", "float64")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write(folder / "scan.h5", array)


class TestChunkedNexus(VolumeContract):
    """Compressed, with a leading axis of one, sizes from NXdata's axes."""

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        path = write(folder / "scan.nxs", array[None], size=False, chunks=(1, 2, 4, 4), compression="gzip")
        with h5py.File(path, "a") as file:
            group = file["/entry/data"]
            group.attrs.update({"NX_class": "NXdata", "signal": "data", "axes": [".", "z", "y", "x"]})
            for axis, n, step in zip("zyx", array.shape, (2.0, 1.5, 1.25), strict=True):
                group[axis] = np.arange(n) * step / 1000 + 7
                group[axis].attrs["units"] = "mm"
            # the link that NeXus files have to what the instrument wrote
            file["/entry/instrument/detector/data"] = group["data"]
        return path


def test_several_datasets_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    path = write(write(tmp_path / "a.h5", ARRAY, name="raw/ct"), ARRAY + 1, name="seg/ct")
    write(path, np.arange(4), name="angles", size=False)
    with pytest.raises(SeveralVolumesError) as refusal:
        open_volume(path)
    assert refusal.value.choices == ["/raw/ct", "/seg/ct"]
    volume = open_volume(f"{path}::/seg/ct")
    np.testing.assert_array_equal(volume.read(), ARRAY + 1)
    assert (volume.part, volume.path) == ("/seg/ct", path)
    with pytest.raises(InputError, match=r"holds no dataset /raw; its 3-D datasets: /raw/ct, /seg/ct"):
        open_volume(f"{path}::/raw")


def test_nxtomo_is_found_and_said_to_be_projections(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs", ARRAY, size=False)
    with h5py.File(path, "a") as file:
        file["/entry/definition"] = "NXtomo"
        file["/entry/data"].attrs["NX_class"] = "NXdata"
    volume = open_volume(path)
    np.testing.assert_array_equal(volume.read(), ARRAY)
    assert "NXtomo: these are projections by angle, not a reconstructed volume." in volume.warnings
    assert volume.voxel_size_um is None


@pytest.mark.parametrize("chunks", [None, (1, 7, 11)])
def test_what_was_never_written_is_no_zero(chunks: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("ct", (5, 7, 11), "u2", chunks=chunks)
        if chunks:
            dataset[:4] = 1
    with pytest.raises(InputError, match=r"/ct has 1 chunk\(s\) never written"):
        open_volume(tmp_path / "a.h5")


def test_virtual_dataset_without_its_source(tmp_path: Path) -> None:
    source = write(tmp_path / "source.h5", ARRAY, name="ct")
    layout = h5py.VirtualLayout((5, 7, 11), "u2")
    layout[:] = h5py.VirtualSource("source.h5", "ct", (5, 7, 11))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("ct", layout)
    np.testing.assert_array_equal(open_volume(tmp_path / "a.h5").read(), ARRAY)
    source.unlink()
    with pytest.raises(InputError, match=r"lacks its source source\.h5"):
        open_volume(tmp_path / "a.h5")


@pytest.mark.parametrize(
    ("positions", "units"), [((0, 1, 2, 3, 5), "mm"), ((0, 1, 2, 3, 4), "furlong"), ((0, 0, 0, 0, 0), "mm")]
)
def test_uneven_or_unknown_axes_give_no_voxel_size(positions: Any, units: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs", np.zeros((5, 5, 5), np.uint8), size=False)
    with h5py.File(path, "a") as file:
        file["/entry/data"].attrs["axes"] = ["z", "z", "z"]
        file["/entry/data/z"] = positions
        file["/entry/data/z"].attrs["units"] = units
    assert open_volume(path).voxel_size_um is None


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", bytes(range(256)) * 9])
def test_what_is_no_hdf5(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5: cannot be opened"):
        open_volume(tmp_path / "a.h5")


def test_truncated(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", np.zeros((50, 70, 11)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(InputError):
        open_volume(path).read()


def test_complex_numbers_and_records_are_no_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", np.zeros((5, 5, 5), np.complex64), name="ct")
    with pytest.raises(InputError, match="holds no 3-D dataset"):
        open_volume(path)
    with pytest.raises(InputError, match="integers or floats are needed"):
        open_volume(f"{path}::/ct")


def test_without_the_extra_one_line_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.h5", ARRAY)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(InputError, match=r"pip install 'bonemonai\[nexus\]'"):
        open_volume(path)


def test_virtual_dataset_that_maps_half_of_itself(tmp_path: Path) -> None:
    write(tmp_path / "source.h5", ARRAY[:3], name="ct")
    layout = h5py.VirtualLayout((6, 7, 11), "u2")
    layout[:3] = h5py.VirtualSource("source.h5", "ct", (3, 7, 11))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("ct", layout)
    with pytest.raises(InputError, match="has sources for 231 of its 462 values"):
        open_volume(tmp_path / "a.h5")


def test_virtual_dataset_whose_source_lacks_the_name(tmp_path: Path) -> None:
    write(tmp_path / "source.h5", ARRAY, name="other")
    layout = h5py.VirtualLayout((5, 7, 11), "u2")
    layout[:] = h5py.VirtualSource("source.h5", "ct", (5, 7, 11))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("ct", layout)
    with pytest.raises(InputError, match=r"lacks its source ct of source\.h5"):
        open_volume(tmp_path / "a.h5")


def test_external_file_cut_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("a.h5", "w") as file:
        file.create_dataset("ct", ARRAY.shape, "u2", external=[("raw.bin", 0, ARRAY.nbytes)])[:] = ARRAY
    np.testing.assert_array_equal(open_volume(tmp_path / "a.h5").read(), ARRAY)
    (tmp_path / "raw.bin").write_bytes(b"0" * 100)
    with pytest.raises(InputError, match=r"lacks values of raw\.bin"):
        open_volume(tmp_path / "a.h5")


@pytest.mark.parametrize("lengths", [(2, 2, 2), (19, 17, 6)])
def test_axes_of_other_lengths_than_the_data(lengths: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs", np.zeros((6, 17, 19), np.uint8), size=False)
    with h5py.File(path, "a") as file:
        file["/entry/data"].attrs["axes"] = ["z", "y", "x"]
        for name, length in zip("zyx", lengths, strict=True):
            file[f"/entry/data/{name}"] = np.arange(length) * 2.0
            file[f"/entry/data/{name}"].attrs["units"] = "um"
    assert open_volume(path).voxel_size_um is None


def test_scaling_that_would_not_be_applied(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", ARRAY)
    with h5py.File(path, "a") as file:
        file["/entry/data/data"].attrs["scale_factor"] = 0.5
    with pytest.raises(InputError, match="states scale_factor for its values"):
        open_volume(path)


def test_axis_that_runs_backwards_would_mirror_the_image(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nxs", ARRAY, size=False)
    with h5py.File(path, "a") as file:
        file["/entry/data"].attrs["axes"] = ["z", "y", "x"]
        for name, length, step in zip("zyx", ARRAY.shape, (-2.0, 1.0, 1.0), strict=True):
            file[f"/entry/data/{name}"] = np.arange(length) * step
            file[f"/entry/data/{name}"].attrs["units"] = "um"
    with pytest.raises(InputError, match="axis z that runs backwards"):
        open_volume(path)
