from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydicom.dataset import Dataset
from scipy.special import softmax
from torch import nn

from bonemonai.analysis import SCREENING_CLASSES, ScreeningResults, ScreeningRules, screening_record
from bonemonai.analysis.screening_decision import BAND, SURE
from bonemonai.data import list_screening_scans, open_volume
from bonemonai.data.axial_volume import AxialVolume
from bonemonai.data.pixel_digest import pixel_digest
from bonemonai.data.screening_scans import ScreeningScan
from bonemonai.engines.scan_screening import ScreenedScan
from bonemonai.errors import BatchError, InputError, OutputError
from tests import dicom_files, lumbar_files
from tests.engines.test_lumbar_screening import engine

LOGITS = [f"logit_{name}" for name in SCREENING_CLASSES]
PROBABILITIES = [f"probability_{name}" for name in SCREENING_CLASSES]
PLANTED = {
    "PatientName": "Doe^Jane", "PatientID": "PID0815", "PatientBirthDate": "19531224", "AccessionNumber": "ACC4711",
    "StudyDate": "20210317", "ReferringPhysicianName": "Quincy^Dr", "InstitutionName": "Mercy General",
}  # fmt: skip
IN_MARK = ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "StudyDate", "ReferringPhysicianName")
ABOUT: dict[str, Any] = {"seed": 3, "weights": {"sha256": "ab"}, "segmentation": {"sha256": "cd"}}


class Blind(nn.Module):
    """Marks nothing."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(image)


class Ramp(nn.Module):
    """Logits that differ from slice to slice: the mean grey, times ten."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        mean = 10 * image.mean(dim=(1, 2, 3))
        return torch.stack([mean, 9 + torch.zeros_like(mean), 18 - mean], dim=1)


def screen(
    folder: Path, scans: list[ScreeningScan], networks: dict[str, Any] | None = None, **options: Any
) -> tuple[ScreeningResults, Any]:
    """Results, and what the engine gave for the last scan."""
    results = ScreeningResults(folder, **{"about": ABOUT, "erosion_mm": 1.0, **options})
    screening = engine(scans, writer=results, **(networks or {}))
    screening.run()
    return results, screening.state.output


def one_scan(folder: Path, mask: np.ndarray | None = None) -> list[ScreeningScan]:
    mask = lumbar_files.mask_in_axial_order() if mask is None else mask
    return list_screening_scans(
        lumbar_files.write_nifti(folder / "scan.nii", lumbar_files.scan_in_axial_order(mask)), units="HU"
    )


def sagittal_series(folder: Path, **tags: Any) -> Path:
    """The test scan as DICOM whose planes run from left to right, rows downwards, columns backwards."""

    def edit(dataset: Dataset, index: int) -> None:
        dataset.StudyInstanceUID = f"{dicom_files.SERIES}.7"
        for name, value in {**PLANTED, **tags}.items():
            setattr(dataset, name, value)

    axial = lumbar_files.scan_in_axial_order(lumbar_files.mask_in_axial_order())
    stored = np.ascontiguousarray(axial.transpose(2, 0, 1)[::-1, ::-1])
    geometry: dict[str, Any] = {"row": (0, 1, 0), "column": (0, 0, -1), "spacing": (3.0, 1.0), "interval": 1.0}
    return dicom_files.write_series(folder, stored, edit=edit, **geometry)


def outputs(folder: Path) -> dict[str, bytes]:
    """Content of all files, unpacked, and their names."""
    found = {}
    for path in (path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        name = str(path.relative_to(folder))
        found[name] = name.encode() + (gzip.decompress(content) if name.endswith(".gz") else content)
    return found


def record_of(folder: Path, scan: str = "scan_0000") -> dict[str, Any]:
    return dict(json.loads((folder / scan / "screening.json").read_text()))


def test_files_of_a_screening(tmp_path: Path) -> None:
    manifest = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(manifest, split="val", levels=lumbar_files.LEVELS, per_level=2)
    out = tmp_path / "out"
    screen(out, scans)
    for scan in scans:
        assert {path.name for path in (out / scan.name).iterdir()} == {"slices.csv", "mark.nii.gz", "screening.json"}
    predictions = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    slices = [pd.read_csv(out / scan.name / "slices.csv", keep_default_na=False) for scan in scans]
    pd.testing.assert_frame_equal(predictions, pd.concat(slices, ignore_index=True))
    assert json.loads((out / "results.json").read_text())["seed"] == 3
    table = pd.read_csv(out / "screening.csv")
    assert table["scan"].tolist() == [scan.name for scan in scans]
    for row, scan in zip(table.to_dict("records"), scans, strict=True):
        record = record_of(out, scan.name)
        assert record["diagnosis"] == scan.label
        assert record["subject"] == row["subject"] == scan.subject
        assert record["decision"]["answer"] == row["answer"]
        assert record["density"]["mean_hu"] == pytest.approx(row["mean_hu"])
        assert record["slices"] == {
            "looked_at": 4, "classified": 4, "refused": 0, "at_border": 0, "several_marks": 0, "chosen_by": "manifest",
        }  # fmt: skip


def test_probabilities_are_means_over_slices_and_decided(tmp_path: Path) -> None:
    screen(tmp_path / "out", one_scan(tmp_path), {"classifier": Ramp()})
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", keep_default_na=False, na_values={"logit_normal": ""})
    classified = table[table["refusal"] == ""].astype(dict.fromkeys(LOGITS, float))
    expected = softmax(classified[LOGITS].to_numpy(), axis=1).mean(axis=0)
    record = record_of(tmp_path / "out")
    assert list(record["probabilities"].values()) == pytest.approx(expected.tolist())
    assert list(record["probabilities"]) == list(SCREENING_CLASSES)
    ordered = sorted(expected)
    assert record["decision"]["margin"] == pytest.approx(ordered[-1] - ordered[-2])
    assert record["thresholds"] == {"sure": SURE, "band": BAND, "temperature": 1.0}


def test_a_temperature_divides_logits(tmp_path: Path) -> None:
    for temperature in (1.0, 4.0):
        screen(tmp_path / f"{temperature}", one_scan(tmp_path), {"classifier": Ramp()}, temperature=temperature)
    tables = [pd.read_csv(tmp_path / name / "predictions.csv").dropna(subset=LOGITS) for name in ("1.0", "4.0")]
    np.testing.assert_allclose(tables[0][LOGITS], tables[1][LOGITS])
    for table, temperature in zip(tables, (1.0, 4.0), strict=True):
        expected = softmax(table[LOGITS].to_numpy() / temperature, axis=1)
        np.testing.assert_allclose(table[PROBABILITIES], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="temperature must be > 0"):
        ScreeningResults(tmp_path, about={}, temperature=0)


def test_thresholds_of_the_decision(tmp_path: Path) -> None:
    answers = []
    for number, (sure, band) in enumerate([(0.99, 0.0), (0.1, 0.0), (0.99, 0.9)]):
        screen(tmp_path / str(number), one_scan(tmp_path), sure=sure, band=band)
        answers.append(record_of(tmp_path / str(number))["decision"]["rule"])
    assert answers == ["normal, not sure", "sure, normal", "comparable"]


@pytest.mark.parametrize("kind", ["NIfTI", "DICOM"])
def test_mark_lies_on_the_grid_of_the_scan(tmp_path: Path, kind: str) -> None:
    scans = one_scan(tmp_path) if kind == "NIfTI" else list_screening_scans(sagittal_series(tmp_path / "dicom"))
    _, found = screen(tmp_path / "out", scans, dicom_seg=False)
    np.testing.assert_array_equal(found.marks, lumbar_files.mask_in_axial_order() > 0)
    scan, mark = open_volume(scans[0].image), open_volume(tmp_path / "out" / "scan_0000" / "mark.nii.gz")
    assert mark.shape == scan.shape
    np.testing.assert_allclose(mark.affine_lps, scan.affine_lps, atol=1e-4)
    np.testing.assert_array_equal(AxialVolume(mark).read() == 1, found.marks)
    # where it is bright, it is marked: the test scans are stored in other axes than those that were screened
    np.testing.assert_array_equal(mark.read() > 0, scan.read() > 120)


def test_dicom_mark_refers_to_the_slices(tmp_path: Path) -> None:
    highdicom = pytest.importorskip("highdicom")
    series = sagittal_series(tmp_path / "dicom")
    screen(tmp_path / "out", list_screening_scans(series))
    mark = highdicom.seg.segread(tmp_path / "out" / "scan_0000" / "mark.dcm")
    volume = open_volume(series)
    uids = [dicom_files_uid(frame.path) for frame in volume.frames]  # type: ignore[attr-defined]
    options: dict[str, Any] = {"ignore_spatial_locations": True, "assert_missing_frames_are_empty": True}
    found = mark.get_pixels_by_source_instance(uids, combine_segments=True, **options)
    np.testing.assert_array_equal(found, volume.read() > 120)
    assert mark.PatientID == "subject_00"
    assert mark.SegmentSequence[0].SegmentLabel == "lumbar vertebral body"


def dicom_files_uid(path: Path) -> str:
    from pydicom import dcmread

    return str(dcmread(path, stop_before_pixels=True).SOPInstanceUID)


@pytest.mark.parametrize("kept", [False, True])
def test_identifiers_are_in_no_file_unless_they_are_kept(tmp_path: Path, kept: bool) -> None:
    pytest.importorskip("highdicom")
    series = sagittal_series(tmp_path / "Doe_Jane_PID0815")
    screen(tmp_path / "out", list_screening_scans(series), dicom_seg=True, keep_identifiers=kept)
    found = outputs(tmp_path / "out")
    assert "scan_0000/mark.dcm" in found
    holders = {name: [key for key, value in PLANTED.items() if value.encode() in found[name]] for name in found}
    assert {name: keys for name, keys in holders.items() if keys} == (
        {"scan_0000/mark.dcm": list(IN_MARK)} if kept else {}
    )
    for name, content in found.items():
        for part in (b"Doe_Jane", str(tmp_path).encode(), b"Mercy", *([] if kept else [b"Jane", b"Quincy"])):
            assert part not in content, (name, part)


def test_no_dicom_mark_where_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series = list_screening_scans(sagittal_series(tmp_path / "dicom"))
    screen(tmp_path / "off", series, dicom_seg=False)
    screen(tmp_path / "empty", series, {"segmenter": Blind()})
    monkeypatch.setattr("bonemonai.analysis.screening_results.find_spec", lambda name: None)
    screen(tmp_path / "without", series)
    assert not list(tmp_path.rglob("mark.dcm"))
    with pytest.raises(InputError, match="is no DICOM series"):
        screen(tmp_path / "nifti", one_scan(tmp_path), dicom_seg=True)
    with pytest.raises(ValueError, match="dicom_seg must be"):
        ScreeningResults(tmp_path, about={}, dicom_seg="yes")


def test_nothing_marked_is_not_screened(tmp_path: Path) -> None:
    screen(tmp_path / "out", one_scan(tmp_path), {"segmenter": Blind()})
    record = record_of(tmp_path / "out")
    assert record["decision"] == {
        "answer": "not screened", "probability": None, "margin": None, "rule": "none",
        "advice": "no vertebra was marked in any slice: not screened",
    }  # fmt: skip
    assert set(record["probabilities"].values()) == {None}
    assert record["density"] is None
    assert record["slices"]["refused"] == record["slices"]["looked_at"] == lumbar_files.PLANES
    assert not open_volume(tmp_path / "out" / "scan_0000" / "mark.nii.gz").read().any()
    assert pd.read_csv(tmp_path / "out" / "screening.csv")["answer"].tolist() == ["not screened"]


def test_a_scan_that_fails_has_a_row_and_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    manifest = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(manifest, levels=lumbar_files.LEVELS, per_level=1)[:3]
    out = tmp_path / "out"
    screen(out, scans)
    (tmp_path / "scan1.nii").write_bytes(b"no NIfTI")
    with pytest.raises(BatchError, match="1 of 3 scans"):
        screen(out, scans, overwrite=True)
    table = pd.read_csv(out / "screening.csv").set_index("scan")
    assert table["status"].tolist() == ["done", "failed", "done"]
    assert table.loc["scan_0001", "subject"] == scans[1].subject
    assert table.loc["scan_0001"].drop(["status", "subject"]).isna().all()
    assert set(pd.read_csv(out / "predictions.csv")["scan"]) == {"scan_0000", "scan_0002"}
    assert not (out / "scan_0001").exists()


def test_all_scans_may_fail(tmp_path: Path) -> None:
    (tmp_path / "scan.nii").write_bytes(b"no NIfTI")
    with pytest.raises(InputError):
        screen(tmp_path / "out", [ScreeningScan("scan_0000", "subject_00", str(tmp_path / "scan.nii"))])
    assert pd.read_csv(tmp_path / "out" / "screening.csv")["status"].tolist() == ["failed"]


def test_earlier_results_are_not_replaced_unasked(tmp_path: Path) -> None:
    out = tmp_path / "out"
    screen(out, one_scan(tmp_path))
    before = outputs(out)
    with pytest.raises(OutputError, match=r"predictions\.csv: exists already; say --overwrite True"):
        screen(out, one_scan(tmp_path))
    assert outputs(out) == before
    # what scored the earlier predictions goes with them
    (out / "scores.csv").write_text("level,value\n")
    screen(out, one_scan(tmp_path), overwrite=True)
    assert outputs(out) == before


@pytest.mark.parametrize("line", [None, {"slope_mg_cm3_per_hu": 0.8, "intercept_mg_cm3": -5.0, "source": "phantom A"}])
def test_density_needs_a_line(tmp_path: Path, line: dict[str, Any] | None) -> None:
    _, found = screen(tmp_path / "out", one_scan(tmp_path), erosion_mm=1.0, density_line=line)
    density = record_of(tmp_path / "out")["density"]
    # bodies are 6 slices of 3 mm, 6 x 8 pixels of 1 mm: what is not wholly 1 mm below the surface is left out
    core = np.zeros(found.marks.shape, bool)
    for start in (2, 10, 18):
        core[start + 1 : start + 5, 9:13, 5:11] = True
    values = found.volume.read()[core]
    assert density["voxels"] == core.sum()
    assert density["mask_voxels"] == found.marks.sum()
    assert density["mean_hu"] == pytest.approx(values.mean())
    assert density["volume_mm3"] == pytest.approx(3.0 * core.sum())
    if line is None:
        assert density["bmd_mg_cm3"] is None
        assert "acr_range" not in density
    else:
        assert density["bmd_mg_cm3"] == pytest.approx(0.8 * values.mean() - 5)
        assert (density["acr_range"], density["calibration"]) == ("above 120", "phantom A")


def test_end_plates_are_left_out_of_bodies_that_were_found(tmp_path: Path) -> None:
    mask = np.kron(lumbar_files.mask_in_axial_order(), np.ones((1, 2, 2), np.uint8))
    networks: dict[str, Any] = {"segmenter": nn.Identity(), "crop": wide_crop(), "image_size": 32}
    _, found = screen(tmp_path / "out", one_scan(tmp_path, mask), fitted(networks), erosion_mm=3.5)
    density = record_of(tmp_path / "out")["density"]
    core = np.zeros(found.marks.shape, bool)
    for start in (2, 10, 18):  # the second slice begins 3 mm below the surface
        core[start + 2 : start + 4, 20:24, 12:20] = True
    assert density["voxels"] == core.sum()
    assert density["mean_hu"] == pytest.approx(found.volume.read()[core].mean())


def test_slices_that_were_chosen_are_eroded_within_themselves(tmp_path: Path) -> None:
    image = one_scan(tmp_path)[0].image
    # neighbours among them, and one at the end of a body
    chosen = ((3, "L3"), (4, "L3"), (7, ""), (12, "L2"))
    _, found = screen(tmp_path / "out", [ScreeningScan("scan_0000", "subject_00", image, slices=chosen, units="HU")])
    core = np.zeros(found.marks.shape, bool)
    for plane, _ in chosen:
        core[plane, 9:13, 5:11] = True
    density = record_of(tmp_path / "out")["density"]
    assert density["voxels"] == core.sum()
    assert density["mean_hu"] == pytest.approx(found.volume.read()[core].mean())


def test_marks_too_small_have_no_density(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    screen(tmp_path / "out", one_scan(tmp_path), erosion_mm=5.0)
    assert record_of(tmp_path / "out")["density"] is None
    assert "scan_0000: no density" in caplog.text


def test_what_training_scans_were_not_like_is_warned_of(tmp_path: Path) -> None:
    from bonemonai.analysis import training_acquisitions

    usual = sagittal_series(tmp_path / "usual", KVP=120, ConvolutionKernel="B", Manufacturer="Philips")
    odd = sagittal_series(tmp_path / "odd", KVP=80, ConvolutionKernel="<b>sharp", Manufacturer="philips")
    manifest = {"image": str(usual), "mask": "", "units": ""}
    known = training_acquisitions([{**manifest, "plane": plane} for plane in range(2, 24)])
    about = {**ABOUT, "weights": {"trained_on": {"acquisitions": json.loads(json.dumps(known))}}}
    for folder, expected in (
        (usual, []),
        (odd, ["kVp is 80 kV; training scans had 120.", "kernel is '<b>sharp'; training scans had B."]),
    ):
        screen(tmp_path / "out", list_screening_scans(folder), about=about, overwrite=True)
        warnings = record_of(tmp_path / "out")["warnings"]
        warnings = [line for line in warnings if not line.startswith(("mean", "median", "st", "99"))]
        assert [line for line in warnings if "percentile" not in line] == expected
    screen(tmp_path / "out", list_screening_scans(usual), overwrite=True)
    (line, *_) = record_of(tmp_path / "out")["warnings"]
    assert "nothing is known of the scans that these weights were trained on" in line


def wide_crop() -> Any:
    from bonemonai.transforms import MarkedCrop

    return MarkedCrop(8, min_pixels=10)


def fitted(networks: dict[str, Any]) -> dict[str, Any]:
    """For scans that are larger than the other tests'."""
    from bonemonai.transforms import FitPlane

    class Bright(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return (image > 0.7).float()

    return {**networks, "segmenter": Bright(), "fit": FitPlane(48), "image_size": 48}


def test_a_screened_scan_is_what_is_described(tmp_path: Path) -> None:
    _, found = screen(tmp_path / "out", one_scan(tmp_path))
    assert isinstance(found, ScreenedScan)
    record = screening_record(found, ScreeningRules().probabilities(found.table), ScreeningRules(erosion_mm=1.0), ABOUT)
    assert json.loads(json.dumps(record)) == record_of(tmp_path / "out")


def test_results_of_an_earlier_run_do_not_stay_beside_others(tmp_path: Path) -> None:
    """scan_0000 of a folder with fewer scans may be another patient."""
    manifest = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(manifest, levels=lumbar_files.LEVELS, per_level=1)
    screen(tmp_path / "out", scans[:3])
    with pytest.raises(OutputError, match="exists already"):
        screen(tmp_path / "out", scans[3:4])
    assert (tmp_path / "out" / "scan_0002" / "screening.json").exists()
    screen(tmp_path / "out", scans[3:4], overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").glob("scan_*")) == ["scan_0003"]


def test_nothing_half_written_stands_under_a_scans_name(tmp_path: Path) -> None:
    def broken(path: Path, record: Any, found: Any) -> None:
        raise OSError(28, "No space left on device")

    manifest = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(manifest, levels=lumbar_files.LEVELS, per_level=1)[:2]
    with pytest.raises(BatchError, match=r"2 of 2 scans.*No space left"):
        screen(tmp_path / "out", scans, page=broken)
    assert list((tmp_path / "out").glob("scan_*")) == []
    assert pd.read_csv(tmp_path / "out" / "screening.csv")["status"].tolist() == ["failed", "failed"]


def test_a_subject_of_several_scans_is_the_mean_of_them(tmp_path: Path) -> None:
    manifest = lumbar_files.write_manifest(tmp_path)
    scans = list_screening_scans(manifest, levels=lumbar_files.LEVELS, per_level=1)[:2]
    both = [dataclasses.replace(scan, subject="subject_00") for scan in scans]
    screen(tmp_path / "out", both, {"classifier": Ramp()})
    (row,) = pd.read_csv(tmp_path / "out" / "subjects_screened.csv").to_dict("records")
    table = pd.read_csv(tmp_path / "out" / "screening.csv")
    assert (row["subject"], row["scans"], row["screened"]) == ("subject_00", 2, 2)
    for name in PROBABILITIES:
        assert row[name] == pytest.approx(table[name].mean())


def test_the_key_says_which_scan_is_which_only_where_it_is_asked_for(tmp_path: Path) -> None:
    scans = one_scan(tmp_path)
    screen(tmp_path / "out", scans, key_file=tmp_path / "key.csv")
    assert pd.read_csv(tmp_path / "key.csv")["image"].tolist() == [scans[0].image]
    assert record_of(tmp_path / "out")["pixels_sha256"] == pixel_digest(scans[0].image)


def test_other_classes_and_places_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classes: must be normal"):
        ScreeningResults(tmp_path, about={}, classes=["normal", "osteoporosis"])
    with pytest.raises(ValueError, match="band"):
        ScreeningResults(tmp_path, about={}, band=2)
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written to"):
        ScreeningResults(tmp_path / "file" / "out", about={}).start([])


def test_tables_only(tmp_path: Path) -> None:
    screen(tmp_path / "out", one_scan(tmp_path), tables_only=True)
    assert not list((tmp_path / "out").glob("scan_*"))
    assert len(pd.read_csv(tmp_path / "out" / "predictions.csv")) == lumbar_files.PLANES
