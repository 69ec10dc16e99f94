from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from bonemonai.data import AxialVolume, open_volume, read_acquisition
from bonemonai.data.acquisition import clean_text
from bonemonai.data.cropped_volume import CroppedVolume
from bonemonai.data.selected_planes import SelectedPlanes
from bonemonai.errors import SeveralVolumesError
from tests.dicom_files import SERIES, Edit, hounsfield, write_enhanced, write_series

# of each kind that must not come through, a text that nothing else holds
PLANTED = {
    "PatientName": "Planted^Name", "PatientID": "PLANTED1", "PatientBirthDate": "19510203", "PatientSex": "F",
    "AccessionNumber": "PLANTED2", "StudyDate": "20210405", "SeriesDate": "20210406", "StudyID": "PLANTED3",
    "InstitutionName": "Planted clinic", "StationName": "PLANTED4", "ReferringPhysicianName": "Planted^Doctor",
    "DeviceSerialNumber": "PLANTED5", "StudyDescription": "Planted study", "SeriesDescription": "Planted series",
    "ProtocolName": "Planted protocol", "StudyInstanceUID": f"{SERIES}.424242", "ImageComments": "Planted comment",
    "PatientAge": "069Y", "OperatorsName": "Planted^Operator", "ContrastBolusAgent": "Planted agent 300",
}  # fmt: skip


def edits(**values: Any) -> Edit:
    """Set elements; what is a list holds a value for each plane."""

    def edit(dataset: Dataset, plane: int) -> None:
        for name, value in values.items():
            setattr(dataset, name, value[plane] if isinstance(value, list) else value)

    return edit


def test_what_a_series_says(tmp_path: Path) -> None:
    stated = edits(
        KVP="120", ConvolutionKernel=["Br38f\\3"] * 5, Manufacturer="SIEMENS", ManufacturerModelName="Model 4R",
        XRayTubeCurrent=[100, 150, 120, 90, 110], Exposure="253", PatientPosition="HFS",
    )  # fmt: skip
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(), edit=stated))
    assert dataclasses.asdict(found) == {
        "format": "DICOM", "modality": "CT", "kvp": 120.0, "kernel": "Br38f, 3", "manufacturer": "SIEMENS",
        "model": "Model 4R", "tube_current_ma": (90.0, 150.0), "exposure_mas": (253.0, 253.0),
        "pixel_spacing_mm": (1.5, 1.25), "slice_interval_mm": 2.0, "slice_thickness_mm": 3.0, "contrast": "unknown",
        "patient_position": "HFS", "remarks": (),
    }  # fmt: skip


def test_what_is_not_stated_is_none(tmp_path: Path) -> None:
    empty = edits(KVP="", Manufacturer="", PatientPosition="JANE", XRayTubeCurrent=0, ContrastBolusAgent="")
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(), edit=empty))
    for name in ("kvp", "kernel", "manufacturer", "model", "tube_current_ma", "exposure_mas", "patient_position"):
        assert getattr(found, name) is None
    assert (found.contrast, found.remarks) == ("unknown", ())


def test_a_value_that_is_none_is_not_stated(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield(), edit=edits(KVP="120"))
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"DS\x04\x00120 ", b"DS\x04\x0012O "))
    assert read_acquisition(folder).kvp is None


def test_what_slices_do_not_agree_on_is_reported(tmp_path: Path) -> None:
    odd = edits(
        KVP=["120", "120", "100", "120", ""], ConvolutionKernel=["B30f", "B60s", "B30f", "B30f", "B30f"],
        SliceThickness=["3", "3", "3", "3", "5"], ContrastBolusAgent=["", "", "Iomeron", "", ""],
        Manufacturer=[f"Maker {plane}" for plane in range(5)],
    )  # fmt: skip
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(), edit=odd))
    assert (found.kvp, found.kernel, found.slice_thickness_mm, found.manufacturer) == (None,) * 4
    # given is given
    assert found.contrast == "yes"
    assert set(found.remarks) == {
        "kVp differs between slices: 120 on 3, 100 on 1, not stated on 1.",
        "reconstruction kernel differs between slices: B30f on 4, B60s on 1.",
        "slice thickness (mm) differs between slices: 3 on 4, 5 on 1.",
        "contrast agent differs between slices: unknown on 4, yes on 1.",
        "manufacturer differs between slices: Maker 0 on 1, Maker 1 on 1, Maker 2 on 1, Maker 3 on 1, and others.",
    }


@pytest.mark.parametrize(
    ("agent", "contrast"),
    [("Iomeron 300", "yes"), ("APPLIED", "yes"), ("ORAL & IV", "yes"), ("", "unknown"), (" ", "unknown"),
     ("None", "no"), ("NO", "no"), ("no contrast", "no"), ("w/o", "no"), ("nativ.", "no"), ("-", "unknown")],
)  # fmt: skip
def test_contrast_without_its_text(agent: str, contrast: str, tmp_path: Path) -> None:
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(2), edit=edits(ContrastBolusAgent=agent)))
    assert found.contrast == contrast


@pytest.mark.parametrize(("volume_ml", "contrast"), [("0", "unknown"), ("90", "yes")])
def test_contrast_by_its_volume(volume_ml: str, contrast: str, tmp_path: Path) -> None:
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(2), edit=edits(ContrastBolusVolume=volume_ml)))
    assert found.contrast == contrast


def test_no_identifier_comes_through(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "Planted-folder", hounsfield(), edit=edits(**PLANTED, KVP="100"))
    text = json.dumps(dataclasses.asdict(read_acquisition(folder)))
    planted = [value for name, value in PLANTED.items() if name != "PatientSex"]
    for value in (*planted, "planted", SERIES, "2021", "1951", str(tmp_path), '"F"'):
        assert value.lower() not in text.lower()
    assert '"kvp": 100.0' in text


def test_enhanced_multi_frame(tmp_path: Path) -> None:
    path = write_enhanced(tmp_path / "a.dcm", hounsfield(), order=[3, 0, 4, 1, 2])
    dataset = dcmread(path)
    details, reconstruction = Dataset(), Dataset()
    details.KVP, reconstruction.ConvolutionKernel = "140", "BONE"
    dataset.SharedFunctionalGroupsSequence[0].CTXRayDetailsSequence = [details]
    dataset.SharedFunctionalGroupsSequence[0].CTReconstructionSequence = [reconstruction]
    for frame, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
        exposure = Dataset()
        exposure.XRayTubeCurrentInmA, exposure.ExposureInmAs = 200.0 + frame, 50.0
        group.CTExposureSequence = [exposure]
    agent = Dataset()
    agent.CodeMeaning = "Iomeprol"
    dataset.ContrastBolusAgentSequence = [agent]
    dataset.save_as(path)
    found = read_acquisition(path)
    assert (found.kvp, found.kernel, found.contrast, found.remarks) == (140.0, "BONE", "yes", ())
    assert (found.tube_current_ma, found.exposure_mas) == ((200.0, 204.0), (50.0, 50.0))
    assert (found.slice_interval_mm, found.slice_thickness_mm) == (2.0, 2.0)
    # a frame of its own overrules what they share
    own = Dataset()
    own.KVP = "80"
    dataset.PerFrameFunctionalGroupsSequence[1].CTXRayDetailsSequence = [own]
    dataset.save_as(path)
    assert read_acquisition(path).remarks == ("kVp differs between slices: 140 on 4, 80 on 1.",)


def test_only_the_chosen_series(tmp_path: Path) -> None:
    write_series(tmp_path / "a", hounsfield(), edit=edits(KVP="120"))
    write_series(tmp_path / "b", hounsfield(), edit=edits(KVP="100", SeriesInstanceUID=f"{SERIES}.2"))
    with pytest.raises(SeveralVolumesError):
        read_acquisition(tmp_path)
    found = read_acquisition(f"{tmp_path}::{SERIES}.2")
    assert (found.kvp, found.remarks) == (100.0, ())


def test_of_a_view_the_scan_that_it_views(tmp_path: Path) -> None:
    volume = open_volume(write_series(tmp_path / "a", hounsfield(), edit=edits(KVP="120")))
    cropped = CroppedVolume(AxialVolume(volume), (0, 0, 0), (1, 2, 2))
    for view in (volume, cropped, SelectedPlanes(AxialVolume(volume), [0, 2])):
        found = read_acquisition(view)
        assert (found.kvp, found.slice_interval_mm) == (120.0, 2.0)


def test_one_slice_has_no_interval(tmp_path: Path) -> None:
    found = read_acquisition(write_series(tmp_path / "a", hounsfield(1)))
    assert (found.slice_interval_mm, found.slice_thickness_mm, found.pixel_spacing_mm) == (None, 3.0, (1.5, 1.25))


def test_other_formats_have_their_geometry_only(sample_data: Path) -> None:
    found = read_acquisition(sample_data / "ct-verse014-lumbar" / "sub-verse014_ct.nii.gz")
    assert (found.format, found.contrast) == ("NIfTI", "unknown")
    assert found.pixel_spacing_mm == pytest.approx((1, 1))
    assert found.slice_interval_mm == pytest.approx(2)
    stated = {k: v for k, v in dataclasses.asdict(found).items() if v not in (None, ())}
    assert set(stated) == {"format", "contrast", "pixel_spacing_mm", "slice_interval_mm"}


def test_unknown_voxel_size(lhdl: Path) -> None:
    found = read_acquisition(lhdl)
    assert (found.format, found.pixel_spacing_mm, found.slice_interval_mm) == ("TIFF folder", None, None)


def test_real_series(sample_data: Path) -> None:
    found = read_acquisition(sample_data / "ct-totalseg-siemens-dicom" / "dicom")
    assert (found.kvp, found.kernel, found.manufacturer, found.model) == (
        120.0, "Br38f, 3", "SIEMENS", "Biograph40_mCT 4R",
    )  # fmt: skip
    # the tag says 3 mm thick, positions say 2 mm apart
    assert (found.slice_thickness_mm, found.slice_interval_mm) == (3.0, 2.0)
    assert (found.contrast, found.patient_position, found.remarks) == ("yes", "HFS", ())
    assert found.exposure_mas == (253.0, 254.0)


@pytest.mark.parametrize(
    ("value", "clean"),
    [
        (None, None),
        ("", None),
        (" \x00\x1b\n", None),
        ("a\x00b\r\nc\u202ed\u200be", "a b c d e"),
        (["Br38f", None, "3"], "Br38f, 3"),
        ("x" * 100, "x" * 64),
        ("<b>", "<b>"),
        ("Größe", "Größe"),
        (120, "120"),
    ],
)
def test_text_is_fit_for_a_page(value: Any, clean: str | None) -> None:
    assert clean_text(value) == clean
