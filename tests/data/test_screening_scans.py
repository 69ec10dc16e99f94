from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bonemonai.data import list_screening_scans
from bonemonai.errors import InputError
from tests import lumbar_files
from tests.dicom_files import tag, write_series


def test_one_file_is_one_scan(tmp_path: Path) -> None:
    path = lumbar_files.write_nifti(tmp_path / "Smith.nii", lumbar_files.mask_in_axial_order())
    (scan,) = list_screening_scans(path, units="HU")
    assert (scan.name, scan.subject, scan.image, scan.units, scan.slices) == ("scan_0000", "subject_00", path, "HU", ())


def test_a_manifest_chooses_slices_by_its_masks(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(path, split="val", levels=lumbar_files.LEVELS, per_level=1)
    assert [(scan.name, scan.subject, scan.label) for scan in scans] == [
        ("scan_0003", "subject_03", "normal"), ("scan_0004", "subject_04", "low bone mass"),
    ]  # fmt: skip
    assert scans[0].slices == ((5, "L3"), (13, "L2"))
    assert list_screening_scans(path, split="val", choose=False)[0].slices == ()
    assert len(list_screening_scans(path)) == 6


def test_a_manifest_chooses_slices_by_rows(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 2, split=["test", "test"])
    lines = path.read_text().splitlines()
    rows = [f"{line},{plane}" for line in lines[1:] for plane in (7, 3)]
    path.write_text("\n".join([f"{lines[0]},plane", *rows]))
    scans = list_screening_scans(path)
    assert [scan.slices for scan in scans] == [((3, ""), (7, ""))] * 2
    assert [scan.name for scan in scans] == ["scan_0000", "scan_0002"]


def test_each_series_of_a_folder_is_a_scan_and_patients_are_told_apart(tmp_path: Path) -> None:
    values = np.zeros((4, 8, 8), dtype=np.int16)
    for name, patient in (("a", "P1"), ("b", "P2"), ("c", "P1")):

        def edit(dataset: object, index: int, name: str = name, patient: str = patient) -> None:
            dataset.SeriesInstanceUID = f"1.2.3.{ord(name)}"  # type: ignore[attr-defined]
            dataset.PatientID = patient  # type: ignore[attr-defined]

        write_series(tmp_path / name, values, edit=edit)
    scans = list_screening_scans(tmp_path)
    assert [scan.subject for scan in scans] == ["subject_00", "subject_01", "subject_00"]
    assert [scan.image.rsplit(".", 1)[-1] for scan in scans] == ["97", "98", "99"]
    assert "P1" not in "".join(scan.name + scan.subject for scan in scans)


def test_a_localizer_is_left_out_and_alone_refused(tmp_path: Path) -> None:
    values = np.zeros((2, 8, 8), dtype=np.int16)
    write_series(tmp_path / "a", values)
    localizer = tag("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], 0)

    def edit(dataset: object, index: int) -> None:
        localizer(dataset, 0)
        dataset.SeriesInstanceUID = "1.2.3.4"  # type: ignore[attr-defined]

    write_series(tmp_path / "b", values, edit=edit)
    assert len(list_screening_scans(tmp_path)) == 1
    with pytest.raises(InputError, match="no series of images"):
        list_screening_scans(tmp_path / "b")


def test_the_real_series(sample_data: Path) -> None:
    (scan,) = list_screening_scans(sample_data / "ct-totalseg-siemens-dicom" / "dicom")
    # its headers state no SeriesInstanceUID
    assert (scan.name, scan.image) == ("scan_0000", str(sample_data / "ct-totalseg-siemens-dicom" / "dicom"))


def test_rows_of_one_image_must_agree(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 2)
    lines = path.read_text().splitlines()
    header, first = lines[0], lines[1]
    for rows, words in (
        ([f"{first},", f"{first},5"], "rows with a plane and rows without"),
        ([f"{first},4", first.replace("normal", "osteoporosis") + ",5"], "more than one label"),
        ([f"{first},4", first.replace("Smith^0", "Jones^1") + ",5"], "more than one"),
    ):
        path.write_text("\n".join([f"{header},plane", *rows]))
        with pytest.raises(InputError, match=words):
            list_screening_scans(path)


def test_words_of_a_manifest_do_not_reach_results(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 2, level=["L1", "SMITH JOHN 1950"])
    with pytest.raises(InputError, match="column 'level' must be one of L1, L2"):
        list_screening_scans(path)
    with pytest.raises(InputError, match="column 'label' must be one of normal"):
        list_screening_scans(lumbar_files.write_manifest(tmp_path, 2, label=["normal", "Smith"]))


def test_scans_with_and_without_a_mask_stand_in_one_manifest(tmp_path: Path) -> None:
    path = lumbar_files.write_manifest(tmp_path, 2, mask=["mask0.nii", ""], label=["normal", ""])
    scans = list_screening_scans(path, levels=lumbar_files.LEVELS)
    assert [bool(scan.slices) for scan in scans] == [True, False]
    assert [scan.label for scan in scans] == ["normal", ""]
    with pytest.raises(InputError, match="has no split"):
        list_screening_scans(tmp_path / "scan0.nii", split="test")
