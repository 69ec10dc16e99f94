from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import gdcm
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from bonemonai.data import open_volume
from bonemonai.errors import InputError
from tests.dicom_files import hounsfield, set_pixels, write_enhanced, write_series


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_do_not_count(signed: bool, tmp_path: Path) -> None:
    """Old files keep overlays there."""
    stored = np.arange(5 * 6 * 8).reshape(5, 6, 8) - (100 if signed else 0)

    def overlay(dataset: Dataset, plane: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
        set_pixels(dataset, (stored[plane] & 0xFFF | (plane % 3) << 12).astype(np.uint16))
        for element, vr, value in ((0x10, "US", 6), (0x11, "US", 8), (0x40, "CS", "G"), (0x102, "US", 12)):
            dataset.add_new((0x6000, element), vr, value)

    volume = open_volume(write_series(tmp_path / "a", hounsfield(), edit=overlay))
    np.testing.assert_array_equal(volume.read(), stored - 1024)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_without_loss_is_exact(syntax: Any, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1024, 3000, (3, 70, 50))
    folder = write_series(
        tmp_path / "a", values, edit=lambda dataset, _: dataset.compress(syntax, generate_instance_uid=False)
    )
    np.testing.assert_array_equal(open_volume(folder).read(), values)


def test_jpeg_lossless(tmp_path: Path) -> None:
    """What most scanners of the 1990s to 2010s wrote."""
    values = np.random.default_rng(0).integers(-1024, 3000, (2, 70, 50))
    folder = write_series(tmp_path / "a", values)
    for file in folder.iterdir():
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(file))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFileName(str(file))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        assert pydicom.dcmread(file).file_meta.TransferSyntaxUID == JPEGLosslessSV1
    np.testing.assert_array_equal(open_volume(folder).read(), values)


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless])
def test_compressed_image_larger_than_its_header_says_is_refused_unseen(syntax: Any, tmp_path: Path) -> None:
    """A few bytes that ask the decoder for gigabytes."""

    def lie(dataset: Dataset, plane: int) -> None:
        dataset.compress(syntax, generate_instance_uid=False)
        content = bytearray(dataset.PixelData)
        at = content.index(b"\xff\x51") + 6 if syntax == JPEG2000Lossless else content.index(b"\xff\xf7") + 5
        content[at : at + 2] = b"\x7f\xff"
        dataset.PixelData = bytes(content)

    folder = write_series(tmp_path / "a", np.zeros((2, 70, 50)), edit=lie)
    with pytest.raises(InputError, match="holds a compressed image of"):
        open_volume(folder).read()


@pytest.mark.parametrize("codec", ["J2KR", "JLSL", "RLE"])
@pytest.mark.parametrize("image", ["CT1", "CT2"])
def test_codecs_give_the_same_real_image(codec: str, image: str, sample_data: Path) -> None:
    folder = sample_data / "dicom-edge-cases" / "WG04_all"
    values = [open_volume(folder / name / f"{image}_{name}").read() for name in (codec, "RLE")]
    np.testing.assert_array_equal(*values)


def test_values_beyond_the_stored_bits_are_refused_where_no_overlay_explains_them(tmp_path: Path) -> None:
    """A hip of metal, in 13 bits of which the header says 12: cut off, 3000 HU would become -1096."""

    def metal(dataset: Dataset, plane: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.RescaleIntercept = 12, 11, 0
        set_pixels(dataset, np.full((6, 8), 3000, np.int16))

    with pytest.raises(InputError, match="more than the 12 bits that its header says"):
        open_volume(write_series(tmp_path / "a", hounsfield(), edit=metal)).read()


def test_frame_of_a_large_file_is_read_alone(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(-1000, 1000, (100, 256, 256)).astype(np.int16)
    volume = open_volume(write_enhanced(tmp_path / "a.dcm", values))
    tracemalloc.start()
    np.testing.assert_array_equal(volume.read(17, 18)[0], values[17])
    assert tracemalloc.get_traced_memory()[1] < values.nbytes / 2
    tracemalloc.stop()
