"""The baselines of paper 4's bundle, trained and scored on nine coarse lumbar phantoms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from bonemonai.data import CONDITIONS
from bonemonai.engines import weights_card
from bonemonai.networks import PairClassifier, torchvision_classifier
from tests.bundle_runs import BundleRuns
from tests.networks.torchvision_models import torchvision_models

RUNS = BundleRuns("lumbar_ct_osteoporosis_multitask")
BUNDLE, files, workflow, refusal = RUNS.folder, RUNS.files, RUNS.workflow, RUNS.refusal
SMALL = ("train_baseline", "shufflenet", "smoke_baseline")
# of three outputs: torchvision's counts of a thousand, without what the last layer has fewer
PARAMETERS = {
    "alexnet": 61_100_840 - 997 * 4097, "vgg19": 143_667_240 - 997 * 4097, "googlenet": 6_624_904 - 997 * 1025,
    "resnet50": 25_557_032 - 997 * 2049, "resnet101": 44_549_160 - 997 * 2049, "densenet121": 7_978_856 - 997 * 1025,
    "shufflenet": 2_278_604 - 997 * 1025, "efficientnet": 5_288_548 - 997 * 1281,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs from a folder that has nothing to do with the bundle, and leaves nothing in it."""
    torchvision_models()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    yield
    for name in ("models", "eval"):
        written = {path.stem for path in (BUNDLE / name).rglob("*")} & {*PARAMETERS, "predictions"}
        assert not written


@pytest.fixture(scope="module")
def manifest(lumbar_study: Path) -> str:
    return str(lumbar_study / "manifest.csv")


@pytest.fixture(scope="module")
def checkpoint(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    torchvision_models()
    path = str(tmp_path_factory.mktemp("weights") / "shufflenet.pt")
    workflow(*SMALL, manifest_path=manifest, checkpoint=path, max_epochs=2).run()
    return path


@pytest.fixture(scope="module")
def evaluation(manifest: str, checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("evaluation")
    workflow(*SMALL, "evaluate_baseline", manifest_path=manifest, checkpoint=checkpoint, output_dir=str(out)).run()
    return out


def test_the_papers_values_are_the_defaults(manifest: str, tmp_path: Path) -> None:
    elsewhere = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), "pretrained": False}
    parser = workflow("train_baseline", "shufflenet", **elsewhere).parser
    names = ("image_size", "crop_size", "outlined", "learning_rate", "max_epochs", "batch_size")
    assert [parser.get_parsed_content(name) for name in names] == [512, None, True, 0.001, 300, 8]
    optimizer = parser.get_parsed_content("optimizer")
    assert (type(optimizer), optimizer.defaults["momentum"]) == (torch.optim.SGD, 0.9)


@pytest.mark.parametrize("overlay", PARAMETERS)
def test_each_baseline_is_an_overlay(overlay: str, manifest: str, tmp_path: Path) -> None:
    elsewhere = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), "pretrained": False}
    parser = workflow("train_baseline", overlay, **elsewhere).parser
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, PairClassifier)
    assert sum(parameter.numel() for parameter in network.parameters()) == PARAMETERS[overlay]
    assert parser.get_parsed_content("model") == overlay
    assert parser.get_parsed_content("weight_options")["architecture"] == overlay


def test_resnet101_is_the_default() -> None:
    config = json.loads((BUNDLE / "configs" / "train_baseline.json").read_text())
    assert config["architecture"] == "resnet101"
    assert config["pretrained"] is True


def test_training_leaves_weights_that_say_what_they_are(checkpoint: str) -> None:
    network = PairClassifier(torchvision_classifier("shufflenet", 3))
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    card = weights_card(checkpoint)
    assert card["options"] == {
        "architecture": "shufflenet", "classes": list(CONDITIONS), "pair": ["L1", "L2"], "image_size": 128,
        "crop_size": None, "outlined": True, "window": [-160, 240],
    }  # fmt: skip
    assert (card["trained_on"]["kind"], card["trained_on"]["pretrained"]) == ("synthetic", False)
    assert len(pd.read_csv(Path(checkpoint).with_suffix(".curve.csv"))) == 2


def test_evaluation_scores_each_test_subject_once(evaluation: Path) -> None:
    table = pd.read_csv(evaluation / "predictions.csv", keep_default_na=False)
    assert list(table.columns[:7]) == ["subject", "scan", "diagnosis", "level", "refusal", "plane", "copy"]
    assert len(table) == table["subject"].nunique() == table["scan"].nunique() == 3
    assert set(table["level"]) == {"L1+L2"}
    assert (table["copy"] == 0).all()
    assert (table["refusal"] == "").all()
    assert set(table["diagnosis"]) == set(CONDITIONS)
    record = json.loads((evaluation / "results.json").read_text())
    assert (record["tested_on"], record["model"], record["scored"]["subjects"]) == ("synthetic", "shufflenet", 3)
    both = pd.read_csv(evaluation / "one_vs_rest.csv")
    assert both[["class", "convention"]].to_numpy().tolist() == [
        [name, convention] for name in CONDITIONS for convention in ("usual", "paper")
    ]
    # the accuracy of a class against the others is the same either way, and that of the confusion
    counts = pd.read_csv(evaluation / "confusion_subject.csv", index_col="diagnosis")[list(CONDITIONS)].to_numpy()
    right = [(counts[k, k] + counts.sum() - counts[k].sum() - counts[:, k].sum() + counts[k, k]) / 3 for k in range(3)]
    assert both["accuracy"].tolist() == pytest.approx([value for value in right for _ in range(2)], abs=1e-5)


def test_predictions_are_those_of_the_network(evaluation: Path, manifest: str, checkpoint: str) -> None:
    given = {"manifest_path": manifest, "checkpoint": checkpoint, "output_dir": "out"}
    parser = workflow(*SMALL, "evaluate_baseline", **given).parser
    network = parser.get_parsed_content("network").eval()
    batch = next(iter(parser.get_parsed_content("validate#dataloader")))
    with torch.no_grad():
        logits = network(batch["image"], batch["present"])
    assert batch["image"].shape == (3, 2, 1, 128, 128)
    table = pd.read_csv(evaluation / "predictions.csv")
    written = torch.tensor(table[[f"logit_{name}" for name in CONDITIONS]].to_numpy(), dtype=torch.float32)
    torch.testing.assert_close(logits, written, rtol=1e-5, atol=1e-6)


def test_a_vertebra_that_the_mask_does_not_show_is_left_out(manifest: str, tmp_path: Path) -> None:
    """No phantom has an L3: the decision is L2's, in training and after it."""
    given = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt"), "pair": ["L2", "L3"]}
    workflow(*SMALL, max_epochs=1, **given).run()
    workflow(*SMALL, "evaluate_baseline", output_dir=str(tmp_path / "out"), **given).run()
    table = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert set(table["level"]) == {"L2"}
    assert (table["plane"] >= 0).all()
    assert table[[f"logit_{name}" for name in CONDITIONS]].notna().all(axis=None)


def test_images_hold_only_what_is_outlined_and_our_crop_is_an_option(manifest: str, checkpoint: str) -> None:
    for options, size, share in (
        ({}, 128, (0.005, 0.1)), ({"crop_size": 32}, 32, (0.05, 0.95)),
        ({"crop_size": 32, "outlined": False}, 32, (0.95, 1.0)),
    ):  # fmt: skip
        parser = workflow(*SMALL, manifest_path=manifest, checkpoint="model.pt", seed=1, **options).parser
        for part in ("train", "validate"):
            batch = next(iter(parser.get_parsed_content(f"{part}#dataloader")))
            assert batch["image"].shape[1:] == (2, 1, size, size)
            assert batch["present"].all()
            shown = (batch["image"] > 0).float().mean(dim=(2, 3, 4))
            assert ((shown >= share[0]) & (shown <= share[1])).all(), (options, part, shown)


def test_refusals_are_one_line(manifest: str, checkpoint: str, tmp_path: Path) -> None:
    new = {"manifest_path": manifest, "checkpoint": str(tmp_path / "model.pt")}
    small = {**new, "image_size": 128}
    assert "no such ImageNet weights" in refusal("train_baseline", "shufflenet", **small)
    assert "shufflenetv2_x1-5666bf0f80.pth" in refusal("train_baseline", "shufflenet", **small)
    assert "gone.pth" in refusal("train_baseline", "shufflenet", pretrained="/no/gone.pth", **small)
    assert "did you mean --architecture?" in refusal("train_baseline", architectur="vgg19", **small)
    assert "must be one of alexnet" in refusal(*SMALL, architecture="lenet", **small)
    assert "exists already" in refusal(*SMALL, manifest_path=manifest, checkpoint=checkpoint, max_epochs=2)
    old = {"manifest_path": manifest, "checkpoint": checkpoint, "output_dir": str(tmp_path / "out")}
    line = refusal("train_baseline", "evaluate_baseline", **old)
    assert line == "--architecture: must be one of shufflenet, got 'resnet101'."
    assert "trained or chosen on it" in refusal(*SMALL, "evaluate_baseline", split="train", **old)
    assert "image_size 128, not 64" in refusal(*SMALL, "evaluate_baseline", image_size=64, **old)
    assert "(--checkpoint)" in refusal(*SMALL, "evaluate_baseline", **new)
