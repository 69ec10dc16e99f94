from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.contracts import VolumeContract

ARRAY = np.arange(5 * 7 * 11, dtype=np.int16).reshape(5, 7, 11)


def image(array: NDArray[np.generic]) -> sitk.Image:
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((1.25e-3, 1.5e-3, 2e-3))
    return made


class ItkContract(VolumeContract):
    suffix = ""
    compressed = False

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        path = folder / f"scan{self.suffix}"
        sitk.WriteImage(image(array), str(path), self.compressed)
        return path


class TestMha(ItkContract):
    suffix = ".mha"


class TestCompressedMha(ItkContract):
    suffix, compressed = ".mha", True


class TestMhd(ItkContract):
    suffix = ".mhd"


class TestNrrd(ItkContract):
    suffix = ".nrrd"


class TestCompressedNhdr(ItkContract):
    suffix, compressed = ".nhdr", True


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_voxels_lie_where_itk_puts_them(suffix: str, tmp_path: Path) -> None:
    made = image(ARRAY)
    made.SetOrigin((3.0, -4.0, 5.0))
    turn = np.array([[0, -1, 0], [0.6, 0, -0.8], [0.8, 0, 0.6]])
    made.SetDirection(turn.ravel())
    sitk.WriteImage(made, str(tmp_path / f"a{suffix}"))
    volume = open_volume(tmp_path / f"a{suffix}")
    for plane, row, column in itertools.product((0, 4), (0, 6), (0, 10)):
        expected = made.TransformIndexToPhysicalPoint((column, row, plane))
        np.testing.assert_allclose((volume.affine_lps @ (plane, row, column, 1))[:3], expected, atol=1e-9)


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("cut", [1, 100, 300])
def test_cut_short(suffix: str, compressed: bool, cut: int, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image(np.random.default_rng(0).integers(0, 999, (5, 7, 11))), str(path), compressed)
    data = path if suffix in (".mha", ".nrrd") else next(f for f in tmp_path.iterdir() if f != path)
    data.write_bytes(data.read_bytes()[:-cut])
    with pytest.raises(InputError):
        open_volume(path).read()


@pytest.mark.parametrize(("suffix", "line"), [(".mha", "ElementSpacing"), (".nrrd", "space directions")])
def test_header_without_spacing_is_not_one_millimetre(suffix: str, line: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image(ARRAY), str(path))
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join(text for text in lines if not text.startswith(line.encode())))
    volume = open_volume(path)
    assert volume.voxel_size_um is None
    np.testing.assert_array_equal(volume.read(), ARRAY)


@pytest.mark.parametrize("name", ["../b.raw", "/etc/passwd", "LIST", "slice%03d.raw 1 5 1", "missing.raw"])
def test_data_elsewhere_are_not_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mhd"
    sitk.WriteImage(image(ARRAY), str(path))
    path.write_text(path.read_text().replace("ElementDataFile = a.raw", f"ElementDataFile = {name}"))
    with pytest.raises(InputError, match=r"must lie beside|several files|lacks its data file"):
        open_volume(path)


@pytest.mark.parametrize("shape", [(7, 11), (2, 5, 7, 11)])
def test_other_than_three_axes(shape: tuple[int, ...], tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.uint8)), str(tmp_path / "a.nrrd"))
    with pytest.raises(InputError, match="a 3-D image is needed"):
        open_volume(tmp_path / "a.nrrd")


def test_colour(tmp_path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((5, 7, 11, 3), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    with pytest.raises(InputError, match="3 values a voxel"):
        open_volume(tmp_path / "a.mha")


def test_something_else_under_the_name(tmp_path: Path) -> None:
    for suffix in (".mha", ".nrrd"):
        (tmp_path / f"a{suffix}").write_bytes(bytes(range(256)))
        with pytest.raises(InputError, match="is no"):
            open_volume(tmp_path / f"a{suffix}")


def test_real_nrrd(sample_data: Path) -> None:
    path = next((sample_data / "microct-shrew-trabecula-mask").glob("*.nrrd"))
    volume = open_volume(path)
    assert sorted(volume.shape) == [114, 114, 115]
    assert set(np.unique(volume.read())) == {0, 255}
    assert volume.voxel_size_um == pytest.approx((4.1, 4.1, 4.1), rel=0.02)
