"""Every step of paper 4's bundle, one after the other, on nine coarse lumbar phantoms."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bonemonai.data import CONDITIONS, open_volume, read_lumbar_manifest
from bonemonai.engines import weights_card
from bonemonai.losses.multitask_loss import TASKS
from tests.bundle_runs import BundleRuns
from tests.conftest import ROOT

RUNS = BundleRuns("lumbar_ct_osteoporosis_multitask")
BUNDLE, files, workflow, refusal = RUNS.folder, RUNS.files, RUNS.workflow, RUNS.refusal
# widths of a few channels, slices of 128 pixels
TINY: dict[str, Any] = {
    "locator_width": 4, "segmenter_width": 2, "classifier_width": 2, "image_size": 128, "pixel_mm": None,
    "crop_size": 64,
    "anchors": [[12 + n, 8 + n] for n in range(9)],
}  # fmt: skip
SHORT: dict[str, Any] = {
    **TINY, "max_epochs": 20, "decay_epochs": 4, "locator_epochs": 16, "segmenter_epochs": 1, "located_from": 19,
    "learning_rate": 0.01, "seed": 1,
}  # fmt: skip


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
def weights(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("weights") / "model.pt")
    workflow("train", "smoke", manifest_path=manifest, checkpoint=path, **SHORT).run()
    return path


@pytest.fixture(scope="module")
def evaluation(manifest: str, weights: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    workflow("inference", "evaluate", "gradcam", dataset_dir=manifest, output_dir=str(out), checkpoint=weights,
             score_threshold=0.2).run()  # fmt: skip
    return out


def test_the_papers_values_are_the_defaults(manifest: str, tmp_path: Path) -> None:
    elsewhere = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), "pretrained": False, **TINY}
    parser = workflow("train", **elsewhere).parser
    config = json.loads(Path(files("train")[0]).read_text())
    names = ("max_epochs", "learning_rate", "image_size", "crop_size", "locator_width", "classifier_width", "layers")
    assert [config[name] for name in names] == [300, 0.001, 512, 224, 32, 64, [3, 4, 23, 3]]
    assert (config["mixup_alpha"], config["sampling_power"], config["mixup_lambda_on"]) == (0.1, 0, "class")
    assert (config["locator_epochs"], config["segmenter_epochs"], config["pretrained"]) == (0, 0, True)
    optimizer = parser.get_parsed_content("optimizer")
    assert type(optimizer) is torch.optim.SGD
    # the network's parameters, and six weights of losses that do not decay
    assert len(optimizer.param_groups[1]["params"]) == 6
    assert optimizer.param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize(("lf", "gc", "ff"), list(itertools.product([False, True], repeat=3)))
def test_three_switches(lf: bool, gc: bool, ff: bool, manifest: str, tmp_path: Path) -> None:
    switches = {"local_fusion": lf, "gates": gc, "feature_fusion": ff}
    options = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), **TINY, **switches}
    network = workflow("train", "smoke", **options).parser.get_parsed_content("network_def")
    names = set(network.state_dict())
    assert any("fusions" in name for name in names) == lf
    assert any("gates" in name for name in names) == gc
    assert any("perceptron" in name for name in names) == ff


def test_six_losses_and_six_weights_an_epoch(weights: str) -> None:
    curve = pd.read_csv(Path(weights).with_suffix(".curve.csv"))
    assert len(curve) == 20
    for task in TASKS:
        assert curve[f"weight_{task}"].notna().all()
    # stages: the locator alone, the segmentation alone, all together
    assert curve["loss_dice"].isna().tolist() == [True] * 16 + [False] * 4
    assert curve["loss_box"].isna().tolist() == [False] * 16 + [True] + [False] * 3
    assert curve["loss_classification"].isna().tolist() == [True] * 17 + [False] * 3
    # what is not trained does not move
    assert curve["weight_classification"][:17].eq(0.5).all()
    assert curve["loss_confidence"].iloc[15] < 0.5 * curve["loss_confidence"].iloc[0]
    assert {"score", "found", "dice", "accuracy", "probability"} <= set(curve)


def test_training_says_what_it_was_trained_on(weights: str) -> None:
    card = weights_card(weights)
    assert card["trained_on"]["kind"] == "synthetic"
    assert card["trained_on"]["pretrained"] is False
    assert card["trained_on"]["acquisitions"]["scans"] == 3
    assert card["options"]["classes"] == list(CONDITIONS)
    assert card["options"]["anchors"] == TINY["anchors"]
    assert "not a medical device" in card["note"]


def test_anchors_are_those_of_the_training_boxes(manifest: str, tmp_path: Path) -> None:
    options = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), "overwrite": True, **TINY}
    del options["anchors"]
    # three training subjects have too few different vertebrae; all nine have enough
    assert "too few for 9 anchors" in refusal("train", "smoke", **options)
    every = "$bonemonai.data.lumbar_pairs(@manifest, None, per_level=5)"
    anchors = workflow("train", "smoke", **options, **{"train#pairs": every}).parser.get_parsed_content("anchors")
    areas = [width * height for width, height in anchors]
    assert areas == sorted(areas)
    assert len(anchors) == 9
    # a body of 45 x 33 mm or so, pixels of 3 to 4 mm
    assert all(6 < width < 30 and 5 < height < 25 for width, height in anchors)


def test_training_that_would_overwrite_is_refused(manifest: str, weights: str) -> None:
    assert "exists already" in refusal("train", "smoke", manifest_path=manifest, checkpoint=weights, **SHORT)


def test_imagenet_weights_that_are_not_there_are_no_random_ones(manifest: str, tmp_path: Path) -> None:
    options = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), **TINY, "max_epochs": 1}
    line = refusal("train", "smoke", pretrained="/no/such/weights.pth", **options)
    assert "weights.pth: no such ImageNet weights" in line


def test_evaluation_scores_boxes_masks_and_decisions(evaluation: Path) -> None:
    table = pd.read_csv(evaluation / "predictions.csv")
    assert len(table) == 6
    assert set(table["level"]) == {"L1", "L2"}
    assert table["box_score"].notna().sum() >= 3
    precision = pd.read_csv(evaluation / "average_precision.csv")
    assert set(precision["class"]) == {"L1", "L2", "all", "vertebra"}
    assert precision["average_precision"].between(0, 1).all()
    assert set(pd.read_csv(evaluation / "one_vs_rest.csv")["convention"]) == {"usual", "paper"}
    assert (evaluation / "boundary_scores.csv").exists()
    scores = pd.read_csv(evaluation / "scores.csv")
    assert scores.loc[scores["metric"] == "accuracy", "value"].between(0, 1).all()
    record = json.loads((evaluation / "results.json").read_text())
    assert (record["tested_on"], record["model"]) == ("synthetic", "joint")
    assert np.load(evaluation / "gradcam_examples.npz")["map"].shape[1:] == (2, 64, 64)


def test_a_folder_of_dicom_becomes_a_page_per_subject(
    lumbar_study: Path, manifest: str, weights: str, tmp_path: Path
) -> None:
    rows = read_lumbar_manifest(manifest)
    folder = Path(rows.loc[rows["split"] == "test", "image"].iloc[0])
    out = tmp_path / "out"
    workflow("inference", dataset_dir=str(folder), output_dir=str(out), checkpoint=weights, score_threshold=0.1).run()
    record = json.loads((out / "scan_0000" / "screening.json").read_text())
    assert record["slices"]["chosen_by"] == "locator"
    assert [one["level"] for one in record["vertebrae"]] == ["L1", "L2"]
    assert any(one["plane"] >= 0 for one in record["vertebrae"])
    scan, mark = open_volume(folder), open_volume(out / "scan_0000" / "mark.nii.gz")
    assert scan.affine_lps is not None
    assert mark.affine_lps is not None
    np.testing.assert_allclose(mark.affine_lps, scan.affine_lps, atol=1e-3)
    assert open_volume(out / "scan_0000" / "boundary.nii.gz").shape == scan.shape
    page = (out / "scan_0000" / "screening.html").read_text()
    assert "not a medical device" in page
    assert "PHANTOMS" in page
    assert "Zhang et al." in page
    # nothing of the fake patient reaches an output
    import pydicom

    header = pydicom.dcmread(next(folder.iterdir()))
    planted = [header.PatientName, header.PatientID, header.AccessionNumber, header.PatientBirthDate]
    written = b"".join(file.read_bytes() for file in out.rglob("*") if file.is_file())
    for value in map(str, planted):
        assert value
        assert value.encode() not in written


def test_scans_of_training_are_no_test(manifest: str, weights: str, tmp_path: Path) -> None:
    line = refusal("inference", "evaluate", dataset_dir=manifest, split="train", output_dir=str(tmp_path),
                   checkpoint=weights)  # fmt: skip
    assert "these weights were trained or chosen on it" in line


def test_one_bad_subject_is_named_and_skipped(lumbar_study: Path, weights: str, tmp_path: Path) -> None:
    rows = pd.read_csv(lumbar_study / "manifest.csv")
    own = rows[rows["split"] == "test"]
    for name in own["patient"]:
        shutil.copytree(lumbar_study / name, tmp_path / "study" / name)
    broken = next((tmp_path / "study" / own["patient"].iloc[1] / "dicom").iterdir())
    broken.write_bytes(broken.read_bytes()[:2000])
    own.to_csv(tmp_path / "study" / "manifest.csv", index=False)
    line = refusal("inference", dataset_dir=str(tmp_path / "study" / "manifest.csv"), output_dir=str(tmp_path / "out"),
                   checkpoint=weights)  # fmt: skip
    assert "1 of 3 scans: failed: scan_0001" in line
    status = pd.read_csv(tmp_path / "out" / "screening.csv")["status"].tolist()
    assert status == ["done", "failed", "done"]


def test_fine_tuning_needs_masks_only(lumbar_study: Path, weights: str, tmp_path: Path) -> None:
    rows = pd.read_csv(lumbar_study / "manifest.csv").drop(columns="label")
    path = lumbar_study / "without_conditions.csv"
    rows.to_csv(path, index=False)
    tuned = tmp_path / "tuned.pt"
    workflow("train", "smoke", "fine_tune", manifest_path=str(path), initial=weights, checkpoint=str(tuned),
             max_epochs=1).run()  # fmt: skip
    path.unlink()
    card = weights_card(tuned)
    assert card["options"] == weights_card(weights)["options"]
    assert card["trained_on"]["initial"]["sha256"] == weights_card(weights)["sha256"]
    before, after = (torch.load(name, weights_only=True) for name in (weights, tuned))
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"locator", "segmenter"} <= moved
    # no condition is known: what only conditions teach stays
    assert torch.equal(before["fusion.fc.weight"], after["fusion.fc.weight"])


def test_cross_validation_tests_every_subject_once(manifest: str, tmp_path: Path) -> None:
    options = {**TINY, "max_epochs": 1, "decay_epochs": 0, "locator_epochs": 0, "segmenter_epochs": 0}
    options |= {"slices_per_level": 1, "background": 0}
    options["score_threshold"] = 0.0
    run: dict[str, Any] = {"manifest_path": manifest, "scale": "smoke", "number_of_folds": 3, "options": options}
    out = tmp_path / "folds"
    workflow("cross_validate", output_dir=str(out), **run).run()
    table = pd.read_csv(out / "predictions.csv")
    assert table["subject"].nunique() == 9
    assert len(table) == 18
    assert pd.read_csv(out / "subjects.csv")["subject"].is_unique
    record = json.loads((out / "results.json").read_text())
    assert len(record["weights_of_folds"]) == 3
    assert "typo" in refusal("cross_validate", output_dir=str(tmp_path / "b"), **run | {"options": {"typo": 1}})
    # a sweep of learning rates is cross-validation, again and again
    workflow("sweep", output_dir=str(tmp_path / "sweep"), folds=[0], values={"learning_rate": [0.01]}, **run).run()
    assert (tmp_path / "sweep" / "learning_rate_0.01" / "one_vs_rest.csv").exists()
    pages = tmp_path / "report"
    rates = {"0.001": str(tmp_path / "sweep" / "baseline"), "0.01": str(tmp_path / "sweep" / "learning_rate_0.01")}
    workflow("report", output_dir=str(pages), results={"joint": str(out)}, learning_rates=rates).run()
    assert "PHANTOM DATA" in (pages / "report.html").read_text()


def test_a_real_scan_goes_the_whole_way(sample_data: Path, tmp_path: Path) -> None:
    """With the weights that are shipped, which know phantoms only; masks are of whole vertebrae, no class is known."""
    for source, target in (
        ("sub-verse014_ct.nii.gz", "scan.nii.gz"),
        ("sub-verse014_seg-vert_msk.nii.gz", "mask.nii.gz"),
    ):
        shutil.copy(sample_data / "ct-verse014-lumbar" / source, tmp_path / target)
    row = {"patient": "verse014", "image": "scan.nii.gz", "mask": "mask.nii.gz", "units": "HU", "split": "test"}
    pd.DataFrame([row]).to_csv(tmp_path / "manifest.csv", index=False)
    out = tmp_path / "out"
    shipped = str(BUNDLE / "models" / "model.pt")
    workflow("inference", "evaluate", dataset_dir=str(tmp_path / "manifest.csv"), output_dir=str(out),
             checkpoint=shipped).run()  # fmt: skip
    table = pd.read_csv(out / "predictions.csv").set_index("level")
    dice = 2 * table["tp"] / (2 * table["tp"] + table["fp"] + table["fn"])
    # bodies are marked, and the masks have the processes, too: 1 cannot be reached
    assert (dice > 0.4).all()
    assert (out / "average_precision.csv").exists()
    assert not (out / "scores.csv").exists()
    scan, mark = open_volume(tmp_path / "scan.nii.gz"), open_volume(out / "scan_0000" / "mark.nii.gz")
    assert scan.affine_lps is not None
    assert mark.affine_lps is not None
    np.testing.assert_allclose(mark.affine_lps, scan.affine_lps, atol=1e-3)
    values, truth = mark.read(), open_volume(tmp_path / "mask.nii.gz").read()
    assert set(np.unique(values)) == {0, 20, 21}
    # what is called L1 lies on the true L1, and not on L2
    for value, other in ((20, 21), (21, 20)):
        assert (truth[values == value] == value).mean() > 0.5
        assert (truth[values == value] == other).mean() < 0.05


def test_the_report_is_made_of_evaluations(evaluation: Path, weights: str, tmp_path: Path) -> None:
    curve = str(Path(weights).with_suffix(".curve.csv"))
    workflow("report", results={"joint": str(evaluation)}, curves={"joint": curve}, output_dir=str(tmp_path / "r"),
             ablation={"LF+GC+FF": str(evaluation)}).run()  # fmt: skip
    page = (tmp_path / "r" / "report.html").read_text()
    assert "not a medical device" in page
    assert "PHANTOM DATA" in page
    # the paper's best row stands beside
    table = pd.read_csv(tmp_path / "r" / "table_2.csv")
    own = table[(table["model"].astype(str).str.lower().str.contains("joint")) & (table["convention"] == "paper")]
    assert own["paper_accuracy"].round(3).tolist()[:3] == [0.971, 0.933, 0.957]


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("inference", {"dataset_dir": "/no/such"}, "no such file or folder (--dataset_dir)"),
        ("inference", {"checkpoint": "/no/such.pt"}, "no such file or folder (--checkpoint)"),
        ("inference", {"score_treshold": 0.3}, "did you mean --score_threshold?"),
        ("train", {"manifest_path": "/no/such.csv"}, "no such file or folder (--manifest_path)"),
        ("train", {"manifest_pat": "x"}, "did you mean --manifest_path?"),
    ],
)
def test_refusals_are_one_line(config: str, options: dict[str, Any], words: str, weights: str) -> None:
    given = {"checkpoint": weights, "dataset_dir": str(ROOT / "README.md"), **options}
    assert words in refusal(config, **(given if config == "inference" else options))


def test_as_a_process(manifest: str, weights: str, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "monai.bundle", "run", "--config_file", *files("inference"), "--dataset_dir", manifest,
        "--split", "val", "--output_dir", str(tmp_path / "out"), "--checkpoint", weights,
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    assert len(pd.read_csv(tmp_path / "out" / "screening.csv")) == 3


def test_two_processes_train_one_network(manifest: str, tmp_path: Path) -> None:
    """torchrun on CPUs, batches of two: some show no vertebra, so that processes use different parts."""
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        "-m", "monai.bundle", "run", "--config_file", str(files("train", "smoke")),
        "--manifest_path", manifest, "--checkpoint", str(tmp_path / "model.pt"),
    ]  # fmt: skip
    short = {**TINY, "max_epochs": 3, "decay_epochs": 0, "locator_epochs": 1, "segmenter_epochs": 1, "batch_size": 2}
    for name, value in short.items():
        command += [f"--{name}", str(value)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    curve = pd.read_csv(tmp_path / "model.curve.csv")
    assert curve["loss_dice"].isna().tolist() == [True, False, False]
    # the names are those of one process
    state = torch.load(tmp_path / "model.pt", weights_only=True)
    workflow("inference", dataset_dir=manifest, split="val", checkpoint=str(tmp_path / "model.pt"),
             output_dir=str(tmp_path / "out")).run()  # fmt: skip
    assert not any(name.startswith("module.") for name in state)
