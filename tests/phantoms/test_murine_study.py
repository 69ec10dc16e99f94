from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bonemonai.__main__ import main
from bonemonai.data import open_volume, read_data_card, read_manifest
from bonemonai.errors import InputError, OutputError
from bonemonai.phantoms import (
    MicroCTScanner,
    MurineBone,
    hr_acquisition,
    lr_acquisition,
    murine_cases,
    write_murine_study,
)
from bonemonai.phantoms.murine_study import UNITS

SMALL: dict[str, Any] = {"specimens_per_site": 3, "seed": 4, "hr_shape": (16, 96, 96)}
TINY: dict[str, Any] = {"specimens_per_site": 1, "seed": 2, "hr_shape": (16, 32, 40)}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_murine_study(tmp_path_factory.mktemp("murine"), **SMALL)


def test_manifest_has_a_row_a_specimen_and_frame_average(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == ("patient,image,lr,lr_frames,mask,tissue,tv,site,split,units,voxel_size_um,lr_voxel_size_um")
    assert lines[1].startswith("femur-001,femur-001/hr.aim,femur-001/lr_1.aim,1,femur-001/mask.nii,")
    manifest = read_manifest(path)
    assert len(manifest) == 12
    assert set(manifest["units"]) == {UNITS}
    assert set(manifest["voxel_size_um"]) == {"10"}
    assert set(manifest["lr_voxel_size_um"]) == {"20"}
    for _, rows in manifest.groupby("patient"):
        assert list(rows["lr_frames"]) == ["1", "3"]
        assert rows["split"].nunique() == 1
    for _, rows in manifest.groupby("site"):
        assert set(rows["split"]) == {"train", "val", "test"}


def test_scans_are_calibrated_and_of_one_place(path: Path) -> None:
    for row in read_manifest(path).to_dict("records"):
        hr, lr = open_volume(row["image"]), open_volume(path.parent / row["lr"])
        assert (hr.shape, lr.shape) == ((16, 96, 96), (8, 48, 48))
        assert hr.voxel_size_um == pytest.approx((10, 10, 10))
        assert lr.voxel_size_um == pytest.approx((20, 20, 20))
        assert hr.units == lr.units == UNITS
        assert hr.warnings == lr.warnings == []
        # the outer corners of both fields are one place
        corners = [volume.affine_lps @ [-0.5, -0.5, -0.5, 1] for volume in (hr, lr)]  # type: ignore[operator]
        np.testing.assert_allclose(*corners, atol=1e-6)
        averaged = hr.read().reshape(8, 2, 48, 2, 48, 2).mean(axis=(1, 3, 5))
        assert np.corrcoef(averaged.ravel(), lr.read().ravel())[0, 1] > 0.93
        assert averaged.mean() == pytest.approx(lr.read().mean(), abs=8)


def test_values_are_the_scanners_within_the_calibrations_rounding(tmp_path: Path) -> None:
    for file_format, atol in (("aim", 0.0451), ("nifti", 0.0)):
        path = write_murine_study(tmp_path / file_format, **TINY, file_format=file_format)  # type: ignore[arg-type]
        for row, case in zip(read_manifest(path)[::2].to_dict("records"), murine_cases(1, 2), strict=True):
            truth = json.loads((path.parent / row["patient"] / "truth.json").read_text())
            scanner = MicroCTScanner(
                MurineBone(case.specimen).density, corner_um=truth["field_corner_um"], field_um=(160, 320, 400)
            )
            hr, lr = scanner.scan([hr_acquisition(), lr_acquisition(1)], seed=case.specimen.seed)
            for name, scan in ((row["image"], hr), (path.parent / row["lr"], lr)):
                volume = open_volume(name, units=UNITS)
                np.testing.assert_allclose(volume.read(), scan, atol=atol + 1e-3, rtol=0)


def test_truth_lies_on_hr_and_agrees_with_it(path: Path) -> None:
    for row in read_manifest(path)[::2].to_dict("records"):
        hr, mask = open_volume(row["image"]), open_volume(row["mask"])
        tissue = open_volume(path.parent / row["tissue"])
        for labels in (mask, tissue):
            assert labels.shape == hr.shape
            np.testing.assert_allclose(labels.affine_lps, hr.affine_lps, atol=1e-6)
        bone, kinds, density = mask.read() == 1, tissue.read(), hr.read()
        np.testing.assert_array_equal(bone, np.isin(kinds, (1, 2)))
        np.testing.assert_array_equal(open_volume(row["tv"]).read(), np.isin(kinds, (2, 3)))
        assert np.median(density[bone]) > 700
        assert np.median(density[~bone]) < 150
        truth = json.loads((path.parent / row["patient"] / "truth.json").read_text())
        assert truth["bv_tv"] == pytest.approx((kinds == 2).sum() / np.isin(kinds, (2, 3)).sum(), abs=1e-6)
        assert 0.02 < truth["bv_tv"] < 0.35
        assert 40 <= truth["drawn_tb_th_um"] <= 60
        assert truth["lr_offset_um"] == [0, 0, 0]
        assert truth["specimen"]["site"] == row["site"]


def test_card(path: Path) -> None:
    card = read_data_card(path)
    assert (card["kind"], card["licence"], card["seed"], card["units"]) == ("synthetic", "Apache-2.0", 4, UNITS)
    assert card["acquisitions"]["lr_3"] == {
        "voxel_size_um": 20.0, "psf_sigma_um": 14.0, "projections": 1000, "frames": 3, "noise_mg_ha_cm3": 51.962,
    }  # fmt: skip
    assert str(path.parent) not in path.with_suffix(".json").read_text()


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_a_killed_run_resumes_to_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = contents(write_murine_study(tmp_path / "whole", **TINY).parent)
    planes, came = MicroCTScanner.planes, []

    def dying(self: MicroCTScanner, *given: Any, **options: Any) -> Iterator[Any]:
        for plane in planes(self, *given, **options):
            came.append(plane)
            if len(came) == 45:  # of 32 a specimen
                raise KeyboardInterrupt
            yield plane

    monkeypatch.setattr(MicroCTScanner, "planes", dying)
    with pytest.raises(KeyboardInterrupt):
        write_murine_study(tmp_path / "stopped", **TINY)
    left = contents(tmp_path / "stopped")
    assert {Path(name).parent.name for name in left} == {"femur-001"}
    before = (tmp_path / "stopped" / "femur-001" / "hr.aim").stat().st_mtime_ns
    monkeypatch.undo()
    write_murine_study(tmp_path / "stopped", **TINY)
    assert contents(tmp_path / "stopped") == whole
    assert (tmp_path / "stopped" / "femur-001" / "hr.aim").stat().st_mtime_ns == before


def test_several_at_once_share_the_specimens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanned: list[int] = []
    planes = MicroCTScanner.planes

    def counting(self: MicroCTScanner, *given: Any, seed: int) -> Iterator[Any]:
        scanned.append(seed)
        return planes(self, *given, seed=seed)

    monkeypatch.setattr(MicroCTScanner, "planes", counting)
    workers = [
        threading.Thread(target=write_murine_study, args=(tmp_path,), kwargs={**TINY, "specimens_per_site": 2})
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(scanned) == sorted(case.specimen.seed for case in murine_cases(2, 2))
    assert len(read_manifest(tmp_path / "manifest.csv")) == 8


def test_another_study_is_kept_unless_told(tmp_path: Path) -> None:
    path = write_murine_study(tmp_path, **TINY)
    before = contents(tmp_path)
    for other in ({"seed": 3}, {"frame_averages": (1,)}, {"file_format": "nifti"}, {"misalignment_um": 2.0}):
        with pytest.raises(OutputError, match="is of another study; choose another folder, or say overwrite"):
            write_murine_study(tmp_path, **{**TINY, **other})
    assert contents(tmp_path) == before
    write_murine_study(tmp_path, **{**TINY, "seed": 3, "frame_averages": (1,)}, overwrite=True)
    assert len(read_manifest(path)) == 2
    assert read_data_card(path)["seed"] == 3


def test_misalignment_is_told_by_the_truth_alone(tmp_path: Path) -> None:
    path = write_murine_study(tmp_path / "moved", **TINY, misalignment_um=4.0)
    still = write_murine_study(tmp_path / "still", **TINY)
    for row in read_manifest(path)[::2].to_dict("records"):
        truth = json.loads((path.parent / row["patient"] / "truth.json").read_text())
        assert any(truth["lr_offset_um"])
        moved, unmoved = (open_volume(folder.parent / row["patient"] / "lr_1.aim") for folder in (path, still))
        np.testing.assert_array_equal(moved.affine_lps, unmoved.affine_lps)
        assert np.abs(moved.read() - unmoved.read()).mean() > 5
        hr, same = (open_volume(folder.parent / row["patient"] / "hr.aim") for folder in (path, still))
        assert np.abs(hr.read() - same.read()).max() < 0.1


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--specimens 1 --planes 16 --size 32 --frames 2 --format nifti --seed 2 --misalignment-um 1"
    with pytest.raises(SystemExit) as stop:
        main(["murine-phantom", str(tmp_path / "study"), *options.split()])
    assert not stop.value.code
    assert f"manifest: {tmp_path / 'study' / 'manifest.csv'}" in capsys.readouterr().out
    assert open_volume(tmp_path / "study" / "spine-001" / "lr_2.nii").shape == (8, 16, 16)
    with pytest.raises(SystemExit) as stop:
        main(["murine-phantom", str(tmp_path / "other"), "--frames", "1,x"])
    assert stop.value.code == 2
    assert "--frames: must be whole numbers parted by commas, got '1,x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wrong", "cause"),
    [
        ({"specimens_per_site": 0}, "specimens_per_site: must be >= 1, got 0"),
        ({"seed": -1}, "seed: must be >= 0, got -1"),
        ({"hr_shape": (16, 33, 32)}, r"hr_shape: must be three even numbers >= 16, got \(16, 33, 32\)"),
        ({"hr_shape": (8, 32, 32)}, "hr_shape: must be three even numbers"),
        ({"frame_averages": ()}, r"frame_averages: must be different numbers >= 1, got \(\)"),
        ({"frame_averages": (1, 1)}, "frame_averages: must be different"),
        ({"misalignment_um": 10.0}, r"misalignment_um: must be within \[0, 10\), got 10.0"),
        ({"file_format": "tiff"}, "file_format: must be aim or nifti, got 'tiff'"),
    ],
)
def test_wrong_arguments_write_nothing(tmp_path: Path, wrong: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause):
        write_murine_study(tmp_path / "study", **{**TINY, **wrong})
    assert not (tmp_path / "study").exists()
