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
import tifffile
import torch
from monai.bundle import create_workflow
from skimage.filters import threshold_otsu

from bonemonai.analysis import measure_overlap
from bonemonai.data import manifest_items, open_volume, read_manifest
from bonemonai.engines import weights_card
from bonemonai.errors import find_bonemonai_error
from bonemonai.networks import LacunaUNet
from bonemonai.phantoms import SRMicroCTPhantom
from tests.conftest import ROOT, peak_resident_mb

BUNDLE = ROOT / "bundles" / "femur_srmct_osteoporosis_mga"
CONFIGS = BUNDLE / "configs"
TINY = {"width": 4, "max_epochs": 2, "plane_step": 2}


def files(*names: str) -> list[str]:
    return [str(CONFIGS / f"{name}.json") for name in names]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test runs from a folder that has nothing to do with the bundle."""
    monkeypatch.chdir(tmp_path)
    yield
    assert not (BUNDLE / "eval").exists()


def workflow(*names: str, **options: Any) -> Any:
    return create_workflow(config_file=files(*names), logging_file=False, **options)


def train(study: Path, checkpoint: Path, **options: Any) -> Any:
    started = workflow("train_segmentation", "smoke", dataset_dir=str(study), checkpoint=str(checkpoint), **options)
    started.run()
    return started


@pytest.fixture(scope="module")
def checkpoint(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "model.pt"
    train(study, path, **TINY)
    return path


def held_out(study: Path) -> dict[str, Any]:
    return manifest_items(read_manifest(study / "manifest.csv"), "test")[0]


def infer(image: Path | str, checkpoint: Path, out: Path, **options: Any) -> np.ndarray:
    run = workflow("inference", dataset_dir=str(image), checkpoint=str(checkpoint), output_dir=str(out), **options)
    run.run()
    return open_volume(out / "lacunae.ome.zarr").read()


def test_training_stores_the_best_weights_and_what_they_are(checkpoint: Path) -> None:
    card = json.loads(checkpoint.with_suffix(".json").read_text())
    assert card["trained_on"]["kind"] == "synthetic"
    assert 0 <= card["lacuna_dsc"] <= 1
    LacunaUNet(width=4).load_state_dict(torch.load(checkpoint, weights_only=True))


def test_shipped_weights_work_out_of_the_box_and_say_that_they_know_phantoms_only(study: Path, tmp_path: Path) -> None:
    card = weights_card(BUNDLE / "models" / "model.pt")
    assert card["trained_on"]["kind"] == "synthetic"
    assert "not for clinical use" in card["note"]
    row = held_out(study)
    workflow("inference", dataset_dir=row["image"], output_dir=str(tmp_path / "out")).run()
    found = measure_overlap(open_volume(tmp_path / "out" / "lacunae.ome.zarr"), open_volume(row["label"]))
    assert found.dsc > 0.6
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["weights"]["sha256"] == card["sha256"]


def test_training_repeats_bit_for_bit(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    train(study, tmp_path / "again.pt", **TINY)
    one, two = (torch.load(path, weights_only=True) for path in (checkpoint, tmp_path / "again.pt"))
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_training_learns(study: Path, tmp_path: Path) -> None:
    """Overfitting the two training subjects of the small study lowers the loss of the same patches."""
    run = workflow("train_segmentation", "smoke", dataset_dir=str(study), checkpoint=str(tmp_path / "m.pt"), **TINY)
    trainer = run.parser.get_parsed_content("train::trainer")
    network, loss = run.parser.get_parsed_content("network"), run.parser.get_parsed_content("loss")
    patches = [run.parser.get_parsed_content("train::dataset")[index] for index in range(8)]
    image = torch.stack([torch.as_tensor(patch["image"]) for patch in patches])
    target = torch.stack([torch.as_tensor(patch["label"]) for patch in patches])
    with torch.no_grad():
        before = float(loss(network(image), target))
    trainer.run()
    with torch.no_grad():
        assert float(loss(network(image), target)) < before


def test_batches_are_30_patches_of_55_pixels_almost_all_bone(study: Path, tmp_path: Path) -> None:
    run = workflow("train_segmentation", dataset_dir=str(study), checkpoint=str(tmp_path / "m.pt"), width=1)
    loader = run.parser.get_parsed_content("train::dataloader")
    batch = next(iter(loader))
    assert loader.batch_size == 30
    assert batch["image"].shape[1:] == (1, 55, 55)
    assert batch["label"].shape[1:] == (2, 55, 55)
    assert set(batch["label"][:, 0].unique().tolist()) <= {0, 1}


def test_paper_scale_is_the_default() -> None:
    config = json.loads((CONFIGS / "train_segmentation.json").read_text())
    assert [config[key] for key in ("width", "max_epochs", "batch_size", "learning_rate")] == [64, 300, 30, 1e-3]


def test_validation_scores_whole_planes_as_dice(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    """The evaluator's F1 over all planes of the test patient is the Dice of the inferred volume."""
    out = tmp_path / "evaluation"
    run = workflow(
        "train_segmentation", "smoke", "evaluate",
        dataset_dir=str(study), checkpoint=str(checkpoint), output_dir=str(out), plane_step=1,
    )  # fmt: skip
    run.run()
    metrics = run.parser.get_parsed_content("validate::evaluator").state.metrics
    row = held_out(study)
    predicted = infer(row["image"], checkpoint, tmp_path / "out")
    truth = open_volume(row["label"]).read()
    both, either = np.count_nonzero(predicted & truth), np.count_nonzero(predicted) + np.count_nonzero(truth)
    assert metrics["lacuna_dsc"] == pytest.approx(2 * both / either, abs=1e-6)
    neither = np.count_nonzero((predicted == 0) & (truth == 0))
    assert metrics["background_dsc"] == pytest.approx(2 * neither / (2 * predicted.size - either), abs=1e-6)
    assert "lacuna_dsc" in (out / "metrics.csv").read_text()


def test_inference_writes_masks_of_the_scans_geometry(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    row = held_out(study)
    predicted = infer(row["image"], checkpoint, tmp_path / "out")
    scan = open_volume(row["image"])
    for name in ("lacunae", "bone"):
        mask = open_volume(tmp_path / "out" / f"{name}.ome.zarr")
        assert (mask.shape, mask.dtype, mask.voxel_size_um) == (scan.shape, np.uint8, scan.voxel_size_um)
        assert set(np.unique(mask.read())) <= {0, 1}
    assert not (predicted & (open_volume(tmp_path / "out" / "bone.ome.zarr").read() == 0)).any()
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["weights"]["trained_on"]["kind"] == "synthetic"
    assert str(tmp_path) not in json.dumps(record)


@pytest.mark.parametrize(
    "inferer",
    [
        {"_target_": "SlidingWindowInferer", "roi_size": [-1, -1]},
        {"_target_": "SliceInferer", "roi_size": [-1, -1], "spatial_dim": 0},
        {"_target_": "SimpleInferer"},
    ],
)
def test_inferer_is_exchanged_by_one_line(
    inferer: dict[str, Any], study: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Streaming, MONAI's sliding window and slice inferer with one window a plane, and the plane at once agree."""
    image = held_out(study)["image"]
    streamed = infer(image, checkpoint, tmp_path / "a")
    assert streamed.any()
    np.testing.assert_array_equal(infer(image, checkpoint, tmp_path / "b", inferer=inferer), streamed)


def test_blended_windows_give_monais_labels(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    image = held_out(study)["image"]
    window = {"roi_size": [48, 64], "sw_batch_size": 3, "overlap": 0.5, "mode": "gaussian"}
    options = {f"inferer#{name}": value for name, value in window.items()}
    ours = infer(image, checkpoint, tmp_path / "a", **options)
    monai = infer(image, checkpoint, tmp_path / "b", inferer={"_target_": "SliceInferer", "spatial_dim": 0, **window})
    np.testing.assert_array_equal(ours, monai)


def test_lhdl_stack_is_segmented_from_another_working_directory(lhdl: Path, checkpoint: Path, tmp_path: Path) -> None:
    predicted = infer(lhdl, checkpoint, tmp_path / "out", voxel_size_um=19.5)
    assert predicted.shape == (200, 200, 200)
    bone = open_volume(tmp_path / "out" / "bone.ome.zarr")
    assert bone.voxel_size_um == pytest.approx((19.5, 19.5, 19.5))
    stack = open_volume(lhdl).read()
    assert bone.read().mean() == pytest.approx((stack > threshold_otsu(stack)).mean(), abs=0.01)


def refusal(*names: str, **options: Any) -> str:
    with pytest.raises(Exception, match=r".") as raised:
        workflow(*names, **options).run()
    return str(find_bonemonai_error(raised.value))


def test_refusals(study: Path, checkpoint: Path, tmp_path: Path, lhdl: Path) -> None:
    image = held_out(study)["image"]
    given = {"dataset_dir": image, "checkpoint": str(checkpoint), "output_dir": str(tmp_path / "out")}
    assert "did you mean --dataset_dir?" in refusal("inference", datset_dir=image)
    assert "--dataset_dir: is not given" in refusal("inference")
    assert "nowhere: no such file or folder" in refusal("inference", **{**given, "dataset_dir": "nowhere"})
    assert "(--checkpoint)" in refusal("inference", **{**given, "checkpoint": "nowhere.pt"})
    assert "does not state its voxel size" in refusal("inference", **{**given, "dataset_dir": str(lhdl)})
    assert "does not fit the network" in refusal("inference", **given, width=5)
    assert "manifest.csv: no such manifest" in refusal("train_segmentation", dataset_dir=str(tmp_path))
    assert not (tmp_path / "out" / "lacunae.ome.zarr").exists()


def test_same_call_finds_its_result_and_another_is_refused(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    image = held_out(study)["image"]
    out = tmp_path / "out"
    infer(image, checkpoint, out)
    before = {file: file.stat().st_mtime_ns for file in out.rglob("*.zarr/**/*") if file.is_file()}
    infer(image, checkpoint, out)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    given = {"dataset_dir": image, "checkpoint": str(checkpoint), "output_dir": str(out)}
    with pytest.raises(Exception, match=r".") as raised:
        workflow("inference", **given, seed=1).run()
    error = find_bonemonai_error(raised.value)
    assert (error.exit_code, "options.seed" in str(error)) == (3, True)
    infer(image, checkpoint, out, seed=1, overwrite=True)
    assert json.loads((out / "run.json").read_text())["seed"] == 1


def test_manifest_of_scans_goes_on_after_a_bad_one(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    rows = read_manifest(study / "manifest.csv")
    good, bad = (tmp_path / "scans" / name for name in ("good", "bad"))
    for folder, row in ((good, 0), (bad, 1)):
        shutil.copytree(rows["image"][row], folder)
    sorted(bad.iterdir())[3].write_bytes(b"lost")
    manifest = tmp_path / "scans" / "manifest.csv"
    manifest.write_text("patient,image\nSmith,bad\nJones,good\n")
    with pytest.raises(Exception, match=r".") as raised:
        infer(manifest, checkpoint, tmp_path / "out")
    error = find_bonemonai_error(raised.value)
    assert (error.exit_code, "scan_0000" in str(error), "scan_0001" in str(error)) == (2, True, False)
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    assert summary["status"].tolist() == ["failed", "done"]
    assert "Smith" not in (tmp_path / "out" / "summary.csv").read_text()
    alone = infer(good, checkpoint, tmp_path / "alone")
    together = open_volume(tmp_path / "out" / "scan_0001" / "lacunae.ome.zarr").read()
    np.testing.assert_array_equal(together, alone)


def test_earlier_result_survives_a_failed_run(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    image = held_out(study)["image"]
    before = infer(image, checkpoint, tmp_path / "out")
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in sorted(Path(image).iterdir()):
        (broken / file.name).write_bytes(file.read_bytes())
    run = workflow(
        "inference", dataset_dir=str(broken), checkpoint=str(checkpoint), output_dir=str(tmp_path / "out"),
        overwrite=True,
    )  # fmt: skip
    run.parser.get_parsed_content("dataset")
    sorted(broken.iterdir())[3].write_bytes(b"lost")
    with pytest.raises(Exception, match=r".") as raised:
        run.run()
    assert "image_0003.tif: cannot be read as TIFF" in str(find_bonemonai_error(raised.value))
    np.testing.assert_array_equal(open_volume(tmp_path / "out" / "lacunae.ome.zarr").read(), before)


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "monai.bundle", "run", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_real_command_line(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    image = str(held_out(study)["image"])
    done = command_line(
        "--config_file", str(CONFIGS / "inference.json"), "--dataset_dir", image,
        "--checkpoint", str(checkpoint), "--output_dir", str(tmp_path / "out"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "lacunae.ome.zarr" / "zarr.json").is_file()


def test_real_command_line_refuses_in_one_line(tmp_path: Path) -> None:
    done = command_line("--config_file", str(CONFIGS / "inference.json"), "--datset_dir", str(tmp_path))
    lines = [line for line in done.stderr.splitlines() if line.startswith("bonemonai: error: ")]
    assert done.returncode == 2
    assert lines == ["bonemonai: error: --datset_dir: is no option of this config; did you mean --dataset_dir?"]
    assert "Traceback" not in done.stderr


INFER = """
import sys
from monai.bundle import create_workflow
config, scan, checkpoint, out = sys.argv[1:]
run = create_workflow(config_file=config, logging_file=False, dataset_dir=scan, checkpoint=checkpoint, output_dir=out)
run.run()
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_depth(checkpoint: Path, tmp_path: Path) -> None:
    """Eight times the planes, 25 against 200 MB of scan; a process each, for its peak resident memory."""

    def peak(planes: int) -> int:
        scan = tmp_path / f"{planes}.tif"
        block = SRMicroCTPhantom((4, 128, 128), seed=1).block(0, 4).image
        tifffile.imwrite(scan, np.tile(block, (planes // 4, 1, 1)), resolution=(6250, 6250), resolutionunit=3)
        arguments = [str(CONFIGS / "inference.json"), str(scan), str(checkpoint), str(tmp_path / f"out{planes}")]
        return peak_resident_mb(INFER, *arguments)

    shallow, deep = peak(400), peak(3200)
    assert deep < 1.05 * shallow, f"{shallow} MB at 400 planes, {deep} MB at 3200"


@pytest.mark.gpu
def test_cuda_trains_a_step_and_infers_the_cpus_labels(study: Path, checkpoint: Path, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: training and inference were tested on the CPU only")
    train(study, tmp_path / "gpu.pt", **{**TINY, "max_epochs": 1})
    assert (tmp_path / "gpu.pt").is_file()
    image = held_out(study)["image"]
    cuda = infer(image, checkpoint, tmp_path / "cuda")
    cpu = infer(image, checkpoint, tmp_path / "cpu", device="$torch.device('cpu')")
    # single voxels may lie on the edge of two classes
    assert np.count_nonzero(cuda != cpu) <= 1e-5 * cpu.size
