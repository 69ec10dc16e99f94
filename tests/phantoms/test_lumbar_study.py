from __future__ import annotations

import json
import shutil
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from bonemonai.__main__ import main
from bonemonai.data import open_volume, read_data_card, read_manifest
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms import LumbarAnatomy, LumbarCT, lumbar_cases, write_lumbar_study
from bonemonai.phantoms.lumbar_acquisition import VENDORS
from bonemonai.phantoms.lumbar_subject import VBMD_RANGES

CLASSES = list(VBMD_RANGES)
SMALL: dict[str, Any] = {"subjects": 3, "seed": 4, "matrix": 96, "levels": ("L1", "L2"), "interval_mm": 8.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lumbar_study(tmp_path_factory.mktemp("lumbar"), **SMALL)


def test_study_reads_back_as_scanned(path: Path) -> None:
    rows = read_manifest(path, classes=CLASSES).to_dict("records")
    cases = lumbar_cases(3, 4, interval_mm=8.0)
    assert sorted(row["label"] for row in rows) == sorted(CLASSES)
    assert {row["site"] for row in rows} == set(VENDORS)
    for row, case in zip(rows, cases, strict=True):
        ct = LumbarCT(LumbarAnatomy(case.subject), case.acquisition, matrix=96, levels=("L1", "L2"))
        scan, volume = ct.scan(), open_volume(row["image"])
        np.testing.assert_array_equal(volume.read(), scan.hu)
        np.testing.assert_allclose(volume.affine_lps, scan.affine_lps, atol=1e-6)
        corner = np.array([*volume.shape, 1.0])
        for name, expected in (("mask", scan.mask), ("vertebrae", scan.vertebrae)):
            labels = open_volume(path.parent / row["patient"] / f"{name}.nii.gz")
            # NIfTI's planes may run the other way: compare by places in space
            to_scan = np.linalg.inv(volume.affine_lps) @ labels.affine_lps
            np.testing.assert_allclose(to_scan @ corner, corner, atol=0.02)
            np.testing.assert_array_equal(labels.read(), expected)


def test_manifest_is_balanced_and_relative(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "patient,image,mask,vertebrae,label,split,site"
    assert lines[1].startswith(
        "phantom-0001,phantom-0001/dicom,phantom-0001/mask.nii.gz,phantom-0001/vertebrae.nii.gz,"
    )


def test_truth_and_card(path: Path) -> None:
    for row in read_manifest(path, label_is_path=False).to_dict("records"):
        truth = json.loads((path.parent / row["patient"] / "truth.json").read_text())
        low, high = VBMD_RANGES[row["label"]]
        assert low < truth["vbmd_mg_cm3"] < high
        levels = truth["vbmd_mg_cm3_by_level"]
        assert (levels["L1"] + levels["L2"]) / 2 == pytest.approx(truth["vbmd_mg_cm3"], abs=0.02)
        assert truth["vendor"] == row["site"]
        assert set(truth["trabecular_hu_by_level"]) >= {"L1", "L2"}
    card = read_data_card(path)
    assert (card["kind"], card["licence"], card["seed"]) == ("synthetic", "Apache-2.0", 4)
    assert card["patients"] == dict.fromkeys(CLASSES, 1)


def test_identifiers_are_in_dicom_and_nowhere_else(path: Path) -> None:
    said = "".join(file.read_text() for file in path.parent.rglob("*") if file.suffix in (".csv", ".json"))
    for folder in path.parent.glob("phantom-*/dicom"):
        ds = pydicom.dcmread(next(folder.iterdir()), stop_before_pixels=True)
        for word in (
            "PatientName",
            "PatientID",
            "PatientBirthDate",
            "AccessionNumber",
            "StudyInstanceUID",
            "StudyDate",
        ):
            assert len(str(ds[word].value)) > 4
            assert str(ds[word].value) not in said
    assert "ZZFAKE" not in said
    assert str(path.parent) not in said


def test_a_seed_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    write_lumbar_study(tmp_path, **SMALL)
    files = [f.relative_to(tmp_path) for f in sorted(tmp_path.rglob("*")) if f.is_file() and f.suffix != ".lock"]
    assert len(files) > 30
    for file in files:
        assert (tmp_path / file).read_bytes() == (path.parent / file).read_bytes()


def test_what_was_stopped_is_continued_and_another_study_is_kept(tmp_path: Path) -> None:
    small = {**SMALL, "subjects": 2, "levels": ("L2",), "matrix": 48}
    path = write_lumbar_study(tmp_path, **small)
    kept, lost = tmp_path / "phantom-0001", tmp_path / "phantom-0002"
    before = (kept / "truth.json").stat().st_mtime_ns
    path.unlink()
    (lost / "truth.json").unlink()
    shutil.rmtree(lost / "dicom")
    write_lumbar_study(tmp_path, **small)
    assert (kept / "truth.json").stat().st_mtime_ns == before
    assert len(read_manifest(path, label_is_path=False)) == 2
    for other in ({"seed": 5}, {"matrix": 64}):
        with pytest.raises(OutputError, match="is of another study; choose another folder, or say overwrite"):
            write_lumbar_study(tmp_path, **{**small, **other})
    write_lumbar_study(tmp_path, **{**small, "matrix": 64}, overwrite=True)
    assert open_volume(kept / "dicom").shape[1:] == (64, 64)


def best_thresholds(values: NDArray[Any], classes: NDArray[Any]) -> tuple[float, float]:
    """The two that part three classes best; class 0 is highest."""
    return max(combinations(np.unique(values), 2), key=lambda pair: np.mean(by_thresholds(values, *pair) == classes))


def by_thresholds(values: NDArray[Any], low: float, high: float) -> NDArray[Any]:
    return 2 - (values >= low).astype(int) - (values >= high)


def test_hounsfield_units_alone_confuse_the_classes() -> None:
    """Thresholds on the mean within the truth's own mask: far above chance, and far from right."""
    means, classes, native = [], [], []
    for case in lumbar_cases(90, 1, interval_mm=20.0):
        ct = LumbarCT(LumbarAnatomy(case.subject), case.acquisition, matrix=64, levels=("L2",), field_of_view_mm=90)
        scan = ct.scan()
        means.append(scan.hu[scan.mask == 21].mean())
        classes.append(CLASSES.index(case.subject.label))
        native.append(case.acquisition.kvp == 120 and case.acquisition.contrast == 0)
    values, truth = np.array(means), np.array(classes)
    train = np.arange(90) % 3 > 0
    pair = best_thresholds(values[train], truth[train])
    assert 0.55 < np.mean(by_thresholds(values[train], *pair) == truth[train]) < 0.85
    assert 0.45 < np.mean(by_thresholds(values[~train], *pair) == truth[~train]) < 0.85
    # one way of scanning, and they would do
    same = np.array(native)
    pair = best_thresholds(values[same], truth[same])
    assert np.mean(by_thresholds(values[same], *pair) == truth[same]) > 0.8


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--subjects 1 --matrix 48 --levels L3 --interval 12 --seed 2"
    with pytest.raises(SystemExit) as stop:
        main(["lumbar-phantom", str(tmp_path / "study"), *options.split()])
    assert not stop.value.code
    assert f"manifest: {tmp_path / 'study' / 'manifest.csv'}" in capsys.readouterr().out
    assert open_volume(tmp_path / "study" / "phantom-0001" / "dicom").shape[1:] == (48, 48)


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"subjects": 0}, "subjects: must be >= 1, got 0"),
        ({"splits": (0.5, 0.5)}, "splits: must be three shares"),
        ({"vendors": ("ACME",)}, "vendors: must be some of .*, got ACME"),
        ({"seed": -1}, "seed: must be >= 0"),
        ({"interval_mm": 0.0}, "interval_mm: must be within"),
        ({"levels": ("T12",)}, "levels: must be some of"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path: Path, wrong: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        write_lumbar_study(tmp_path / "study", **{**SMALL, **wrong})
    assert not (tmp_path / "study").exists()
