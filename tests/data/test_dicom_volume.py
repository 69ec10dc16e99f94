from __future__ import annotations

import itertools
import struct
from pathlib import Path
from typing import Any

import gdcm
import nibabel
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from bonemonai.data import open_volume
from bonemonai.errors import InputError, SeveralVolumesError
from tests.contracts import VolumeContract
from tests.dicom_files import SERIES, set_pixels, write_enhanced, write_series


def hounsfield(planes: int = 5) -> NDArray[np.int16]:
    # no two axes of one length, no symmetry: a transposition or flip shows
    return (np.arange(planes * 6 * 8).reshape(planes, 6, 8) - 1000).astype(np.int16)


class TestDicomSeries(VolumeContract):
    voxel_size_um = (2000.0, 1500.0, 1250.0)
    dtypes = ("int16",)

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write_series(folder, array)


class TestEnhancedMultiFrame(VolumeContract):
    voxel_size_um = (2000.0, 1500.0, 1250.0)
    dtypes = ("int16",)

    def write(self, folder: Path, array: NDArray[np.generic]) -> Path:
        return write_enhanced(folder / "volume.dcm", array, order=[3, 0, 4, 1, 2])


def test_order_is_by_position_along_the_normal_and_units_are_hounsfield(tmp_path: Path) -> None:
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), slope=0.5, intercept=-1000.0))
    np.testing.assert_array_equal(volume.read(), hounsfield())
    assert (volume.units, volume.dtype, volume.part) == ("HU", np.dtype(np.float32), SERIES)


def test_slices_that_were_scanned_downwards_come_out_upwards(tmp_path: Path) -> None:
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), step=(0, 0, -2.0)))
    np.testing.assert_array_equal(volume.read(), hounsfield()[::-1])
    assert volume.affine_lps[:3, 0].tolist() == [0, 0, 2]
    assert volume.affine_lps[:3, 3].tolist() == [-12.5, 30, 92]


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    tilt=st.floats(-0.4, 0.4),
    spacing=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
    interval=st.floats(0.1, 8),
)
def test_every_voxel_lies_where_its_header_puts_it(
    angles: Any, tilt: float, spacing: tuple[float, float], interval: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """DICOM's own equation for a slice, PS3.3 C.7.6.2.1-1, against the affine, gantry tilt included."""
    turn = rotation(*angles)
    row, column = turn[:, 0], turn[:, 1]
    step = (turn[:, 2] + tilt * column) * interval
    folder = tmp_path_factory.mktemp("turned")
    write_series(folder, hounsfield(4), row=tuple(row), column=tuple(column), spacing=spacing, step=tuple(step))
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read(), hounsfield(4))
    for plane, i, j in itertools.product(range(4), (0, 5), (0, 7)):
        position = np.array((-12.5, 30.0, 100.0)) + plane * step
        expected = position + row * spacing[1] * j + column * spacing[0] * i
        found = volume.affine_lps @ (plane, i, j, 1)
        assert np.abs(found[:3] - expected).max() < 0.02 * min(*spacing, interval)
    assert volume.voxel_size_um == pytest.approx((interval * 1000, spacing[0] * 1000, spacing[1] * 1000), rel=1e-6)
    assert any("gantry tilt" in warning for warning in volume.warnings) == (abs(tilt) > np.tan(np.radians(0.1)))


def rotation(a: float, b: float, c: float) -> NDArray[np.float64]:
    def plane(angle: float, i: int, j: int) -> NDArray[np.float64]:
        matrix = np.eye(3)
        matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        return matrix

    return plane(a, 0, 1) @ plane(b, 1, 2) @ plane(c, 0, 2)


def tag(name: str, value: Any, plane: int = 2) -> Any:
    """Change one tag of one slice; None takes it out."""

    def edit(dataset: Dataset, index: int) -> None:
        if index == plane or plane < 0:
            if value is None:
                del dataset[name]
            else:
                setattr(dataset, name, value)

    return edit


REFUSED = {
    "another patient": (tag("PatientID", "P008"), "differs from .* in patient"),
    "another name": (tag("PatientName", "John^Smith"), "differs from .* in patient"),
    "another frame of reference": (tag("FrameOfReferenceUID", "1.2.3"), "in frame of reference"),
    "another modality": (tag("Modality", "MR"), "in modality"),
    "other units": (tag("RescaleType", "US"), "in units"),
    "other photometry": (tag("PhotometricInterpretation", "MONOCHROME1"), "in photometric interpretation"),
    "another direction": (tag("ImageOrientationPatient", [0, 1, 0, 0, 0, 1]), "lies in another direction"),
    "slightly another direction": (tag("ImageOrientationPatient", [1, 0.001, 0, 0, 1, 0]), "lies in another direction"),
    "other pixels": (tag("PixelSpacing", [1.5, 1.251]), "has pixels of"),
    "a gap": (tag("ImagePositionPatient", [-12.5, 30, 104.1]), "slices are 2 mm apart"),
    "a slice aside": (tag("ImagePositionPatient", [-12.4, 30, 104]), "beside the line"),
    "a doubled position": (tag("ImagePositionPatient", [-12.5, 30, 102]), "a copy, or another time"),
    "no position": (tag("ImagePositionPatient", None), "states no ImagePositionPatient"),
    "a position of two numbers": (tag("ImagePositionPatient", [1, 2]), "3 finite numbers are due"),
    "no direction": (tag("ImageOrientationPatient", None), "states no ImageOrientationPatient"),
    "directions askew": (tag("ImageOrientationPatient", [1, 0, 0, 0.5, 1, 0], -1), "not at right angles"),
    "directions of no length": (tag("ImageOrientationPatient", [0] * 6, -1), "not at right angles"),
    "no pixel spacing": (tag("PixelSpacing", None), "states no PixelSpacing"),
    "pixel spacing zero": (tag("PixelSpacing", [0, 1]), "has PixelSpacing 0, 1 mm"),
    "no slope": (tag("RescaleSlope", None), "states no RescaleSlope"),
    "no intercept": (tag("RescaleIntercept", None), "states no RescaleIntercept"),
    "slope zero": (tag("RescaleSlope", 0), "has RescaleSlope 0"),
    "colour": (tag("SamplesPerPixel", 3), "is colour"),
    "a palette": (tag("PhotometricInterpretation", "PALETTE COLOR"), "is colour"),
    "burned-in text": (tag("BurnedInAnnotation", "YES"), "burned into its pixels"),
    "a secondary capture": (tag("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), "secondary capture"),
    "more bits stored than allocated": (tag("BitsStored", 17), "stores 17 of 16 bits"),
    "a high bit elsewhere": (tag("HighBit", 14), "high bit at 14"),
    "frames without places": (tag("NumberOfFrames", 2), "is cut short|frames without positions"),
    "not even a volume": (tag("ImagePositionPatient", [400, 30, 104], -1), "a copy, or another time"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_series_that_is_no_even_stack_of_one_scan_is_refused(what: str, tmp_path: Path) -> None:
    edit, cause = REFUSED[what]
    with pytest.raises(InputError, match=cause) as refusal:
        open_volume(write_series(tmp_path / "a", hounsfield(), edit=edit))
    assert "Smith" not in str(refusal.value)
    assert "P00" not in str(refusal.value)


@pytest.mark.parametrize("value", ["nan", "inf", "one", "1e400", ""])
@pytest.mark.parametrize("name", ["RescaleSlope", "RescaleIntercept", "PixelSpacing", "ImagePositionPatient"])
def test_numbers_that_are_none_are_refused(name: str, value: str, tmp_path: Path) -> None:
    """Written past pydicom's own checks, as scanners' software writes them."""
    folder = write_series(tmp_path / "a", hounsfield())
    file = sorted(folder.iterdir())[0]
    content = file.read_bytes()
    element = pydicom.dcmread(file)[name]
    start = struct.pack("<HH2s", element.tag.group, element.tag.element, b"DS")
    at = content.index(start)
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    new = "\\".join([value] * element.VM).encode()
    new += b" " * (len(new) % 2)
    file.write_bytes(content[:at] + start + struct.pack("<H", len(new)) + new + content[at + 8 + length :])
    with pytest.raises(InputError, match=file.name):
        open_volume(folder).read()


@pytest.mark.parametrize("planes", [range(1, 5), range(4), (0, 1, 3, 4)])
def test_missing_slices(planes: Any, tmp_path: Path) -> None:
    """A gap within is refused; at an end the rest is right where it is."""
    whole = open_volume(write_series(tmp_path / "whole", hounsfield()))
    folder = write_series(tmp_path / "a", hounsfield())
    positions = {file: round((pydicom.dcmread(file).ImagePositionPatient[2] - 100) / 2) for file in folder.iterdir()}
    for file, plane in positions.items():
        if plane not in planes:
            file.unlink()
    if 2 not in planes:
        with pytest.raises(InputError, match="some are missing"):
            open_volume(folder)
        return
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read(), hounsfield()[list(planes)])
    np.testing.assert_allclose(volume.affine_lps @ (0, 0, 0, 1), whole.affine_lps @ (planes[0], 0, 0, 1))


def test_several_series_are_listed_and_one_is_chosen(tmp_path: Path) -> None:
    def other(dataset: Dataset, plane: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    write_series(tmp_path / "a" / "one", hounsfield())
    write_series(tmp_path / "a" / "two", hounsfield(3) + 7, edit=other)
    with pytest.raises(SeveralVolumesError, match=r"PATH::UID") as refusal:
        open_volume(tmp_path / "a")
    assert refusal.value.choices == [
        f"{SERIES}: CT, 5 x 6 x 8, 2 x 1.5 x 1.25 mm",
        "1.2.3: CT, 3 x 6 x 8, 2 x 1.5 x 1.25 mm",
    ]
    volume = open_volume(f"{tmp_path / 'a'}::1.2.3")
    np.testing.assert_array_equal(volume.read(), hounsfield(3) + 7)
    assert volume.source == f"{tmp_path / 'a'}::1.2.3"
    with pytest.raises(InputError, match="holds no series 9"):
        open_volume(f"{tmp_path / 'a'}::9")


def test_report_beside_one_series_stops_nobody(tmp_path: Path) -> None:
    def report(dataset: Dataset, plane: int) -> None:
        dataset.SeriesInstanceUID, dataset.SOPClassUID = "1.2.3", "1.2.840.10008.5.1.4.1.1.88.67"
        for name in ("PixelData", "Rows", "Columns"):
            del dataset[name]

    write_series(tmp_path / "a", hounsfield())
    write_series(tmp_path / "a" / "report", hounsfield(1), edit=report)
    np.testing.assert_array_equal(open_volume(tmp_path / "a").read(), hounsfield())


def test_what_lies_beside_slices_is_passed_over_by_name_only(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    (folder / "README").write_text("hello")
    (folder / "notes.txt").write_text("hello " * 100)
    volume = open_volume(folder)
    assert "2 file(s) beside the slices are ignored, such as README." in volume.warnings
    (folder / "IM9999.dcm").write_bytes(b"")
    with pytest.raises(InputError, match=r"IM9999\.dcm: is no DICOM file, or a damaged one"):
        open_volume(folder)
    (folder / "IM9999.dcm").unlink()
    (folder / "IM9999").write_bytes(bytes(range(256)) * 20)
    with pytest.raises(InputError, match=r"IM9999: is no DICOM file, or a damaged one"):
        open_volume(folder)


def test_stripped_uid_is_one_series_if_all_lack_it(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield(), edit=tag("SeriesInstanceUID", "", -1))
    volume = open_volume(folder)
    np.testing.assert_array_equal(volume.read(), hounsfield())
    assert "files state no SeriesInstanceUID; all of the folder are taken for one series." in volume.warnings
    some = write_series(tmp_path / "b", hounsfield(), edit=tag("SeriesInstanceUID", ""))
    with pytest.raises(InputError, match="but other files here do"):
        open_volume(some)


def test_stripped_uid_of_two_series_is_refused_by_what_else_tells_them_apart(tmp_path: Path) -> None:
    """Two reconstructions, half a slice apart, would otherwise make one even stack."""

    def number(dataset: Dataset, plane: int) -> None:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = "", 1 + plane % 2

    with pytest.raises(InputError, match="in SeriesNumber"):
        open_volume(write_series(tmp_path / "a", hounsfield(), edit=number))


def test_file_without_a_preamble(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    for file in folder.iterdir():
        dataset = pydicom.dcmread(file)
        del dataset.file_meta.TransferSyntaxUID
        bare = Dataset()
        bare.update(dict(dataset.items()))
        bare.save_as(file, implicit_vr=True, little_endian=True, enforce_file_format=False)
        assert file.read_bytes()[128:132] != b"DICM"
    np.testing.assert_array_equal(open_volume(folder).read(), hounsfield())


def test_sign_and_rescale_of_each_slice(tmp_path: Path) -> None:
    def own(dataset: Dataset, plane: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 2, -100 - plane
        dataset.PixelRepresentation = plane % 2
        stored = hounsfield()[plane] if plane % 2 else hounsfield()[plane] + 1000
        set_pixels(dataset, stored.astype(np.int16 if plane % 2 else np.uint16))

    values = open_volume(write_series(tmp_path / "a", hounsfield(), edit=own)).read()
    for plane in range(5):
        stored = hounsfield()[plane].astype(int) + (0 if plane % 2 else 1000)
        np.testing.assert_array_equal(values[plane], 2 * stored - 100 - plane)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_the_stored_ones_do_not_count(signed: bool, tmp_path: Path) -> None:
    """Old files keep overlays there."""
    stored = np.arange(5 * 6 * 8).reshape(5, 6, 8) - (100 if signed else 0)

    def overlay(dataset: Dataset, plane: int) -> None:
        dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, int(signed)
        set_pixels(dataset, (stored[plane] & 0xFFF | (plane % 3) << 12).astype(np.uint16))

    volume = open_volume(write_series(tmp_path / "a", hounsfield(), edit=overlay))
    np.testing.assert_array_equal(volume.read(), stored - 1024)


def test_monochrome1_keeps_hounsfield_and_turns_other_values(tmp_path: Path) -> None:
    """Hounsfield units follow from the rescale, whichever way a viewer shows them (PS3.3 C.7.6.3.1.2, C.11.1)."""
    inverted = tag("PhotometricInterpretation", "MONOCHROME1", -1)
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), edit=inverted))
    np.testing.assert_array_equal(volume.read(), hounsfield())
    assert any("MONOCHROME1" in warning for warning in volume.warnings)

    def raw(dataset: Dataset, plane: int) -> None:
        inverted(dataset, plane)
        dataset.Modality, dataset.PixelRepresentation, dataset.BitsStored, dataset.HighBit = "MR", 0, 12, 11
        del dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType
        set_pixels(dataset, (hounsfield()[plane] + 1000).astype(np.uint16))

    volume = open_volume(write_series(tmp_path / "b", hounsfield(), edit=raw))
    np.testing.assert_array_equal(volume.read(), 4095 - (hounsfield().astype(int) + 1000))
    assert volume.units == "raw"


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


def test_pixels_cut_short_are_refused_at_opening(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", np.zeros((3, 64, 64), np.int16))
    file = folder / "IM0001.dcm"
    file.write_bytes(file.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"IM0001\.dcm: is cut short"):
        open_volume(folder)


def test_deflated_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    file = folder / "IM0001.dcm"
    dataset = pydicom.dcmread(file)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    dataset.save_as(file, enforce_file_format=True)
    with pytest.raises(InputError, match=r"IM0001\.dcm: is deflated"):
        open_volume(folder)


def test_tiff_among_dicom_files_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    (folder / "preview.tif").write_bytes(b"")
    with pytest.raises(InputError, match="is DICOM in a folder of TIFF files"):
        open_volume(folder)


def test_single_slice_says_that_it_relies_on_the_thickness(tmp_path: Path) -> None:
    volume = open_volume(next(write_series(tmp_path / "a", hounsfield(1)).iterdir()))
    assert (volume.shape, volume.voxel_size_um) == ((1, 6, 8), (3000, 1500, 1250))
    assert volume.warnings == ["a single slice; its thickness is taken from the SliceThickness tag."]


def test_multi_frame_twice_at_one_place_is_refused(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(4), order=[0, 1, 1, 2])
    with pytest.raises(InputError, match="lies where frame 2 does"):
        open_volume(path)


def test_real_series_with_masks_beside_it(sample_data: Path) -> None:
    """Siemens, JPEG 2000; SliceThickness says 3, positions say 2; vertebra masks of the same scan must overlay."""
    folder = sample_data / "ct-totalseg-siemens-dicom"
    volume = open_volume(folder / "dicom")
    assert (volume.shape, volume.dtype, volume.units) == ((20, 512, 512), np.dtype(np.int16), "HU")
    assert volume.voxel_size_um == pytest.approx((2000, 976.5625, 976.5625))
    image, mask = volume.read(), nibabel.load(folder / "seg_dicom.nii.gz")
    voxels = np.argwhere(np.isin(np.asarray(mask.dataobj), (32, 33)))
    world = nibabel.affines.apply_affine(mask.affine, voxels)
    index = nibabel.affines.apply_affine(np.linalg.inv(volume.affine_ras), world)
    assert np.abs(index - np.round(index)).max() < 0.02
    inside = image[tuple(np.round(index).astype(int).T)]
    assert 100 < np.median(inside) < 300  # vertebrae
    assert np.median(image) < 0


@pytest.mark.parametrize(
    ("folder", "cause"),
    [
        ("notavolume/001", "lies where"),
        ("sliceincrement/001", "some are missing"),
        ("sliceincrement/002", "some are missing"),
        ("sliceorientation/001", "another direction"),
    ],
)
def test_real_folders_that_are_no_volume(folder: str, cause: str, sample_data: Path) -> None:
    with pytest.raises(InputError, match=cause):
        open_volume(sample_data / "dicom-edge-cases" / "dicom2nifti_failing" / folder)


def test_real_gantry_tilt(sample_data: Path) -> None:
    folder = sample_data / "dicom-edge-cases" / "dicom2nifti_failing" / "gantrytilting"
    volume = open_volume(folder)
    for file in (folder / "001").iterdir():
        dataset = pydicom.dcmread(file, stop_before_pixels=True)
        index = np.linalg.inv(volume.affine_lps) @ (*dataset.ImagePositionPatient, 1)
        np.testing.assert_allclose(index[:3], [round(index[0]), 0, 0], atol=0.02)


@pytest.mark.parametrize("codec", ["J2KR", "JLSL", "RLE"])
@pytest.mark.parametrize("image", ["CT1", "CT2"])
def test_codecs_give_the_same_real_image(codec: str, image: str, sample_data: Path) -> None:
    folder = sample_data / "dicom-edge-cases" / "WG04_all"
    values = [open_volume(folder / name / f"{image}_{name}").read() for name in (codec, "RLE")]
    np.testing.assert_array_equal(*values)


def test_files_that_ship_with_pydicom_are_read_right_or_refused() -> None:
    """Each is an image that pydicom itself decodes to the same values, or refused in one line."""
    read = set()
    for path in sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm")):
        try:
            values = open_volume(path).read()
        except InputError:
            continue
        dataset = pydicom.dcmread(path)
        slope, intercept = dataset.get("RescaleSlope", 1), dataset.get("RescaleIntercept", 0)
        np.testing.assert_array_equal(values[0], dataset.pixel_array * float(slope) + float(intercept))
        read.add(path.name)
    assert {"CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "693_J2KI.dcm", "MR_small_RLE.dcm"} <= read
