"""Every step of paper 3's bundle, one after the other, on nine coarse lumbar phantoms."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch

from bonemonai.data import CONDITIONS, open_volume, read_lumbar_manifest
from bonemonai.engines import weights_card
from bonemonai.networks import BCCNet, MSNet, TransferDenseNet121
from bonemonai.phantoms import write_lumbar_study
from tests.bundle_runs import BundleRuns
from tests.conftest import ROOT

RUNS = BundleRuns("lumbar_ct_osteoporosis_screening")
BUNDLE, files, workflow, refusal = RUNS.folder, RUNS.files, RUNS.workflow, RUNS.refusal
SHIPPED = BUNDLE / "models"
TINY = {"width": 8, "layers": 7, "constant_epochs": 6, "decay_epochs": 2, "batch_size": 4, "foreground_weight": 50}
TINY_CLASSIFIER = {"crop_size": 48, "image_size": 128, "max_epochs": 10, "learning_rate": 0.05}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs from a folder that has nothing to do with the bundle, and leaves nothing in it."""
    monkeypatch.chdir(tmp_path)
    with RUNS.untouched():
        yield


@pytest.fixture(scope="module")
def manifest(lumbar_study: Path) -> str:
    return str(lumbar_study / "manifest.csv")


@pytest.fixture(scope="module")
def weights(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("weights")
    paths = {"segmentation": str(folder / "segmentation.pt"), "checkpoint": str(folder / "model.pt")}
    workflow("train_segmentation", "smoke", manifest_path=manifest, checkpoint=paths["segmentation"], **TINY).run()
    workflow("train_classification", "smoke_classification", manifest_path=manifest, checkpoint=paths["checkpoint"],
             **TINY_CLASSIFIER).run()  # fmt: skip
    return paths


@pytest.fixture(scope="module")
def evaluation(manifest: str, weights: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    workflow("inference", "evaluate", dataset_dir=manifest, output_dir=str(out), copies=1, **weights).run()
    return out


def test_the_papers_values_are_the_defaults(manifest: str, tmp_path: Path) -> None:
    elsewhere = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt")}
    parser = workflow("train_segmentation", **elsewhere).parser
    names = ("learning_rate", "batch_size", "max_epochs", "constant_epochs", "width", "image_size", "foreground_weight")
    assert [parser.get_parsed_content(name) for name in names] == [0.002, 64, 150, 100, 64, 512, 1]
    optimizer = parser.get_parsed_content("optimizer")
    assert (type(optimizer), optimizer.defaults["betas"][0]) == (torch.optim.Adam, 0.9)
    parser = workflow("train_classification", **elsewhere).parser
    names = ("learning_rate", "batch_size", "dropout", "growth_rate", "blocks", "crop_size", "weight_decay")
    assert [parser.get_parsed_content(name) for name in names] == [0.01, 64, 0.4, 12, [1, 2, 4, 2], 224, 0.005]
    optimizer = parser.get_parsed_content("optimizer")
    assert (type(optimizer), optimizer.defaults["momentum"]) == (torch.optim.SGD, 0.9)


@pytest.mark.parametrize(("overlay", "blocks"), [("densenet_1", [1, 1, 2, 1]), ("densenet_2", [2, 4, 6, 4])])
def test_comparators_are_overlays(overlay: str, blocks: list[int], manifest: str, tmp_path: Path) -> None:
    elsewhere = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt")}
    parser = workflow("train_classification", overlay, **elsewhere).parser
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, BCCNet)
    assert parser["blocks"] == blocks
    assert parser.get_parsed_content("weight_options")["model"] == overlay


def test_densenet121_is_never_trained_from_random_weights_unasked(manifest: str, tmp_path: Path) -> None:
    options = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt")}
    small = {**TINY_CLASSIFIER, "max_epochs": 1, "growth_rate": 4}
    line = refusal("train_classification", "smoke_classification", "densenet121", pretrained="/no/weights.pth",
                   **options, **small)  # fmt: skip
    assert "weights.pth" in line
    workflow("train_classification", "smoke_classification", "densenet121", pretrained=False, **options, **small).run()
    TransferDenseNet121(growth_rate=4).load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert weights_card(tmp_path / "model.pt")["trained_on"]["pretrained"] is False


def test_training_says_what_it_was_trained_on(weights: dict[str, str]) -> None:
    MSNet(width=8, layers=7).load_state_dict(torch.load(weights["segmentation"], weights_only=True))
    BCCNet().load_state_dict(torch.load(weights["checkpoint"], weights_only=True))
    card = weights_card(weights["checkpoint"])
    assert card["trained_on"]["kind"] == "synthetic"
    assert card["options"]["classes"] == list(CONDITIONS)
    assert card["trained_on"]["acquisitions"]["scans"] == 3
    assert "not a medical device" in card["note"]


def test_a_cache_on_disk_changes_no_training(manifest: str, tmp_path: Path) -> None:
    def train(name: str, cache: str | None, epochs: int) -> bytes:
        options = {
            **TINY,
            "max_epochs": epochs,
            "manifest_path": manifest,
            "cache_dir": cache and str(tmp_path / cache),
        }
        workflow("train_segmentation", "smoke", checkpoint=str(tmp_path / name / "s.pt"), **options).run()
        return (tmp_path / name / "s.curve.csv").read_bytes() + (tmp_path / name / "s.pt").read_bytes()

    expected = train("in_memory", None, 2)
    assert train("on_disk", "cache", 2) == train("second_start", "cache", 2) == expected
    # where images are kept is no part of what a training is: it goes on
    train("continued", None, 1)
    assert train("continued", "cache", 2) == expected
    assert {path.suffix for path in (tmp_path / "cache").iterdir()} == {".cache"}


def test_networks_learn_what_to_mark(weights: dict[str, str]) -> None:
    curve = pd.read_csv(Path(weights["segmentation"]).with_suffix(".curve.csv"))
    assert curve["loss"].iloc[-1] < 0.5 * curve["loss"].iloc[0]
    assert curve["mark_dice"].max() > 0.15


def test_a_folder_of_dicom_becomes_a_screening_per_subject(
    lumbar_study: Path, manifest: str, weights: dict[str, str], tmp_path: Path
) -> None:
    rows = read_lumbar_manifest(manifest)
    folder = Path(rows.loc[rows["split"] == "test", "image"].iloc[0])
    out = tmp_path / "out"
    workflow("inference", dataset_dir=str(folder), output_dir=str(out), min_area_mm2=50, **weights).run()
    record = json.loads((out / "scan_0000" / "screening.json").read_text())
    assert record["subject"] == "subject_00"
    assert record["slices"]["chosen_by"] == "segmentation"
    assert record["slices"]["classified"] > 0
    assert sum(record["probabilities"].values()) == pytest.approx(1)
    # the mark lies on the scan
    scan, mark = open_volume(folder), open_volume(out / "scan_0000" / "mark.nii.gz")
    assert scan.affine_lps is not None
    assert mark.affine_lps is not None
    np.testing.assert_allclose(mark.affine_lps, scan.affine_lps, atol=1e-3)
    assert mark.shape == scan.shape
    page = (out / "scan_0000" / "screening.html").read_text()
    assert "not a medical device" in page
    assert "PHANTOMS" in page
    assert (out / "scan_0000" / "mark.dcm").exists()
    # nothing of the fake patient reaches an output
    import pydicom

    header = pydicom.dcmread(next(folder.iterdir()))
    planted = [
        str(header.PatientName),
        str(header.PatientID),
        str(header.AccessionNumber),
        str(header.PatientBirthDate),
    ]
    written = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    for value in planted:
        assert value
        assert value.encode() not in written


def test_chosen_slices_are_those_of_the_masks(evaluation: Path) -> None:
    table = pd.read_csv(evaluation / "predictions.csv")
    own = table[table["copy"] == 0]
    assert set(own["level"]) == {"L1", "L2"}
    assert own.groupby(["subject", "level"]).size().between(2, 3).all()
    assert (table["copy"] == 1).sum() == len(own)


def test_evaluation_scores_marks_and_decisions(evaluation: Path) -> None:
    scores = pd.read_csv(evaluation / "scores.csv")
    assert set(scores["level"]) == {"slice", "subject"}
    assert scores.loc[scores["metric"] == "accuracy", "value"].between(0, 1).all()
    assert {"image"} == set(pd.read_csv(evaluation / "scores_with_copies.csv")["level"])
    overlaps = pd.read_csv(evaluation / "overlap_slices.csv")
    assert overlaps["true_pixels"].min() > 0
    record = json.loads((evaluation / "results.json").read_text())
    assert (record["tested_on"], record["model"]) == ("synthetic", "bcc_net")
    assert record["scored"]["subjects"] == 3


def test_scans_of_training_are_no_test(manifest: str, weights: dict[str, str], tmp_path: Path) -> None:
    line = refusal("inference", "evaluate", dataset_dir=manifest, split="train", output_dir=str(tmp_path), **weights)
    assert "these weights were trained or chosen on it" in line


def test_calibration_goes_into_the_card_and_from_there_into_results(tmp_path: Path) -> None:
    """Of the weights that are shipped: those of the tests have seen too little for any temperature to be best."""
    study = tmp_path / "study"
    write_lumbar_study(study, subjects=14, seed=3, matrix=256, levels=("L1",), interval_mm=5.0, splits=(1, 12, 1))
    manifest = str(study / "manifest.csv")
    for name in ("model.pt", "model.json", "segmentation.pt", "segmentation.json"):
        shutil.copy(SHIPPED / name, tmp_path / name)
    weights = {"segmentation": str(tmp_path / "segmentation.pt"), "checkpoint": str(tmp_path / "model.pt")}
    before = weights_card(weights["checkpoint"])["calibration"]["temperature"]
    workflow("inference", "evaluate", "calibrate", dataset_dir=manifest, **weights).run()
    temperature = weights_card(weights["checkpoint"])["calibration"]["temperature"]
    assert 0.01 < temperature < 100
    assert temperature != before
    out = tmp_path / "out"
    workflow("inference", "evaluate", dataset_dir=manifest, output_dir=str(out), **weights).run()
    record = json.loads(next(out.glob("scan_*/screening.json")).read_text())
    assert record["thresholds"]["temperature"] == pytest.approx(temperature)


def test_real_dicom_and_nifti_go_the_whole_way(sample_data: Path, tmp_path: Path) -> None:
    """With the weights that are shipped, which know phantoms only: no condition is claimed of either."""
    paths = {"segmentation": str(SHIPPED / "segmentation.pt"), "checkpoint": str(SHIPPED / "model.pt")}
    siemens = sample_data / "ct-totalseg-siemens-dicom" / "dicom"
    workflow("inference", dataset_dir=str(siemens), output_dir=str(tmp_path / "a"), **paths).run()
    record = json.loads((tmp_path / "a" / "scan_0000" / "screening.json").read_text())
    assert record["slices"]["looked_at"] == 20
    assert record["acquisition"]["pixel_spacing_mm"] == pytest.approx([0.977, 0.977], abs=1e-3)
    nifti = sample_data / "ct-verse014-lumbar" / "sub-verse014_ct.nii.gz"
    workflow("inference", dataset_dir=str(nifti), output_dir=str(tmp_path / "b"), units="HU", **paths).run()
    mark = nibabel.load(tmp_path / "b" / "scan_0000" / "mark.nii.gz")
    np.testing.assert_allclose(mark.affine, nibabel.load(nifti).affine, atol=1e-3)
    assert mark.shape == (186, 186, 40)
    assert not (tmp_path / "b" / "scan_0000" / "mark.dcm").exists()


def test_the_report_is_made_of_evaluations(evaluation: Path, weights: dict[str, str], tmp_path: Path) -> None:
    curve = str(Path(weights["checkpoint"]).with_suffix(".curve.csv"))
    workflow("report", results={"bcc_net": str(evaluation)}, curves={"bcc_net": curve}, output_dir=str(tmp_path / "r"),
             readers=str(ROOT / "data_manifests" / "paper_tang_readers.csv")).run()  # fmt: skip
    page = next((tmp_path / "r").glob("*.html")).read_text()
    assert "PHANTOM DATA" in page
    assert "not a medical device" in page
    assert ".7665" in page or "0.7665" in page


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("inference", {"dataset_dir": "/no/such"}, "no such file or folder (--dataset_dir)"),
        ("inference", {"checkpoint": "/no/such.pt"}, "no such file or folder (--checkpoint)"),
        ("inference", {"min_area": 3}, "did you mean --min_area_mm2?"),
        ("train_segmentation", {"manifest_path": "/no/such.csv"}, "no such file or folder (--manifest_path)"),
        ("train_classification", {"manifest_pat": "x"}, "did you mean --manifest_path?"),
    ],
)
def test_refusals_are_one_line(config: str, options: dict[str, Any], words: str, weights: dict[str, str]) -> None:
    given = {**weights, "dataset_dir": str(ROOT / "README.md"), **options} if config == "inference" else options
    assert words in refusal(config, **given)


def test_as_a_process(manifest: str, weights: dict[str, str], tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--config_file", *files("inference"), "--dataset_dir", manifest,
        "--split", "val", "--output_dir", str(tmp_path / "out"), "--segmentation", weights["segmentation"],
        "--checkpoint", weights["checkpoint"],
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    assert len(pd.read_csv(tmp_path / "out" / "screening.csv")) == 3
