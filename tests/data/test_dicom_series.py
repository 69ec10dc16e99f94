from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from bonemonai.data import dicom_series, open_volume
from bonemonai.data.dicom_series import find_series
from bonemonai.errors import InputError, SeveralVolumesError
from tests.dicom_files import SERIES, hounsfield, tag, write_series


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
    (folder / "README").write_text("hello; 1.2.840.10008.1.2.1.99 is deflated")
    (folder / "Smith_John_report.pdf").write_text("hello " * 100)
    volume = open_volume(folder)
    assert volume.warnings == ["2 file(s) beside the slices are ignored."]  # without their names
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


def test_tiff_among_dicom_files_is_refused(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    (folder / "preview.tif").write_bytes(b"")
    with pytest.raises(InputError, match="is DICOM in a folder of TIFF files"):
        open_volume(folder)


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


def test_series_that_cannot_be_read_is_not_passed_over_for_another(tmp_path: Path) -> None:
    def other(dataset: Dataset, plane: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    write_series(tmp_path / "a", hounsfield(), edit=tag("RescaleSlope", None, -1))
    write_series(tmp_path / "a" / "b", hounsfield(2), edit=other)
    with pytest.raises(SeveralVolumesError) as refusal:
        open_volume(tmp_path / "a")
    assert any("states no RescaleSlope" in choice for choice in refusal.value.choices)


def test_slice_that_was_not_fetched_is_missed(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "a", hounsfield(), shuffled=False)
    (folder / "IM0004.dcm").unlink()
    (folder / "IM0004.dcm").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"IM0004\.dcm: is a link to a file that is not there"):
        open_volume(folder)


@pytest.fixture
def headers_read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose headers are read, in order."""
    read: list[str] = []
    real = dicom_series.read_header
    monkeypatch.setattr(dicom_series, "read_header", lambda file: (read.append(file.name), real(file))[1])
    dicom_series._last_series.cache_clear()
    return read


def test_headers_of_a_folder_are_read_once_for_all_its_series(
    tmp_path: Path, headers_read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dicom_series, "_SETTLED_S", -60.0)

    def other(dataset: Dataset, plane: int) -> None:
        dataset.SeriesInstanceUID = "1.2.3"

    folder = tmp_path / "a"
    write_series(folder / "one", hounsfield())
    write_series(folder / "two", hounsfield(3) + 7, edit=other)
    for _ in range(3):
        np.testing.assert_array_equal(open_volume(f"{folder}::{SERIES}").read(), hounsfield())
        np.testing.assert_array_equal(open_volume(f"{folder}::1.2.3").read(), hounsfield(3) + 7)
    assert len(headers_read) == 8
    # a file is written to: of the same size, under the same name, with the same time stamp
    changed = sorted((folder / "two").glob("*.dcm"))[0]
    before = changed.stat()
    changed.write_bytes(changed.read_bytes().replace(b"1.2.3\0", b"1.2.4\0"))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=r"holds no series 9; .*1\.2\.4"):
        open_volume(f"{folder}::9")
    assert len(headers_read) == 16
    # a file goes
    changed.unlink()
    with pytest.raises(InputError, match="holds no series 1"):
        open_volume(f"{folder}::1.2.4")
    assert len(headers_read) == 23
    # another folder takes the place of the last
    for place in (folder / "one", folder, folder / "one"):
        assert len(find_series(place)) == (2 if place == folder else 1)
    assert len(headers_read) == 23 + 5 + 7 + 5
    assert find_series(folder / "one") is not find_series(folder / "one")


def test_a_folder_that_was_written_just_now_is_not_remembered(tmp_path: Path, headers_read: list[str]) -> None:
    folder = write_series(tmp_path / "a", hounsfield())
    for _ in range(2):
        find_series(folder)
    assert len(headers_read) == 10
