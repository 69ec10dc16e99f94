from __future__ import annotations

import pytest

from bonemonai.sharing.identifiers import find_identifier
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('"dataset_dir": "/home/maria/scans"', "an absolute path"),
        ("see /data/study/P01.", "an absolute path"),
        ('"path": "\\/mnt\\/pacs\\/x"', "an absolute path"),
        ("C:\\Users\\maria\\scans", "an absolute path"),
        ('"x": "C:\\\\Users\\\\maria\\\\scans"', "an absolute path"),
        ("\\\\server\\share\\x", "an absolute path"),
        ("file:///data", "an absolute path"),
        ("--out=/srv/x/y", "an absolute path"),
        ("(/opt/data/x)", "an absolute path"),
        ('"x": "/root"', "a folder of a user"),
        ('"PatientName": "DOE"', "an identifier of DICOM"),
        ("PatientID: 4711", "an identifier of DICOM"),
        ("'AccessionNumber': 'A1'", "an identifier of DICOM"),
        ("PatientBirthDate=19500101", "an identifier of DICOM"),
        ("scan of DOE^JOHN", "a person's name of DICOM"),
        ("date of birth: 1950-01-31", "a date of birth"),
        ("born 31.01.1950", "a date of birth"),
        ('"birth_date": "01/31/1950"', "a date of birth"),
    ],
)
def test_found(text: str, what: str) -> None:
    found = find_identifier(f"first\nsecond {text}\nthird")
    assert found is not None
    assert (found.line, found.what) == (2, what)
    assert len(found.begins) <= 4


@pytest.mark.parametrize(
    "text",
    [
        "and/or, 1/2/3, km/h", "https://example.org/a/b/c", "bundles/lumbar/configs/train.json", "</td> <br/>",
        "/path/to/weights.pt", "'/path/resnet50.pth'", "pathlib.Path(@root) / 'a' / 'b'",
        "@dataset_dir + '/imagesTr/a'", "2^20, x^2", '"PatientID": null', '"PatientID": "@patient"',
        "the tags PatientName and PatientID are left out",
        "published 2019-01-31", "10.1016/j.bone.2020.115/x", "~/scans", "s3://bucket/a/b",
    ],
)  # fmt: skip
def test_not_found(text: str) -> None:
    assert find_identifier(text) is None


def test_the_projects_own_bundles_hold_none() -> None:
    for path in (ROOT / "bundles").rglob("*"):
        if path.suffix in (".json", ".md", ".txt", ".conf"):
            assert find_identifier(path.read_text()) is None, path
