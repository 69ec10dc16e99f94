"""Every step of paper 2's bundle, one after the other, on three tiny samples of phantom bone under load."""

from __future__ import annotations

import json
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

from bonemonai.data import SliceDataset, manifest_items, open_volume, read_damage_fold, read_manifest
from bonemonai.engines import weights_card
from bonemonai.networks import DamageCNN, TransferResNet50, TriplanarClassifier
from bonemonai.transforms import SaturateIntensity
from tests.bundle_runs import BundleRuns

RUNS = BundleRuns("bone_srmct_damage_classification")
BUNDLE, files, workflow, refusal = RUNS.folder, RUNS.files, RUNS.workflow, RUNS.refusal
TINY = {"width": 2, "image_size": 24, "layers": 2, "max_epochs": 2}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs from a folder that has nothing to do with the bundle, and leaves nothing in it."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (BUNDLE / "eval").exists()
    assert not (BUNDLE / "models").exists()


@pytest.fixture(scope="module")
def slices(loaded_bone: Path) -> str:
    return str(loaded_bone / "slices.csv")


@pytest.fixture(scope="module")
def checkpoint(slices: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    workflow("train", "smoke", manifest_path=slices, checkpoint=str(path), **TINY).run()
    return path


@pytest.fixture(scope="module")
def folds(slices: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All six folds of three samples, with the configs of trabecular bone."""
    out = tmp_path_factory.mktemp("folds") / "cnn"
    options = {**TINY, "max_epochs": 1}
    workflow("cross_validate", manifest_path=slices, scale="smoke", bone="trabecular", output_dir=str(out),
             options=options).run()  # fmt: skip
    return out


def test_preparation_by_the_config_is_that_of_the_class(loaded_bone: Path, tmp_path: Path) -> None:
    raw = loaded_bone / "raw" / "manifest.csv"
    workflow("prepare", manifest_path=str(raw), output_dir=str(tmp_path / "out"), crop_size=24, slices_per_plane=6,
             registered=True).run()  # fmt: skip
    assert (tmp_path / "out" / "slices.csv").read_text() == (loaded_bone / "slices.csv").read_text()
    ours, theirs = (open_volume(folder / "scan_0002.ome.zarr").read() for folder in (tmp_path / "out", loaded_bone))
    np.testing.assert_array_equal(ours, theirs)
    line = refusal("prepare", manifest_path=str(raw), output_dir=str(tmp_path / "other"), registered=True)
    assert "no box of (300, 300, 300) can be cut from it; choose a smaller crop_size" in line


def test_the_ablation_leaves_grey_values_as_they_are(loaded_bone: Path, tmp_path: Path) -> None:
    raw = loaded_bone / "raw" / "manifest.csv"
    workflow("prepare", "without_processing", manifest_path=str(raw), output_dir=str(tmp_path), crop_size=24,
             slices_per_plane=6, registered=True).run()  # fmt: skip
    scan = open_volume(read_manifest(raw)["image"][1]).read()[4:28, 4:28, 4:28]
    np.testing.assert_array_equal(open_volume(tmp_path / "scan_0001.ome.zarr").read(), scan)


def test_training_stores_the_best_weights_and_what_they_are(checkpoint: Path) -> None:
    card = weights_card(checkpoint)
    assert (card["trained_on"]["kind"], card["options"]["model"]) == ("synthetic", "cnn")
    assert 0 <= card["accuracy"] <= 1
    assert "not a medical device" in card["note"]
    DamageCNN(layers=2, image_size=24, width=2).load_state_dict(torch.load(checkpoint, weights_only=True))


def test_one_fold_at_smoke_scale_as_it_is_shipped(slices: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    workflow("train", "smoke", manifest_path=slices, checkpoint=str(path)).run()
    DamageCNN(image_size=64, width=8).load_state_dict(torch.load(path, weights_only=True))
    curve = pd.read_csv(tmp_path / "model.curve.csv")
    assert len(curve) == 6
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]


@pytest.mark.parametrize(
    ("overlays", "layers", "kernel", "rate", "batch"),
    [((), 4, 5, 1e-4, 10), (("trabecular",), 5, 3, 1e-3, 20), (("baseline",), 3, 5, 1e-4, 20)],
)
def test_the_papers_values_are_the_defaults(
    overlays: tuple[str, ...], layers: int, kernel: int, rate: float, batch: int, slices: str
) -> None:
    parser = workflow("train", *overlays, manifest_path=slices).parser
    assert [parser[name] for name in ("layers", "kernel_size", "learning_rate", "batch_size")] == [
        layers, kernel, rate, batch,
    ]  # fmt: skip
    assert (parser["max_epochs"], parser["image_size"], parser["width"]) == (20, 200, 32)
    if overlays != ("baseline",):
        network = parser.get_parsed_content("network_def")
        trainable = sum(weight.numel() for weight in network.parameters() if weight.requires_grad)
        assert trainable == {4: 19_265_858, 5: 20_446_018}[layers]


@pytest.mark.parametrize(
    ("name", "trainable", "epochs"),
    [("transfer", 4_098, 5), ("fine_tuning", 23_512_130, 5), ("resnet_scratch", 23_512_130, 20)],
)
def test_resnet_overlays(name: str, trainable: int, epochs: int, slices: str) -> None:
    # not initialized: there are no ImageNet weights here
    parser = workflow("train", name, manifest_path=slices, initialize=["$@bundle_root"]).parser
    assert [parser[key] for key in ("learning_rate", "batch_size", "max_epochs")] == [1e-4, 20, epochs]
    assert parser["pretrained"] is (name != "resnet_scratch")
    network = parser.get_parsed_content("backbone")
    assert sum(weight.numel() for weight in network.parameters() if weight.requires_grad) == trainable


def test_imagenet_weights_that_are_not_there_are_no_random_start(
    slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    line = refusal("train", "transfer", manifest_path=slices, checkpoint=str(tmp_path / "model.pt"))
    assert "resnet50" in line
    assert not (tmp_path / "model.pt").exists()


def test_a_frozen_resnet_trains_its_head_only(slices: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    run = workflow("train", "transfer", "smoke", manifest_path=slices, checkpoint=str(path), width=2, image_size=32,
                   max_epochs=1, pretrained=False)  # fmt: skip
    run.initialize()
    before = {name: value.clone() for name, value in run.parser.get_parsed_content("network").state_dict().items()}
    run.run()
    after = run.parser.get_parsed_content("network").state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"fc.weight", "fc.bias"}
    TransferResNet50(width=2, frozen=False).load_state_dict(torch.load(path, weights_only=True))
    assert weights_card(path)["trained_on"]["pretrained"] is False


def test_evaluation_predicts_all_states_of_the_test_sample(checkpoint: Path, slices: str, tmp_path: Path) -> None:
    options = {"manifest_path": slices, "checkpoint": str(checkpoint), "output_dir": str(tmp_path / "eval"), **TINY}
    workflow("train", "smoke", "evaluate", **options).run()
    predictions = pd.read_csv(tmp_path / "eval" / "predictions.csv")
    assert len(predictions) == 3 * 18
    assert sorted(predictions["load_state"].unique()) == [1, 2, 3]
    limits = pd.read_csv(tmp_path / "eval" / "detection_limits.csv")
    assert limits["overall"][0] == 0.5
    record = json.loads((tmp_path / "eval" / "results.json").read_text())
    assert record["split"] == {"test": ["subject_00"], "val": ["subject_01"]}
    assert (record["bone"], record["deal"]) == ("cortical", "samples")
    assert record["tested_on"] == "synthetic"
    assert "/" not in json.dumps(record["options"])
    # the network by hand, on one slice
    fold = read_damage_fold(slices, 0)
    row = next(row for row in manifest_items(fold, "test") if row["load_state"] == 2 and row["plane"] == "XZ")
    item = SliceDataset([row], keep=False)[0]
    network = DamageCNN(layers=2, image_size=24, width=2).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    image = SaturateIntensity(0.5, 99.5)(item["image"], item["histogram"])
    with torch.no_grad():
        logits = network(torch.as_tensor(image)[None])[0]
    same = (predictions["load_state"] == 2) & (predictions["plane"] == "XZ") & (predictions["index"] == item["index"])
    found = predictions.loc[same, ["logit_pristine", "logit_failed"]].to_numpy()[0]
    np.testing.assert_allclose(found, logits.numpy(), rtol=1e-5, atol=1e-6)
    line = refusal("train", "smoke", "evaluate", **options)
    assert "exists already; say --overwrite True" in line
    # fold 4 tests the sample that was trained on, fold 2 the one that chose the epoch; the flag is no way round
    for fold, flag in ((4, False), (2, False), (4, True)):
        other = {"fold": fold, "allow_leakage": flag, "output_dir": str(tmp_path / "other")}
        line = refusal("train", "smoke", "evaluate", **{**options, **other})
        assert "these weights were trained or chosen on it" in line
    line = refusal("train", "smoke", "gradcam", **{**options, "fold": 4, "output_dir": str(tmp_path / "other")})
    assert "these weights were trained or chosen on it" in line


def test_an_early_state_can_stand_for_failed(slices: str, tmp_path: Path) -> None:
    options = {"manifest_path": slices, "checkpoint": str(tmp_path / "model.pt"), "failed_state": 2, **TINY}
    workflow("train", "smoke", **options).run()
    workflow("train", "smoke", "evaluate", **options, output_dir=str(tmp_path / "eval")).run()
    limits = pd.read_csv(tmp_path / "eval" / "detection_limits.csv").set_index("load_state")
    scores = pd.read_csv(tmp_path / "eval" / "scores.csv").set_index("metric")["value"]
    assert scores["accuracy"] == pytest.approx(limits.loc[2, "overall"])
    assert json.loads((tmp_path / "eval" / "results.json").read_text())["split"]["failed_state"] == 2


def test_six_folds_in_one_command(folds: Path, slices: str) -> None:
    table = pd.read_csv(folds / "folds.csv")
    pairs = set(zip(table["test"], table["val"], strict=True))
    assert pairs == {(f"subject_0{a}", f"subject_0{b}") for a in range(3) for b in range(3) if a != b}
    scores = pd.read_csv(folds / "scores.csv").set_index("metric")
    assert scores.loc["accuracy", "mean"] == pytest.approx(table["accuracy"].mean())
    assert scores.loc["accuracy", "sd"] == pytest.approx(table["accuracy"].std())
    band = pd.read_csv(folds / "detection_band.csv")
    assert band.loc[0, ["mean", "sd", "low", "high"]].tolist() == [0.5, 0, 0.5, 0.5]
    before = (folds / "fold_00" / "model.pt").stat().st_mtime_ns
    workflow("cross_validate", manifest_path=slices, scale="smoke", bone="trabecular", output_dir=str(folds),
             options={**TINY, "max_epochs": 1}).run()  # fmt: skip
    assert (folds / "fold_00" / "model.pt").stat().st_mtime_ns == before


def test_a_mixed_deal_needs_leave_and_is_named(slices: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"manifest_path": slices, "scale": "smoke", "deal": "random", "sets": 3, "folds": [0],
                               "output_dir": str(tmp_path / "mixed"), "options": {**TINY, "max_epochs": 1}}  # fmt: skip
    assert "is leakage" in refusal("cross_validate", **options)
    workflow("cross_validate", **options, overwrite=True, allow_leakage=True).run()
    record = json.loads((tmp_path / "mixed" / "results.json").read_text())
    assert "trained on and tested on" in record["leakage"]
    assert weights_card(tmp_path / "mixed" / "fold_00" / "model.pt")["trained_on"]["leakage"] == record["leakage"]


def test_a_sweep_gradcam_and_the_report(folds: Path, slices: str, checkpoint: Path, tmp_path: Path) -> None:
    workflow("sweep", manifest_path=slices, scale="smoke", output_dir=str(tmp_path / "sweep"), folds=[0],
             values={"layers": [2], "batch_size": [40]}, baseline={"layers": 1, "batch_size": 20},
             options={"width": 2, "image_size": 24, "max_epochs": 1}).run()  # fmt: skip
    sweep = pd.read_csv(tmp_path / "sweep" / "sweep.csv")
    assert list(zip(sweep["parameter"], sweep["value"], sweep["baseline"], strict=True)) == [
        ("layers", 1, True), ("layers", 2, False), ("batch_size", 20, True), ("batch_size", 40, False),
    ]  # fmt: skip
    best = json.loads((folds / "results.json").read_text())["best_fold"]
    workflow("train", "trabecular", "smoke", "gradcam", manifest_path=slices, fold=int(best.removeprefix("fold_")),
             checkpoint=str(folds / best / "model.pt"), every=6, output_dir=str(tmp_path / "cam"),
             **TINY).run()  # fmt: skip
    cam = pd.read_csv(tmp_path / "cam" / "gradcam.csv")
    assert len(cam) == 3 * 3  # a slice of each plane at each state
    assert (cam.loc[cam["load_state"] == 1, "crack_area"] == 0).all()
    assert (cam.loc[cam["load_state"] == 3, "crack_area"] > 0).any()
    workflow("report", results={"trabecular/cnn": str(folds)}, sweep=str(tmp_path / "sweep"),
             gradcam={"trabecular/cnn": str(tmp_path / "cam")}, output_dir=str(tmp_path / "report")).run()  # fmt: skip
    line = refusal("train", "smoke", "gradcam", manifest_path=slices, checkpoint=str(checkpoint), every=6,
                   output_dir=str(tmp_path / "cam"), **TINY)  # fmt: skip
    assert "exists already" in line
    assert json.loads((tmp_path / "cam" / "gradcam.json").read_text())["weights"]["sha256"]
    line = refusal("report", results={"cortical/cnn": str(folds)}, output_dir=str(tmp_path / "other"))
    assert "holds results of trabecular bone, not of cortical" in line
    # maps of weights that no fold was tested with are not shown as the cross-validation's
    workflow("train", "smoke", "gradcam", manifest_path=slices, checkpoint=str(checkpoint), every=6,
             output_dir=str(tmp_path / "other_cam"), **TINY).run()  # fmt: skip
    line = refusal("report", results={"trabecular/cnn": str(folds)}, output_dir=str(tmp_path / "other"),
                   gradcam={"trabecular/cnn": str(tmp_path / "other_cam")})  # fmt: skip
    assert "that are of no fold of trabecular, CNN" in line
    page = (tmp_path / "report" / "report.html").read_text()
    assert "phantom" in page
    assert "tied to a fold" not in page
    assert "not a medical device" in page
    assert str(folds) not in page


def test_a_damage_map_is_the_mean_of_the_slices_through_each_voxel(
    checkpoint: Path, loaded_bone: Path, tmp_path: Path
) -> None:
    scan = loaded_bone / "scan_0002.ome.zarr"
    options = {"dataset_dir": str(scan), "checkpoint": str(checkpoint), "output_dir": str(tmp_path / "map")}
    workflow("inference", **options, window=16).run()
    found = open_volume(tmp_path / "map" / "damage.ome.zarr")
    assert found.shape == (24, 24, 24)
    network = DamageCNN(layers=2, image_size=24, width=2).eval()
    network.load_state_dict(torch.load(checkpoint, weights_only=True))
    volume = open_volume(scan)
    from bonemonai.data import volume_histogram

    grey = torch.as_tensor(SaturateIntensity(0.5, 99.5)(volume.read(), volume_histogram(volume)))
    total, count = torch.zeros(24, 24, 24), torch.zeros(24, 24, 24)
    with torch.no_grad():
        for z in (0, 8):
            for y in (0, 8):
                for x in (0, 8):
                    box = (slice(z, z + 16), slice(y, y + 16), slice(x, x + 16))
                    total[box] += TriplanarClassifier(network, 24)(grey[box][None, None])[0, 0]
                    count[box] += 1
    expected = (total / count * 255).round()
    assert (torch.as_tensor(found.read().astype(np.float32)) - expected).abs().max() <= 1
    # by default a window is as large as the slices trained on
    assert workflow("inference", **options).parser.get_parsed_content("window") == 24
    raw = next((loaded_bone / "raw").rglob("image"))
    line = refusal("inference", **{**options, "dataset_dir": str(raw), "output_dir": str(tmp_path / "raw")})
    assert "was prepared with matching None, the scans that the weights know with sample" in line


@pytest.mark.parametrize("stack", ["lhdl", "trab"])
def test_real_stacks_stand_in_for_unloaded_bone(
    stack: str, checkpoint: Path, sample_data: Path, tmp_path: Path
) -> None:
    """Prepared, sliced in three planes and classified; their truth is that they never saw a load."""
    if stack == "lhdl":
        source, size = sample_data / "microct-lhdl-trabecular-tiff" / "tiff", 200
    else:
        source, size = next((sample_data / "hrpqct-trabecular-aim").rglob("TRAB_1240.AIM")), 96
    shutil.copytree(source, tmp_path / "scan") if source.is_dir() else shutil.copy(source, tmp_path / "scan.AIM")
    name = "scan" if source.is_dir() else "scan.AIM"
    voxel = "19.5" if stack == "lhdl" else ""
    (tmp_path / "manifest.csv").write_text(f"patient,image,load_state,voxel_size_um\nS,{name},1,{voxel}\n")
    options = {"manifest_path": str(tmp_path / "manifest.csv"), "output_dir": str(tmp_path / "prepared")}
    assert "no box of (300, 300, 300)" in refusal("prepare", **options)
    workflow("prepare", **options, crop_size=size, slices_per_plane=4).run()
    rows = manifest_items(read_manifest(tmp_path / "prepared" / "slices.csv"))
    assert [row["plane"] for row in rows] == ["XY"] * 4 + ["XZ"] * 4 + ["YZ"] * 4
    prepared = open_volume(rows[0]["image"])
    assert prepared.shape == (size,) * 3
    assert [item["image"].shape for item in SliceDataset(rows, keep=False)] == [(1, size, size)] * 12
    workflow("inference", dataset_dir=rows[0]["image"], checkpoint=str(checkpoint), output_dir=str(tmp_path / "map"),
             window=size, expects=["raw", "mg HA/cm3"]).run()  # fmt: skip
    assert open_volume(tmp_path / "map" / "damage.ome.zarr").shape == (size,) * 3


def test_monais_own_command_trains_and_refuses_in_one_line(slices: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files("train", "smoke")),
               "--manifest_path", slices, "--checkpoint", str(tmp_path / "model.pt"), "--max_epochs", "1",
               "--width", "2", "--image_size", "24", "--layers", "2"]  # fmt: skip
    done = subprocess.run([*command, "--fold", "6"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2, "bonemonai: error: fold: must be from 0 to 5, got 6.",
    )  # fmt: skip
    assert not (tmp_path / "model.pt").exists()
