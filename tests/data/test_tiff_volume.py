from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.contracts import VolumeContract

SIZE = VolumeContract.voxel_size_um
IMAGEJ = {"resolution": (1 / SIZE[2], 1 / SIZE[1]), "metadata": {"unit": "um", "spacing": SIZE[0], "axes": "ZYX"}}


class TestImageJ(VolumeContract):
    dtypes = ("uint8", "uint16", "float32")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        tifffile.imwrite(folder / "stack.tif", array, imagej=True, **IMAGEJ)
        return folder / "stack.tif"


class TestOME(VolumeContract):
    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", SIZE, strict=True)}
        units = {f"PhysicalSize{axis}Unit": "µm" for axis in "ZYX"}
        metadata = {"axes": "ZYX", **sizes, **units}
        tifffile.imwrite(folder / "scan.ome.tif", array, metadata=metadata, bigtiff=True, compression="zlib")
        return folder / "scan.ome.tif"


class TestFolder(VolumeContract):
    dtypes = ("uint8", "uint16", "float32")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        for index, plane in enumerate(array):
            metadata = {**IMAGEJ, "metadata": {"unit": "um", "spacing": SIZE[0]}}
            tifffile.imwrite(folder / f"slice_{index + 8}.tif", plane, imagej=True, **metadata)
        return folder


class TestCompressedTiledBigTiff(VolumeContract):
    """Resolution tags in centimetres; planes as far apart as pixels, for nothing says otherwise."""

    voxel_size_um = (1.25, 1.5, 1.25)
    dtypes = ("uint8", "int8", "uint16", "int32", "float16", "float32", "float64")

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        tifffile.imwrite(
            folder / "stack.btf",
            array,
            bigtiff=True,
            tile=(16, 16),
            compression="zstd",
            photometric="minisblack",
            resolution=(1e4 / 1.25, 1e4 / 1.5),
            resolutionunit="CENTIMETER",
            metadata=None,
        )
        return folder / "stack.btf"

    def test_says_what_it_assumed(self, tmp_path: Path) -> None:
        volume = open_volume(self.write(tmp_path, np.zeros((2, 8, 8), np.uint8)))
        assert "isotropic" in volume.warnings[0]


def planes(folder: Path, names: list[str], shape: tuple[int, int] = (4, 5), dtype: str = "uint8") -> None:
    for value, name in enumerate(names):
        tifffile.imwrite(folder / name, np.full(shape, value, dtype))


def test_natural_order(tmp_path: Path) -> None:
    planes(tmp_path, [f"slice_{index}.tif" for index in range(12)])
    assert open_volume(tmp_path).read()[:, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize(
    ("names", "cause"),
    [
        (["a_1.tif", "a_3.tif"], r"a_3.tif: follows plane 1: a plane is missing"),
        (["a_1.tif", "a_01.tif"], r"has the same plane number"),
        (["a_1.tif", "b_2.tif"], r"b_2.tif: is named unlike its neighbours"),
        (["s1_c0.tif", "s1_c1.tif", "s2_c1.tif"], r"s2_c1.tif: is named unlike its neighbours"),
        (["z-1.tif", "z0.tif"], r"is named unlike its neighbours"),
    ],
)
def test_numbering_is_checked(tmp_path: Path, names: list[str], cause: str) -> None:
    planes(tmp_path, names)
    with pytest.raises(InputError, match=cause):
        open_volume(tmp_path)


def test_planes_of_different_size_are_refused(tmp_path: Path) -> None:
    planes(tmp_path, ["a_0.tif", "a_1.tif"])
    tifffile.imwrite(tmp_path / "a_2.tif", np.zeros((4, 6), np.uint8))
    with pytest.raises(InputError, match=r"a_2.tif: has shape \(4, 6\), but a_0.tif has \(4, 5\)"):
        open_volume(tmp_path)


def test_planes_of_different_type_are_refused(tmp_path: Path) -> None:
    planes(tmp_path, ["a_0.tif"])
    tifffile.imwrite(tmp_path / "a_1.tif", np.zeros((4, 5), np.uint16))
    with pytest.raises(InputError, match=r"a_1.tif: has type uint16"):
        open_volume(tmp_path)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no .tif file"):
        open_volume(tmp_path)


def test_other_files_are_counted(tmp_path: Path) -> None:
    planes(tmp_path, ["a_0.tif", "a_1.tif"])
    (tmp_path / "README").write_text("scan of")
    volume = open_volume(tmp_path)
    assert volume.shape[0] == 2
    assert "1 entries without a TIFF suffix are ignored." in volume.warnings


def test_colour_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((4, 5, 3), np.uint8), photometric="rgb")
    with pytest.raises(InputError, match="grey-value"):
        open_volume(tmp_path / "rgb.tif")


def test_inverted_grey_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "white.tif", np.zeros((4, 5), np.uint8), photometric="miniswhite")
    with pytest.raises(InputError, match="MINISWHITE"):
        open_volume(tmp_path / "white.tif")


def test_multi_page_file_within_a_folder_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a_0.tif", np.zeros((3, 4, 5), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="holds 3 pages"):
        open_volume(tmp_path)


def test_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "zc.tif", np.zeros((3, 2, 4, 5), np.uint8), imagej=True, metadata={"axes": "ZCYX"})
    with pytest.raises(InputError, match="axes ZYX, is needed"):
        open_volume(tmp_path / "zc.tif")


@pytest.mark.parametrize("odd", [{"predictor": True}, {"dtype": np.int16}, {"photometric": "miniswhite"}])
def test_page_unlike_the_first_is_refused(tmp_path: Path, odd: dict) -> None:
    """Tifffile would decode it with the first page's parameters, silently."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for index in range(12):
            options = {"photometric": "minisblack", **(odd if index == 3 else {})}
            plane = np.full((16, 16), index, options.pop("dtype", np.uint16))
            tif.write(plane, compression="zlib", metadata=None, contiguous=False, **options)
    with pytest.raises(InputError, match=r"a\.tif: (page 3 has|has photometric|holds 2 images|holds 3 images)"):
        open_volume(tmp_path / "a.tif")


def test_turned_planes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), extratags=[("Orientation", 3, 1, 6)])
    with pytest.raises(InputError, match="TIFF orientation 6"):
        open_volume(tmp_path / "a.tif")


def test_calibrated_imagej_values_are_refused(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "cf": 0, "c0": -32768.0, "c1": 1.0}
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 4, 5), np.uint16), imagej=True, metadata=metadata)
    with pytest.raises(InputError, match="grey-value calibration"):
        open_volume(tmp_path / "a.tif")


def test_unknown_unit_is_no_missing_size(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 2, "PhysicalSizeY": 2, "PhysicalSizeZ": 2, "PhysicalSizeZUnit": "km"}
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((2, 4, 5), np.uint16), metadata=metadata)
    volume = open_volume(tmp_path / "a.ome.tif")
    assert volume.voxel_size_um is None
    assert volume.warnings == ["voxel size is stated in km, which is not known; say --voxel-size-um."]


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_every_truncation_is_refused_or_exact(tmp_path: Path, compression: str | None) -> None:
    array = np.random.default_rng(0).integers(0, 255, (3, 16, 16), dtype=np.uint8)
    whole = tmp_path / "whole.tif"
    tifffile.imwrite(whole, array, photometric="minisblack", compression=compression)
    content = whole.read_bytes()
    for length in range(0, len(content), 41):
        cut = tmp_path / "cut.tif"
        cut.write_bytes(content[:length])
        with suppress(InputError):  # anything but a refusal, or the very values, is wrong
            np.testing.assert_array_equal(open_volume(cut).read(), array)


def test_unreadable_plane_of_a_folder_is_named(tmp_path: Path) -> None:
    planes(tmp_path, ["a_0.tif", "a_1.tif"])
    (tmp_path / "a_1.tif").write_bytes(b"no tiff at all")
    with pytest.raises(InputError, match=r"a_1.tif: cannot be read as TIFF"):
        open_volume(tmp_path)


def test_plane_that_breaks_after_opening_is_named(tmp_path: Path) -> None:
    planes(tmp_path, ["a_0.tif", "a_1.tif"])
    volume = open_volume(tmp_path)
    (tmp_path / "a_1.tif").write_bytes(b"gone")
    with pytest.raises(InputError, match=r"a_1.tif: cannot be read as TIFF"):
        volume.read()


def test_lhdl_is_read_exactly(lhdl: Path) -> None:
    volume = open_volume(lhdl, voxel_size_um=19.5)
    expected = np.stack([tifffile.imread(file) for file in sorted(lhdl.glob("*.tif"))])
    assert volume.shape == (200, 200, 200)
    np.testing.assert_array_equal(volume.read(), expected)
    np.testing.assert_allclose(np.linalg.norm(volume.affine_lps[:3, :3], axis=0), 0.0195)
    # measured on the public data set: bone above grey 63
    assert (expected > 63).mean() == pytest.approx(0.228, abs=0.001)


@pytest.mark.parametrize("dots", [1 * 2.54, 72, 96, 300])
def test_resolution_of_a_printer_in_centimetres_is_no_voxel_size(dots: float, tmp_path: Path) -> None:
    array = np.zeros((3, 4, 5), np.uint8)
    resolution = (dots / 2.54, dots / 2.54)
    tifffile.imwrite(
        tmp_path / "a.tif", array, resolution=resolution, resolutionunit="CENTIMETER", photometric="minisblack"
    )
    assert open_volume(tmp_path / "a.tif").voxel_size_um is None


def test_contiguous_imagej_stack_with_more_pages_than_it_says(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 17, 19), np.int16), imagej=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    for name in (b"images", b"slices"):
        content = content.replace(name + b"=6", name + b"=3")
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match="holds 6 pages, but its metadata say 3"):
        open_volume(tmp_path / "a.tif")


def test_planes_that_were_written_one_by_one(tmp_path: Path) -> None:
    planes = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for plane in planes:
            writer.write(plane, photometric="minisblack")
    volume = open_volume(tmp_path / "a.tif")
    np.testing.assert_array_equal(volume.read(), planes)
    np.testing.assert_array_equal(volume.read(2, 4), planes[2:4])


def test_planes_of_different_size_are_no_stack(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for size in (7, 7, 9):
            writer.write(np.zeros((size, 8), np.int16), photometric="minisblack")
    with pytest.raises(InputError, match="different size or type"):
        open_volume(tmp_path / "a.tif")


def test_page_table_that_runs_in_a_circle(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 17, 19), np.int16), photometric="minisblack", compression="zlib")
    content = bytearray(path.read_bytes())
    first = offset = struct.unpack_from("<I", content, 4)[0]
    while offset:
        last = offset + 2 + 12 * struct.unpack_from("<H", content, offset)[0]
        offset = struct.unpack_from("<I", content, last)[0]
    struct.pack_into("<I", content, last, first)
    path.write_bytes(content)
    with pytest.raises(InputError):
        open_volume(path).read()
