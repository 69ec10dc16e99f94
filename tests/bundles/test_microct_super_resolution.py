"""The steps of paper 5's bundle that there are, on small murine phantoms."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter

from bonemonai.data import UpsampledVolume, open_volume
from bonemonai.engines import weights_card
from bonemonai.phantoms import write_rescanned_study
from tests.array_volume import ArrayVolume
from tests.bundle_runs import BundleRuns

RUNS = BundleRuns("microct_super_resolution")
BUNDLE, files, workflow, refusal = RUNS.folder, RUNS.files, RUNS.workflow, RUNS.refusal
TINY: dict[str, Any] = {
    "features": [8, 8, 16, 16, 32, 8],
    "patch_size": 48,
    "step": 1,
    "max_epochs": 60,
    "learning_rate": 0.003,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs from a folder that has nothing to do with the bundle, and leaves nothing in it."""
    monkeypatch.chdir(tmp_path)
    with RUNS.untouched():
        yield


@pytest.fixture(scope="module")
def study(murine_study: Path) -> Path:
    return murine_study


@pytest.fixture(scope="module")
def manifest(study: Path) -> str:
    return str(study / "manifest.csv")


@pytest.fixture(scope="module")
def weights(manifest: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = str(tmp_path_factory.mktemp("weights") / "model.pt")
    workflow("train", "smoke", manifest_path=manifest, checkpoint=path, **TINY).run()
    return path


def test_the_papers_values_are_the_defaults() -> None:
    config = json.loads(Path(files("train")[0]).read_text())
    assert [config[name] for name in ("max_epochs", "learning_rate", "loss_kind", "frames")] == [100, 0.001, "bce", 1]
    assert config["optimizer"]["_target_"] == "torch.optim.Adam"


def test_training_learns_and_says_what_it_scaled_by(weights: str) -> None:
    curve = pd.read_csv(Path(weights).with_suffix(".curve.csv"))
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[0]
    assert curve["psnr"].iloc[-3:].mean() > curve["psnr"].iloc[0] + 3
    card = weights_card(weights)
    low, high = card["options"]["grey_range"]
    assert low < 0 < 900 < high  # mg HA/cm3: noise in air, and bone
    assert (card["options"]["units"], card["options"]["factor"]) == ("mg HA/cm3", 2)
    assert card["options"]["lr_voxel_size_um"] == pytest.approx([20, 20, 20])
    assert card["trained_on"]["kind"] == "synthetic"


def test_evaluation_compares_specimen_by_specimen(manifest: str, weights: str, tmp_path: Path) -> None:
    workflow("train", "evaluate", manifest_path=manifest, checkpoint=weights, output_dir=str(tmp_path / "a")).run()
    specimens = pd.read_csv(tmp_path / "a" / "specimens.csv").set_index(["specimen", "method"])
    assert len(specimens) == 6  # one test specimen a site, before, after, and by cubic interpolation
    assert all(name.endswith("1 frame") for name, _ in specimens.index)
    gain = specimens.xs("dl", level="method")["psnr_db"] - specimens.xs("lr", level="method")["psnr_db"]
    assert (gain > 0).all()
    # bone, in what each method gives, against the fine scans
    agreement = pd.read_csv(tmp_path / "a" / "agreement.csv")
    assert set(agreement["method"]) == {"lr", "bicubic", "dl"}
    assert (agreement["pairs"] + agreement["missing"] == 2).all()
    volumes = sorted((tmp_path / "a" / "volumes").iterdir())
    assert ["femur" in volumes[0].name, "spine" in volumes[1].name, len(volumes)] == [True, True, 2]
    made = open_volume(volumes[0])
    assert (made.units, made.shape) == ("mg HA/cm3", (16, 64, 64))
    options = {"manifest_path": manifest, "checkpoint": weights, "output_dir": str(tmp_path / "a")}
    assert "exists already" in refusal("train", "evaluate", **options)
    assert "trained or chosen on it" in refusal("train", "evaluate", **options, split="train", overwrite=True)
    asked = {**options, "output_dir": str(tmp_path / "b")}
    assert "say --step 1" in refusal("train", "evaluate", **asked, step=3)


def test_other_sites_and_frame_averages_in_one_command(manifest: str, weights: str, tmp_path: Path) -> None:
    options = {"manifest_path": manifest, "weights": {"both": weights}, "sites": ["spine"], "output_dir": str(tmp_path)}
    workflow("matrix", **options).run()
    record = json.loads((tmp_path / "both_on_spine_3" / "results.json").read_text())
    assert (record["site"], record["frames"], record["tested_on"]) == ("spine", 3, "synthetic")
    matrix = pd.read_csv(tmp_path / "report" / "matrix.csv")
    assert matrix["tested_on"].tolist() == ["spine, 1 frame", "spine, 3 frames"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Verdict: bone first" in page
    assert str(tmp_path) not in page
    # the scans are measured once, whatever is evaluated on them
    assert {path.name.split("_")[-1] for path in (tmp_path / "measured").glob("*.json")} == {
        "hr.json",
        "lr.json",
        "bicubic.json",
    }
    workflow("report", results={"again": str(tmp_path / "both_on_spine_1")}, output_dir=str(tmp_path / "own")).run()
    assert (tmp_path / "own" / "report.html").is_file()


def test_halves_of_one_specimen_are_used_as_what_they_are(tmp_path: Path) -> None:
    field = gaussian_filter(np.random.default_rng(0).normal(size=(160, 44, 44)), 4)
    scan = ArrayVolume(np.where(field > 0.01, 200, 40).astype(np.uint8), (20, 20, 20))
    (tmp_path / "bone").write_text("so that the scan has a fingerprint")
    scan.path = tmp_path / "bone"
    manifest = str(write_rescanned_study(tmp_path / "study", scan))
    options = {"manifest_path": manifest, "checkpoint": str(tmp_path / "w.pt"), "units": "raw", "expects": ["raw"]}
    assert "stands in more than one split" in refusal("train", "smoke", **options)
    options["allow_leakage"] = True
    workflow("train", "smoke", **options, **{**TINY, "max_epochs": 1, "patch_size": 44}).run()
    assert "parts of one specimen" in weights_card(options["checkpoint"])["trained_on"]["leakage"]
    asked = {**options, "output_dir": str(tmp_path / "out"), "area": "whole"}
    # densities are no grey values, and the reverse
    dense = str(tmp_path / "study" / "train" / "lr_1.ome.zarr")
    asked_of = {"dataset_dir": dense, "checkpoint": options["checkpoint"], "output_dir": str(tmp_path / "fine")}
    assert "this workflow takes raw" in refusal("inference", **asked_of, units="HU")
    workflow("inference", **asked_of).run()
    assert open_volume(tmp_path / "fine" / "high.ome.zarr").units == "raw"
    assert "give a grey threshold (--threshold)" in refusal("train", "evaluate", **asked)
    workflow("train", "evaluate", **asked, threshold=120).run()
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert "parts of one specimen" in record["leakage"]
    assert pd.read_csv(tmp_path / "out" / "agreement.csv")["pairs"].max() == 4
    assert pd.read_csv(tmp_path / "out" / "morphometry.csv")["tissue"].unique().tolist() == ["whole plane"]


def test_a_scan_keeps_its_calibration_and_halves_its_voxels(study: Path, weights: str, tmp_path: Path) -> None:
    rows = pd.read_csv(study / "manifest.csv")
    row = rows[(rows["split"] == "test") & (rows["lr_frames"] == 1)].iloc[0]
    low, fine = open_volume(study / row["lr"]), open_volume(study / row["image"])
    workflow(
        "inference",
        dataset_dir=str(study / row["lr"]),
        checkpoint=weights,
        output_dir=str(tmp_path / "out"),
        also="tiff",
    ).run()
    found = open_volume(tmp_path / "out" / "high.ome.zarr")
    assert found.shape == fine.shape
    assert found.voxel_size_um == pytest.approx((10, 10, 10))
    assert found.units == "mg HA/cm3"
    # streamed in blocks, it is what the network says of each plane as a whole
    upsampled = UpsampledVolume(low).read()
    least, most = weights_card(weights)["options"]["grey_range"]
    network = workflow("inference", dataset_dir=str(study / row["lr"]), checkpoint=weights).parser.get_parsed_content(
        "network"
    )
    scaled = torch.from_numpy((upsampled - least) / (most - least)).clamp(0, 1)
    with torch.no_grad():
        expected = network.eval()(scaled[:, None])[:, 0].sigmoid().numpy() * (most - least) + least
    np.testing.assert_allclose(found.read(), expected, atol=1.0)
    copy = open_volume(tmp_path / "out" / "high", units="mg HA/cm3")
    np.testing.assert_array_equal(copy.read(), found.read())
    # nearer to the fine scan than what went in
    errors = [float(((image - fine.read()) ** 2).mean()) for image in (found.read().astype(float), upsampled)]
    assert errors[0] < errors[1]


def test_a_scan_of_another_voxel_size_is_refused(study: Path, weights: str, tmp_path: Path) -> None:
    fine = str(study / pd.read_csv(study / "manifest.csv")["image"].iloc[0])
    options = {"dataset_dir": fine, "checkpoint": weights, "output_dir": str(tmp_path / "out")}
    assert "this was made for 20 x 20 x 20 um" in refusal("inference", **options)


def test_what_was_made_is_compared_with_what_was_measured(study: Path, weights: str, tmp_path: Path) -> None:
    scan = str(study / pd.read_csv(study / "manifest.csv")["lr"].iloc[0])
    workflow("inference", dataset_dir=scan, checkpoint=weights, output_dir=str(tmp_path / "fine")).run()
    workflow("consistency", dataset_dir=scan, high=str(tmp_path / "fine" / "high.ome.zarr"), checkpoint=weights,
             output_dir=str(tmp_path / "checked")).run()  # fmt: skip
    found = json.loads((tmp_path / "checked" / "consistency.json").read_text())
    assert (found["units"], len(found["configs"])) == ("mg HA/cm3", 1)
    assert found["beyond_training"] < 0.01
    assert abs(found["mean_difference"]) < 60
    assert found["sd_smooth"] < found["sd_difference"] < 200
    assert open_volume(tmp_path / "checked" / "difference.ome.zarr").shape == open_volume(scan).shape


def test_as_a_process(study: Path, weights: str, tmp_path: Path) -> None:
    scan = study / pd.read_csv(study / "manifest.csv")["lr"].iloc[0]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", *files("inference"), "--dataset_dir",
               str(scan), "--checkpoint", weights, "--output_dir", str(tmp_path / "out")]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "out" / "high.ome.zarr").is_dir()


@pytest.mark.parametrize(
    ("config", "options", "words"),
    [
        ("inference", {"dataset_dir": "/no/such"}, "no such file or folder (--dataset_dir)"),
        ("train", {"manifest_path": "/no/such.csv"}, "no such file or folder (--manifest_path)"),
        ("train", {"manifest_pat": "x"}, "did you mean --manifest_path?"),
    ],
)
def test_refusals_are_one_line(config: str, options: dict[str, Any], words: str, weights: str) -> None:
    assert words in refusal(config, **({"checkpoint": weights, **options} if config == "inference" else options))
