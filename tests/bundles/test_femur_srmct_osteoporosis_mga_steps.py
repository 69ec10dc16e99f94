"""Every step of paper 1 after the first, one after the other, on a study of six tiny phantoms."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from bonemonai.analysis import read_predictions, score_predictions
from bonemonai.data import open_volume, read_manifest
from bonemonai.engines import weights_card
from bonemonai.errors import find_bonemonai_error
from bonemonai.inferers import read_patch_probabilities
from bonemonai.networks import VGG16
from bonemonai.phantoms import write_srmct_study
from tests.bundles.test_femur_srmct_osteoporosis_mga import BUNDLE, CONFIGS, _elsewhere, workflow  # noqa: F401

# whole numbers of everything, as small as they go
SEGMENT = {"width": 4, "max_epochs": 2}
CLASSIFY: dict[str, Any] = {
    "width": 2, "patch_input_size": 64, "max_epochs": 2, "pretrained": False, "bone_fraction": 0.5,
    "patches_per_plane": 2,
}  # fmt: skip


def refusal(*names: str, **options: Any) -> str:
    """The one line that a run ends with."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        workflow(*names, **options).run()
    return str(find_bonemonai_error(caught.value))


@pytest.fixture(scope="module")
def six(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six patients: one labelled and one unlabelled of each class to train on, one to validate, one to test."""
    folder = tmp_path_factory.mktemp("six")
    write_srmct_study(folder, shape=(8, 120, 115), labelled_per_class=1, seed=1)
    workflow("select_slices", manifest_path=str(folder / "manifest.csv"), number=3).run()
    return folder


@pytest.fixture(scope="module")
def first(six: Path) -> Path:
    path = six / "models" / "unet_1.pt"
    options = {"dataset_dir": str(six), "manifest_path": str(six / "slices.csv")}
    workflow("train_segmentation", "smoke", checkpoint=str(path), **options, **SEGMENT).run()
    return path


@pytest.fixture(scope="module")
def pseudo(six: Path, first: Path) -> Path:
    workflow("inference", "pseudo_label", manifest_path=str(six / "slices.csv"), checkpoint=str(first)).run()
    return six / "slices_pseudo.csv"


@pytest.fixture(scope="module")
def second(six: Path, pseudo: Path) -> Path:
    path = six / "models" / "unet_2.pt"
    options = {"dataset_dir": str(six), "manifest_path": str(pseudo)}
    workflow("train_segmentation", "smoke", checkpoint=str(path), **options, **SEGMENT).run()
    return path


@pytest.fixture(scope="module")
def masks(six: Path, second: Path) -> Path:
    options = {"manifest_path": str(six / "slices.csv"), "checkpoint": str(second)}
    workflow("inference", "pseudo_label", "predict_masks", **options).run()
    return six / "slices_masks.csv"


@pytest.fixture(scope="module")
def classifier(six: Path, masks: Path) -> Path:
    path = six / "models" / "classifier.pt"
    options = {"manifest_path": str(masks), "checkpoint": str(path), "fold": 0}
    workflow("train_classification", **options, **CLASSIFY).run()
    workflow("train_classification", "evaluate_classification", "calibrate_classification", **options, **CLASSIFY).run()
    return path


def test_slices_correspond_between_patients(six: Path) -> None:
    planes = read_manifest(six / "slices.csv").groupby("patient")["plane"].agg(list)
    assert len(planes) == 6
    assert len({tuple(numbers) for numbers in planes}) == 1
    assert (six / "slices_left_out.csv").read_text() == "scan,reason\n"
    assert json.loads((six / "slices.json").read_text())["kind"] == "synthetic"


def test_pseudo_labels_are_the_first_networks_and_truth_stays_truth(six: Path, first: Path, pseudo: Path) -> None:
    before, after = read_manifest(six / "slices.csv"), read_manifest(pseudo)
    unlabelled = before["label"] == ""
    assert unlabelled.sum() == 2 * 3
    origin = f"model:{weights_card(first)['sha256']}"
    assert (after["label_origin"][unlabelled] == origin).all()
    assert (after["label_origin"][~unlabelled] == "").all()
    assert after["label"][~unlabelled].tolist() == before["label"][~unlabelled].tolist()
    row = after[unlabelled].iloc[0]
    assert open_volume(row["label"]).shape == (3, 120, 115)


def test_second_network_is_trained_on_both_from_scratch(first: Path, second: Path) -> None:
    one, two = weights_card(first), weights_card(second)
    assert "masks_predicted_by" not in one["trained_on"]
    assert two["trained_on"]["masks_predicted_by"] == [f"model:{one['sha256']}"]


def test_evaluator_refuses_pseudo_labels(six: Path, pseudo: Path, first: Path, second: Path, tmp_path: Path) -> None:
    steps = ("train_segmentation", "smoke", "evaluate")
    options = {"dataset_dir": str(six), "output_dir": str(tmp_path / "out"), "width": 4}
    # the patients whose labels are pseudo-labels, as if they were to be scored
    table = pd.read_csv(pseudo, dtype=str, keep_default_na=False)
    table.loc[table["label_origin"] != "", "split"] = "val"
    table.loc[table["split"] == "val", "label_origin"] = ""  # nor does it help to delete what the manifest says
    table.to_csv(six / "swapped.csv", index=False)
    swapped = {"manifest_path": str(six / "swapped.csv"), "checkpoint": str(first), "validate#split": "val"}
    assert "is no truth: only labels made by hand can be scored" in refusal(*steps, **options, **swapped)
    # what U-Net-2 was trained on is not scored, whoever labelled it
    trained = {"manifest_path": str(pseudo), "checkpoint": str(second), "validate#split": "train"}
    assert "but these weights were trained or chosen on it" in refusal(*steps, **options, **trained)
    # the test patients' labels were made by hand
    workflow(*steps, manifest_path=str(pseudo), checkpoint=str(second), **options).run()
    assert "lacuna_dsc" in (tmp_path / "out" / "metrics.csv").read_text()
    about = json.loads((tmp_path / "out" / "results.json").read_text())
    assert about["weights"]["trained_on"]["kind"] == about["tested_on"] == "synthetic"


def test_vgg16_takes_the_unets_place(six: Path, tmp_path: Path) -> None:
    options = {"dataset_dir": str(six), "manifest_path": str(six / "slices.csv"), "checkpoint": str(tmp_path / "v.pt")}
    assert "no such ImageNet weights" in refusal("train_segmentation", "smoke", "vgg16_unet", **options)
    torch.save(VGG16(1000, width=2).state_dict(), tmp_path / "imagenet.pth")
    options |= {"width": 2, "max_epochs": 1, "pretrained": str(tmp_path / "imagenet.pth")}
    workflow("train_segmentation", "smoke", "vgg16_unet", **options).run()
    scan = read_manifest(six / "slices.csv")["image"][0]
    out = tmp_path / "out"
    inferred = {"dataset_dir": scan, "checkpoint": str(tmp_path / "v.pt"), "pretrained": False, "output_dir": str(out)}
    workflow("inference", "vgg16_unet", **inferred).run()
    assert open_volume(out / "lacunae.ome.zarr").shape == (8, 120, 115)


def test_classifier_learns_from_the_masks_that_were_predicted(masks: Path, classifier: Path, second: Path) -> None:
    table = read_manifest(masks)
    assert (table["lacunae_origin"] == f"model:{weights_card(second)['sha256']}").all()
    curve = pd.read_csv(classifier.with_suffix(".curve.csv"))
    assert curve["epoch"].tolist() == [1, 2]
    assert {"loss", "patch_accuracy"} <= set(curve)
    card = weights_card(classifier)
    assert card["calibration"]["temperature"] > 0
    assert card["trained_on"]["patients"] == {"train": 2, "val": 2, "test": 2}
    assert card["options"]["patch_input_size"] == 64


def test_weights_are_not_tested_on_what_they_were_trained_on(masks: Path, classifier: Path, tmp_path: Path) -> None:
    options = {"manifest_path": str(masks), "checkpoint": str(classifier), "output_dir": str(tmp_path / "out")}
    steps = ("train_classification", "evaluate_classification")
    assert "but these weights were trained or chosen on it" in refusal(*steps, fold=8, **options, **CLASSIFY)
    other = {**CLASSIFY, "patch_input_size": 96}
    assert "was trained with patch_input_size 64, not 96" in refusal(*steps, fold=0, **options, **other)
    assert not (tmp_path / "out").exists()


def test_a_loss_that_is_no_number_ends_the_training(masks: Path, tmp_path: Path) -> None:
    options = {"manifest_path": str(masks), "fold": 0, "checkpoint": str(tmp_path / "c.pt"), "learning_rate": 1e20}
    message = refusal("train_classification", "without_validation", **options, **CLASSIFY)
    assert "loss: is " in message
    assert not (tmp_path / "c.pt").exists()


def test_evaluation_scores_patches_and_patients(masks: Path, classifier: Path, tmp_path: Path) -> None:
    options = {
        "manifest_path": str(masks),
        "checkpoint": str(classifier),
        "fold": 0,
        "output_dir": str(tmp_path / "out"),
    }
    workflow("train_classification", "evaluate_classification", **options, **CLASSIFY).run()
    predictions = read_predictions(tmp_path / "out" / "predictions.csv")
    assert predictions.groupby("subject").size().to_dict() == {"subject_00": 6, "subject_01": 6}
    scores = pd.read_csv(tmp_path / "out" / "scores.csv")
    np.testing.assert_allclose(scores["value"], score_predictions(predictions)["value"], rtol=1e-5)
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["weights"]["sha256"] == weights_card(classifier)["sha256"]
    assert (tmp_path / "out" / "calibration.csv").is_file()
    assert len(pd.read_csv(tmp_path / "out" / "gradcam.csv")) == 12
    everything = "".join(
        path.read_text(errors="replace") for path in (tmp_path / "out").iterdir() if path.suffix != ".npz"
    )
    assert "H01" not in everything


@pytest.mark.parametrize("model", ["mga", "vgg16"])
def test_cross_validation_in_one_command(model: str, masks: Path, tmp_path: Path) -> None:
    options = {**CLASSIFY, "max_epochs": 1}
    arguments = {"manifest_path": str(masks), "model": model, "output_dir": str(tmp_path / "cv"), "options": options}
    run = workflow("cross_validate", **arguments)
    assert run.parser.get_parsed_content("folds") == list(range(9))
    for _ in range(2):  # the second one finds everything done
        workflow("cross_validate", **arguments, folds=[0, 4]).run()
    patients = pd.read_csv(tmp_path / "cv" / "patients.csv")
    assert patients["subject"].tolist() == ["subject_00", "subject_01", "subject_02", "subject_03"]
    results = json.loads((tmp_path / "cv" / "results.json").read_text())
    assert (results["model"], results["folds"]) == (model, ["fold_00", "fold_04"])
    assert results["weights"]["trained_on"]["patients"] == {"train": 4, "test": 2}
    done = json.loads((tmp_path / "cv" / "fold_04" / "done.json").read_text())
    assert f"{'train_classification' if model == 'mga' else model}.json" in done["configs"]


@pytest.mark.parametrize(("model", "layer"), [("alexnet", "network.features"), ("resnet50", "network.layer4")])
def test_other_baselines_take_the_same_patches(model: str, layer: str, masks: Path) -> None:
    run = workflow(
        "train_classification", model, manifest_path=str(masks), fold=0, checkpoint="none.pt", pretrained=False
    )
    network = run.parser.get_parsed_content("network_def")
    assert network.eval()(torch.rand(2, 2, 55, 55)).shape == (2, 2)
    assert run.parser.get_parsed_content("cam_layer") == layer
    assert layer in dict(network.named_modules())


def test_training_has_the_properties_that_monai_requires(masks: Path, six: Path) -> None:
    options = {"manifest_path": str(masks), "fold": 0, "checkpoint": "none.pt", **CLASSIFY}
    run = workflow("train_classification", workflow_type="train", dataset_dir=str(six), **options)
    assert run.check_properties() == []


def test_there_is_no_silent_random_start(masks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    message = refusal("train_classification", manifest_path=str(masks), fold=0, checkpoint=str(tmp_path / "c.pt"))
    assert "vgg16-397923af.pth: no such ImageNet weights" in message
    assert not (tmp_path / "c.pt").exists()


def test_scan_is_segmented_and_classified_in_one_pass(
    six: Path, second: Path, classifier: Path, tmp_path: Path
) -> None:
    scan = read_manifest(six / "manifest.csv")["image"][0]
    options = {"checkpoint": str(second), "classifier_checkpoint": str(classifier)}
    options |= {"plane_step": 2, "output_dir": str(tmp_path / "out")}
    workflow("inference", "classify", dataset_dir=scan, **options).run()
    decision = json.loads((tmp_path / "out" / "decision.json").read_text())
    planes = [plane for _, plane in read_patch_probabilities(tmp_path / "out" / "probability.ome.zarr")]
    assert [bool(np.isfinite(plane).any()) for plane in planes] == [True, False] * 4
    assert decision["patches"] == int(np.isfinite(planes).sum())
    assert decision["weights"]["sha256"] == weights_card(classifier)["sha256"]
    # the masks are those of segmentation alone
    plain = {"dataset_dir": scan, "checkpoint": str(second), "output_dir": str(tmp_path / "plain")}
    workflow("inference", **plain).run()
    for name in ("lacunae", "bone"):
        one, two = (open_volume(tmp_path / folder / f"{name}.ome.zarr").read() for folder in ("out", "plain"))
        np.testing.assert_array_equal(one, two)


def test_three_scans_one_of_them_broken(six: Path, second: Path, classifier: Path, tmp_path: Path) -> None:
    table = read_manifest(six / "manifest.csv")
    rows = ["patient,image,voxel_size_um"]
    for number, image in enumerate(table["image"][:3]):
        shutil.copytree(image, tmp_path / f"s{number}")
        rows.append(f"P{number},s{number},1.6")
    broken = sorted((tmp_path / "s1").iterdir())[4]
    broken.write_bytes(broken.read_bytes()[:2000])
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    options = {"checkpoint": str(second), "classifier_checkpoint": str(classifier)}
    options |= {"output_dir": str(tmp_path / "out")}
    message = refusal("inference", "classify", dataset_dir=str(tmp_path / "scans.csv"), **options)
    assert "1 of 3 scans: failed: scan_0001" in message
    decisions = pd.read_csv(tmp_path / "out" / "decisions.csv")
    assert decisions["scan"].tolist() == ["scan_0000", "scan_0002"]
    assert pd.read_csv(tmp_path / "out" / "summary.csv")["status"].tolist() == ["done", "failed", "done"]


def test_configs_are_at_the_papers_scale() -> None:
    config = json.loads((CONFIGS / "train_classification.json").read_text())
    names = ("width", "max_epochs", "learning_rate", "mse_weight", "pretrained", "attention", "patch_input_size")
    assert [config[name] for name in names] == [64, 300, 0.01, 0.1, True, "mask", 224]
    assert json.loads((CONFIGS / "select_slices.json").read_text())["number"] == 440
    assert not (BUNDLE / "eval").exists()
