from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from bonemonai.data import AxialVolume, Volume, open_volume, write_dicom_seg
from bonemonai.data.dicom_series import find_series
from bonemonai.errors import InputError, OutputError, SeveralVolumesError
from tests.dicom_files import SERIES, Edit, hounsfield, tag, write_enhanced, write_series

STUDY = f"{SERIES}.77"
SEGMENTS = {20: "L1", 21: "L2 vertebral body", 22: "L3"}
# of each kind that must not come through, a text that nothing else holds
PLANTED = {
    "PatientName": "Planted^Name", "PatientID": "PLANTED1", "PatientBirthDate": "19510203", "PatientSex": "F",
    "AccessionNumber": "PLANTED2", "StudyDate": "20210405", "StudyTime": "101112", "SeriesDate": "20210406",
    "AcquisitionDate": "20210407", "AcquisitionDateTime": "20210408101010", "ContentDate": "20210409",
    "StudyID": "PLANTED3", "InstitutionName": "Planted clinic", "InstitutionAddress": "Planted street",
    "InstitutionalDepartmentName": "Planted ward", "StationName": "PLANTED4", "Manufacturer": "Planted maker",
    "ReferringPhysicianName": "Planted^Doctor", "OperatorsName": "Planted^Operator", "DeviceSerialNumber": "PLANTED5",
    "StudyDescription": "Planted study", "SeriesDescription": "Planted series", "ProtocolName": "Planted protocol",
    "ImageComments": "Planted comment", "PatientComments": "Planted patient", "PatientAge": "069Y",
    "PatientAddress": "Planted road", "OtherPatientIDs": "PLANTED6", "IssuerOfPatientID": "Planted issuer",
    "PositionReferenceIndicator": "PLANTED7", "EthnicGroup": "PLANTED8", "PatientWeight": "79.125",
    "ClinicalTrialSubjectID": "PLANTED9", "PerformingPhysicianName": "Planted^Radiologist",
}  # fmt: skip


def identified(dataset: Dataset, plane: int) -> None:
    for name, value in PLANTED.items():
        setattr(dataset, name, value)
    block = dataset.private_block(0x0029, "PLANTED MAKER", create=True)
    block.add_new(0x10, "LO", "Planted private")
    person = Dataset()
    person.ScheduledProcedureStepDescription = "Planted step"
    dataset.RequestAttributesSequence = [person]


def series(folder: Path, planes: int = 7, edit: Edit | None = None, **options: Any) -> Path:
    def whole(dataset: Dataset, plane: int) -> None:
        dataset.StudyInstanceUID = STUDY
        if edit is not None:
            edit(dataset, plane)

    return write_series(folder, hounsfield(planes), edit=whole, **options)


def some_mask(shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    mask = np.zeros(shape, np.uint8)
    mask[1:3, 2:4, 1:5], mask[3, 0, 0] = 20, 20
    mask[2:, 4:, 2:7] = 21
    return mask


def by_place(path: Path) -> dict[tuple[str, tuple[float, ...]], tuple[str, NDArray[Any]]]:
    """(label, position) to (referenced slice, pixels) of each frame, as pydicom has them."""
    dataset = pydicom.dcmread(path)
    labels = {item.SegmentNumber: item.SegmentLabel for item in dataset.SegmentSequence}
    pixels = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    found = {}
    for group, frame in zip(dataset.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        number = (group if "SegmentIdentificationSequence" in group else shared).SegmentIdentificationSequence[0]
        reference = group.DerivationImageSequence[0].SourceImageSequence[0]
        slice_ = f"{reference.ReferencedSOPInstanceUID}/{reference.get('ReferencedFrameNumber', 1)}"
        position = tuple(float(x) for x in group.PlanePositionSequence[0].ImagePositionPatient)
        found[labels[number.ReferencedSegmentNumber], position] = slice_, frame
    return found


def check(path: Path, mask: NDArray[Any], source: Volume, segments: dict[int, str]) -> None:
    """Pixels, places and references, against the mask and the source's own files."""
    assert source.affine_lps is not None
    frames = by_place(path)
    expected = {
        (label, plane)
        for value, label in segments.items()
        for plane in np.flatnonzero((mask == value).any(axis=(1, 2)))
    }
    assert len(frames) == len(expected)
    for (label, position), (slice_, pixels) in frames.items():
        index = np.linalg.solve(source.affine_lps, [*position, 1])
        plane = round(float(index[0]))
        assert np.abs(index[:3] - [plane, 0, 0]).max() < 1e-4
        value = next(value for value, other in segments.items() if other == label)
        np.testing.assert_array_equal(pixels, mask[plane] == value)
        frame = source.frames[plane]  # type: ignore[attr-defined]
        assert slice_ == f"{pydicom.dcmread(frame.path).SOPInstanceUID}/{frame.index + 1}"
        expected.remove((label, plane))
    assert not expected


def check_grid(path: Path, mask: NDArray[Any], source: Volume) -> None:
    """highdicom's volume, voxel by voxel in the world, is the mask."""
    volume = hd.seg.segread(path).get_volume(combine_segments=True, skip_overlap_checks=True)
    index = np.argwhere(volume.array > 0)
    world = index @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    assert source.affine_lps is not None
    back = (world - source.affine_lps[:3, 3]) @ np.linalg.inv(source.affine_lps[:3, :3]).T
    nearest = np.round(back).astype(int)
    assert np.abs((back - nearest) @ source.affine_lps[:3, :3].T).max() < 1e-3  # mm
    again = np.zeros(mask.shape, bool)
    again[tuple(nearest.T)] = True
    np.testing.assert_array_equal(again, mask > 0)


def test_pixels_places_and_references(tmp_path: Path) -> None:
    source = open_volume(series(tmp_path / "a"))
    mask = some_mask(source.shape)
    write_dicom_seg(tmp_path / "out" / "s.dcm", mask, source, segments=SEGMENTS)
    check(tmp_path / "out" / "s.dcm", mask, source, {20: "L1", 21: "L2 vertebral body"})
    check_grid(tmp_path / "out" / "s.dcm", mask, source)
    dataset = pydicom.dcmread(tmp_path / "out" / "s.dcm")
    str(dataset)  # every value is valid: pydicom's warnings are errors
    assert (dataset.Modality, dataset.SegmentationType, dataset.BitsAllocated) == ("SEG", "BINARY", 1)
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == (STUDY, f"{SERIES}.5")
    (reference,) = dataset.ReferencedSeriesSequence
    assert reference.SeriesInstanceUID == SERIES
    referred = {str(item.ReferencedSOPInstanceUID) for item in reference.ReferencedInstanceSequence}
    assert referred == {f"{SERIES}.{number}" for number in range(1, 8)}
    assert dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices == 2.0
    for item in dataset.SegmentSequence:
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        (made_by,) = item.SegmentationAlgorithmIdentificationSequence
        assert (made_by.AlgorithmName, made_by.AlgorithmVersion) == ("bonemonai", "0.1.0")
    assert os.listdir(tmp_path / "out") == ["s.dcm"]


@pytest.mark.parametrize(
    ("label", "code", "region"),
    [
        ("L1", "66794005", "122496007"), ("L5 vertebral body", "49668003", "122496007"), ("T12", "23215003", None),
        ("C7 vertebra", "87391001", None), ("L6", "51282000", "122496007"), ("T13", "51282000", None),
        ("lumbar", "51282000", "122496007"), ("Lumbar vertebra", "51282000", "122496007"),
        ("vertebral body", "51282000", None),
    ],
)  # fmt: skip
def test_segments_are_coded_in_snomed_ct(label: str, code: str, region: str | None, tmp_path: Path) -> None:
    source = series(tmp_path / "a", planes=2)
    write_dicom_seg(tmp_path / "s.dcm", np.ones((2, 6, 8), bool), source, segments={1: label})
    (segment,) = pydicom.dcmread(tmp_path / "s.dcm").SegmentSequence
    (kind,) = segment.SegmentedPropertyTypeCodeSequence
    assert (kind.CodeValue, kind.CodingSchemeDesignator, segment.SegmentLabel) == (code, "SCT", label)
    assert segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "91723000"
    regions = [item.CodeValue for item in segment.get("AnatomicRegionSequence", [])]
    assert regions == ([region] if region else [])


def test_no_identifier_reaches_the_file(tmp_path: Path) -> None:
    source = series(tmp_path / "planted-folder", edit=identified)
    mask = some_mask((7, 6, 8))
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=SEGMENTS)
    content = (tmp_path / "s.dcm").read_bytes().lower()
    for value in (*PLANTED.values(), "planted", "2021", "1951", "101112", str(tmp_path)):
        if value != "F":
            assert value.lower().encode() not in content, value
    dataset = pydicom.dcmread(tmp_path / "s.dcm")
    for name in ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                 "StudyDate", "StudyTime", "ReferringPhysicianName"):  # fmt: skip
        assert dataset[name].is_empty, name
    dates = {e.keyword for e in dataset.iterall() if e.VR in ("DA", "TM", "DT") and not e.is_empty}
    assert dates == {"ContentDate", "ContentTime"}
    assert dataset.PatientIdentityRemoved == "YES"
    # what a file of other patients would hold is the same
    other = series(tmp_path / "b")
    write_dicom_seg(tmp_path / "other.dcm", mask, other, segments=SEGMENTS)
    assert (tmp_path / "other.dcm").read_bytes() == (tmp_path / "s.dcm").read_bytes()


def test_pseudonym(tmp_path: Path) -> None:
    source = series(tmp_path / "a", edit=identified)
    write_dicom_seg(tmp_path / "s.dcm", some_mask((7, 6, 8)), source, segments=SEGMENTS, pseudonym="S-017")
    dataset = pydicom.dcmread(tmp_path / "s.dcm")
    assert (dataset.PatientID, dataset.PatientIdentityRemoved) == ("S-017", "YES")
    assert b"lanted" not in (tmp_path / "s.dcm").read_bytes()


def test_identifiers_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    def umlaut(dataset: Dataset, plane: int) -> None:
        dataset.SpecificCharacterSet = "ISO_IR 100"
        identified(dataset, plane)
        dataset.PatientName = "Müller^Änne"

    source = series(tmp_path / "a", edit=umlaut)
    write_dicom_seg(tmp_path / "s.dcm", some_mask((7, 6, 8)), source, segments=SEGMENTS, keep_identifiers=True)
    dataset = pydicom.dcmread(tmp_path / "s.dcm")
    for name in ("PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate"):
        assert dataset[name].value == PLANTED[name]
    assert (str(dataset.PatientName), str(dataset.ReferringPhysicianName)) == ("Müller^Änne", "Planted^Doctor")
    assert "PatientIdentityRemoved" not in dataset
    assert b"clinic" not in (tmp_path / "s.dcm").read_bytes()


def test_same_mask_same_bytes_and_another_one_another_object(tmp_path: Path) -> None:
    source, mask = series(tmp_path / "a"), some_mask((7, 6, 8))
    for name in ("one", "again"):
        write_dicom_seg(tmp_path / f"{name}.dcm", mask, source, segments=SEGMENTS)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "again.dcm").read_bytes()
    mask[5, 0, 7] = 20
    write_dicom_seg(tmp_path / "other.dcm", mask, source, segments=SEGMENTS)
    mask[5, 0, 7] = 0
    write_dicom_seg(tmp_path / "said.dcm", mask, source, segments=SEGMENTS, pseudonym="P")
    found = [pydicom.dcmread(tmp_path / f"{name}.dcm") for name in ("one", "other", "said")]
    assert len({dataset.SOPInstanceUID for dataset in found}) == len({d.SeriesInstanceUID for d in found}) == 3
    for dataset in found:
        uids = {dataset.SOPInstanceUID, dataset.SeriesInstanceUID}
        uids |= {item.DimensionOrganizationUID for item in dataset.DimensionIndexSequence}
        assert len(uids) == 3
        assert all(uid.is_valid and uid.startswith("2.25.") and len(uid) <= 64 for uid in uids)
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("sagittal", {"row": (0, 1, 0), "column": (0, 0, -1)}),
        ("upwards", {"column": (0, -1, 0)}),
        ("oblique", {"row": (0.8, 0.6, 0), "column": (-0.48, 0.64, 0.6)}),
        ("tilted", {"column": (0, np.cos(0.2), -np.sin(0.2)), "step": (0, 0, -2.0)}),
    ],
)
def test_series_of_any_direction(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    source = open_volume(series(tmp_path / name, **options))
    mask = some_mask(source.shape)
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=SEGMENTS)
    check(tmp_path / "s.dcm", mask, source, {20: "L1", 21: "L2 vertebral body"})
    if name != "tilted":
        check_grid(tmp_path / "s.dcm", mask, source)
        return
    # frames are where they belong; highdicom refuses to make a rectangular volume of them
    with pytest.raises(RuntimeError, match="do not form a regularly-spaced volume"):
        hd.seg.segread(tmp_path / "s.dcm").get_volume(combine_segments=True)


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(), order=[3, 0, 4, 1, 2])
    dataset = pydicom.dcmread(path)
    dataset.StudyInstanceUID = STUDY
    dataset.save_as(path)
    source, mask = open_volume(path), some_mask((5, 6, 8))
    write_dicom_seg(tmp_path / "s.dcm", mask, path, segments=SEGMENTS)
    check(tmp_path / "s.dcm", mask, source, {20: "L1", 21: "L2 vertebral body"})
    check_grid(tmp_path / "s.dcm", mask, source)
    again = pydicom.dcmread(tmp_path / "s.dcm")
    assert again.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID == f"{SERIES}.9"


def test_a_single_slice(tmp_path: Path) -> None:
    source = open_volume(series(tmp_path / "a", planes=1))
    mask = np.full((1, 6, 8), 3, np.int64)
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments={3: "L3"})
    check(tmp_path / "s.dcm", mask, source, {3: "L3"})


def test_mask_from_axial_slices(tmp_path: Path) -> None:
    source = open_volume(series(tmp_path / "a", row=(0, 1, 0), column=(0, 0, -1)))
    axial = AxialVolume(source)
    threshold = axial.read() > -850
    write_dicom_seg(tmp_path / "s.dcm", axial.to_source(threshold), source, segments={1: "lumbar"})
    check(tmp_path / "s.dcm", source.read() > -850, source, {1: "lumbar"})


def test_one_series_of_several(tmp_path: Path) -> None:
    series(tmp_path / "in" / "a")
    series(tmp_path / "in" / "b", edit=tag("SeriesInstanceUID", f"{SERIES}.2", -1), origin=(0, 0, 0))
    mask = some_mask((7, 6, 8))
    with pytest.raises(SeveralVolumesError, match="choose a series by its UID"):
        write_dicom_seg(tmp_path / "s.dcm", mask, tmp_path / "in", segments=SEGMENTS)
    source = f"{tmp_path / 'in'}::{SERIES}.2"
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=SEGMENTS)
    check(tmp_path / "s.dcm", mask, open_volume(source), {20: "L1", 21: "L2 vertebral body"})
    assert pydicom.dcmread(tmp_path / "s.dcm").ReferencedSeriesSequence[0].SeriesInstanceUID == f"{SERIES}.2"


def test_beside_its_source_it_disturbs_nobody(tmp_path: Path) -> None:
    folder = series(tmp_path / "a")
    write_dicom_seg(folder / "seg.dcm", some_mask((7, 6, 8)), folder, segments=SEGMENTS)
    np.testing.assert_array_equal(open_volume(folder).read(), hounsfield(7))
    assert [one.is_image for one in find_series(folder)] == [True, False]
    with pytest.raises(InputError, match="is a Segmentation, not a scan"):
        open_volume(folder / "seg.dcm")


def test_real_series(sample_data: Path, tmp_path: Path) -> None:
    """Siemens, JPEG 2000. Its UIDs were taken out when it was published, which is refused; put back, it works."""
    folder = sample_data / "ct-totalseg-siemens-dicom"
    published, stored = open_volume(folder / "dicom"), open_volume(folder / "seg_dicom.nii.gz")
    labels = np.where(np.isin(stored.read(), (32, 33)), stored.read(), 0).astype(np.uint8)
    # the masks' file holds planes in the same order, rows and columns too, as its affine says
    np.testing.assert_allclose(AxialVolume(stored).affine_lps, AxialVolume(published).affine_lps, atol=1e-3)
    mask = AxialVolume(published).to_source(AxialVolume(stored).read())
    mask = np.where(np.isin(mask, (32, 33)), mask, 0).astype(np.uint8)
    assert mask.sum() == labels.sum() > 0
    segments = {33: "T11", 32: "T12"}
    with pytest.raises(InputError, match=r"states no StudyInstanceUID: .* write the mask as NIfTI"):
        write_dicom_seg(tmp_path / "s.dcm", mask, published, segments=segments)
    (tmp_path / "in").mkdir()
    for number, file in enumerate(sorted((folder / "dicom").iterdir())):
        dataset = pydicom.dcmread(file)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = STUDY, SERIES
        dataset.SOPInstanceUID = f"{SERIES}.{number}"
        dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
        dataset.save_as(tmp_path / "in" / f"{number}.dcm")
    source = open_volume(tmp_path / "in")
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=segments)
    check(tmp_path / "s.dcm", mask, source, segments)
    check_grid(tmp_path / "s.dcm", mask, source)
    content = (tmp_path / "s.dcm").read_bytes()
    for secret in (b"PETCT2", b"Basel", b"20221208", b"30543134", b"SIEMENS"):
        assert secret not in content
    # ITK's reader knows nothing of where a segmentation's frames lie, but unpacks its bits
    itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "s.dcm")))
    assert int(itk.astype(bool).sum()) == int((mask > 0).sum())


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID"])
def test_a_series_without_uids_is_refused(name: str, tmp_path: Path) -> None:
    source = series(tmp_path / "a", edit=tag(name, "", -1))
    with pytest.raises(InputError, match=rf"IM\d+.dcm: states no {name}: .* write the mask as NIfTI"):
        write_dicom_seg(tmp_path / "s.dcm", some_mask((7, 6, 8)), source, segments=SEGMENTS)
    assert not (tmp_path / "s.dcm").exists()


@pytest.mark.parametrize(
    ("name", "value", "cause"),
    [("SOPInstanceUID", f"{SERIES}.1", "states the SOPInstanceUID of"), ("StudyInstanceUID", SERIES, "differs from")],
)
def test_slices_that_cannot_be_told_apart_are_refused(name: str, value: str, cause: str, tmp_path: Path) -> None:
    source = series(tmp_path / "a", edit=tag(name, value, 3))
    with pytest.raises(InputError, match=cause):
        write_dicom_seg(tmp_path / "s.dcm", some_mask((7, 6, 8)), source, segments=SEGMENTS)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ({"mask": np.zeros((7, 6, 8), bool)}, "mask: is empty"),
        ({"mask": np.ones((6, 6, 8), bool)}, r"is \(7, 6, 8\) voxels; the mask is \(6, 6, 8\)"),
        ({"mask": np.ones((7, 6, 8))}, "mask: must hold whole numbers, got float64"),
        ({"mask": np.full((7, 6, 8), 7)}, r"mask: holds the values \[7\], which are none of \[20, 21, 22\]"),
        ({"mask": np.full((7, 6, 8), -1)}, r"mask: holds the values \[-1\]"),
        ({"segments": {}}, "segments: must name 1 to 255 values above 0"),
        ({"segments": {0: "L1", 20: "L2", 21: "L3"}}, "segments: must name 1 to 255 values above 0"),
        ({"segments": {20: "L1", 21: "Jane"}}, "segments: must be labels such as 'L1'.*, got 'Jane'"),
        ({"segments": {20: "L7", 21: "L2"}}, "segments: must be labels of vertebrae that there are, got 'L7'"),
        ({"segments": {20: "", 21: "L2"}}, "segments: must be labels such as"),
        ({"segments": {20: "L1", 21: "L1"}}, "segments: name 'L1' twice"),
        ({"pseudonym": "a\\b"}, "pseudonym: must be 1 to 64 characters"),
        ({"pseudonym": "P" * 65}, "pseudonym: must be 1 to 64 characters"),
        ({"algorithm": " "}, "algorithm: must be 1 to 64 characters"),
        ({"description": "Wirbelkörper"}, "description: must be plain ASCII"),
        ({"pseudonym": "P", "keep_identifiers": True}, "pseudonym: cannot be given where identifiers are kept"),
    ],
)
def test_what_cannot_be_written_is_refused(options: dict[str, Any], cause: str, tmp_path: Path) -> None:
    given = {"mask": some_mask((7, 6, 8)), "source": series(tmp_path / "a"), "segments": SEGMENTS, **options}
    with pytest.raises(InputError, match=cause):
        write_dicom_seg(tmp_path / "s.dcm", **given)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_source_that_is_no_series_is_refused(sample_data: Path, tmp_path: Path) -> None:
    nifti = sample_data / "ct-verse014-lumbar" / "sub-verse014_ct.nii.gz"
    view = AxialVolume(open_volume(series(tmp_path / "a")))
    for source in (nifti, view):
        with pytest.raises(InputError, match=r"is no DICOM series, or a view of one: .* write the mask as NIfTI"):
            write_dicom_seg(tmp_path / "s.dcm", np.ones((7, 6, 8), bool), source, segments={1: "L1"})


def test_what_is_there_is_kept_unless_told_otherwise(tmp_path: Path) -> None:
    (tmp_path / "s.dcm").write_text("mine")
    source, mask = series(tmp_path / "a"), some_mask((7, 6, 8))
    with pytest.raises(OutputError, match="exists already"):
        write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=SEGMENTS)
    assert (tmp_path / "s.dcm").read_text() == "mine"
    write_dicom_seg(tmp_path / "s.dcm", mask, source, segments=SEGMENTS, overwrite=True)
    assert pydicom.dcmread(tmp_path / "s.dcm").Modality == "SEG"


def test_without_highdicom_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(InputError, match=r"need the extra clinical: pip install 'bonemonai\[clinical\]'"):
        write_dicom_seg(tmp_path / "s.dcm", np.ones((1, 1, 1), bool), tmp_path, segments={1: "L1"})
