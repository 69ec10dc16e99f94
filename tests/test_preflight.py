"""Trainings that cannot work are refused before their first step, in one line each; a case is one thing that is wrong.

A case runs as ``bonemonai run`` does, in this process; a few run as processes of their own. Where a refusal comes after
the first epoch, or not at all, there is a learning curve, and the case fails.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tifffile

from bonemonai.errors import BonemonaiError
from bonemonai.sharing.bundle_run import run_bundle
from tests.conftest import ROOT

BUNDLE = ROOT / "bundles" / "femur_srmct_osteoporosis_mga"
SMALL: dict[str, Any] = {"width": 2, "max_epochs": 1, "plane_step": 3, "bone_fraction": 0.5, "roi_size": [-1, -1]}

OPTIONS: list[tuple[str, Any, str]] = [
    ("datset_dir", "x", "did you mean --dataset_dir?"),
    ("batchsize", 3, "did you mean --batch_size?"),
    ("train#dataset#datas", 3, "datas"),
    ("train#datset", 3, "'train' has no such entry"),
    ("config_file", "x.json", "is MONAI's own"),
    ("dataset_dir", "/no/such", "no such file or folder (--dataset_dir)"),
    ("dataset_dir", None, "is not given: say --dataset_dir PATH"),
    ("manifest_path", "/no/such.csv", "/no/such.csv"),
    ("batch_size", 0, "batch_size"),
    ("batch_size", "ten", "batch_size"),
    ("learning_rate", -1.0, "Adam: refuses its value: Invalid learning rate"),
    ("learning_rate", "fast", "learning_rate"),
    ("learning_rate", float("nan"), "learning_rate"),
    ("max_epochs", 0, "must be 1 or more"),
    ("max_epochs", -2, "max_epochs"),
    ("max_epochs", "many", "max_epochs"),
    ("val_interval", 0, "must be 1 or more"),
    ("patience", 0, "must be 1 or more"),
    ("width", 0, "width"),
    ("width", "wide", "is a number"),
    ("plane_step", 0, "step must be >= 1"),
    ("bone_fraction", 1.5, "bone_fraction"),
    ("num_workers", -1, "num_workers"),
    ("seed", -1, "seed"),
    ("seed", "dice", "seed"),
    ("device", "$torch.device('cuda:99')", "CUDA"),
    ("device", "tpu", "tpu"),
    ("overwrite", "yes", "say --overwrite True or False"),
    ("expects", ["HU"], "HU"),
    ("network_def#in_channels", 2, "channels"),
    ("network_def#out_channels", 3, "training on a batch: fails: ValueError: logits must be (B, 2, ...)"),
    ("network_def#_target_", "bonemonai.networks.LacunaUnet", "is not on the list"),
    ("optimizer#_target_", "torch.optim.Adamant", "Adamant"),
    ("optimizer#lrr", 0.1, "lrr"),
    ("loss", "@losses", "losses"),
    ("loss", "$1 +", "expression"),
    ("loss", "$__import__('os').system('true')", "--trust-code"),
    ("validate#split", "validation", "validation"),
    ("validate#key_metric#lacuna_dsc#metric_name", "f1 scores", "the metric is not implemented"),
    ("validate#key_metric#lacuna_dsc#output_transform", "$monai.handlers.from_engine(['pred', 'lable'])", "lable"),
    ("train#sampler#patch_size", 500, "patch"),
    ("preprocessing#transforms#1#lower", 99, "lower"),
    ("checkpoint", "FILE/model.pt", "cannot be written"),
]  # fmt: skip


Change = Callable[[pd.DataFrame, Path], pd.DataFrame]


def cell(name: str, row: int, value: Any) -> Change:
    return lambda table, folder: table.assign(**{name: [*table[name][:row], value, *table[name][row + 1 :]]})


def without(split: str) -> Change:
    return lambda table, folder: table[table["split"] != split]


def no_column(name: str) -> Change:
    return lambda table, folder: table.drop(columns=name)


def one_patient(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return table.assign(patient=["P"] * len(table))


def unlabelled(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    return table.assign(label=table["label"].where(table["split"] != "val", ""))


def one_scan(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    shutil.copytree(folder / table["image"].iloc[0], folder / "copied")
    return table.assign(image=table["image"].where(table["split"] != "val", "copied"))


def files(name: str, change: Callable[[Path], None]) -> Change:
    """Change what lies on disk of a training patient, the manifest being as it was."""

    def changed(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
        place = folder / table.loc[table["split"] == "train", name].iloc[0]
        for path in sorted(place.glob("*.tif*")) if place.is_dir() else [place]:
            change(path)
        return table

    return changed


def smaller(path: Path) -> None:
    tifffile.imwrite(path, tifffile.imread(path)[..., :50])


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def numbered(path: Path) -> None:
    mask = tifffile.imread(path) > 0
    tifffile.imwrite(path, mask * np.arange(mask.shape[-1], dtype=np.uint8))


def not_a_number(path: Path) -> None:
    tifffile.imwrite(path, np.full_like(tifffile.imread(path), np.nan, dtype=np.float32))


MANIFESTS: dict[str, tuple[Change, str]] = {
    "no column of images": (no_column("image"), "image"),
    "no column of splits": (no_column("split"), "split"),
    "no column of labels": (no_column("label"), "label"),
    "an image that is not there": (cell("image", 0, "gone"), "gone"),
    "an image outside of the folder": (cell("image", 0, "../../elsewhere"), "elsewhere"),
    "an unknown split": (cell("split", 0, "training"), "must be one of train, val, test"),
    "no patient": (cell("patient", 0, ""), "patient"),
    "a row twice": (lambda table, folder: pd.concat([table, table[:1]]), "twice"),
    "one patient on all sides": (one_patient, "patient"),
    "one scan under two names": (one_scan, "pixels"),
    "a label of other size": (files("label", smaller), "shape"),
    "a label cut short": (files("label", cut_short), "label"),
    "a label of numbered objects": (files("label", numbered), "one kind of object"),
    "a scan of NaN": (files("image", not_a_number), "NaN"),
    "no label of the validation patient": (unlabelled, "label"),
    "no validation patient": (without("val"), "val"),
    "no training patient": (without("train"), "train"),
    "no row": (lambda table, folder: table[:0], "row"),
}  # fmt: skip

OVERLAYS: list[tuple[str, str]] = [
    ('{"max_epoch": 2}', "did you mean 'max_epochs'?"),
    ('{"max_epochs": 2,}', "own.json"),
    ("[1, 2]", "own.json"),
    ('{"network_def": {"_target_": "os.system", "command": "true"}}', "is not on the list"),
]  # fmt: skip


def refusal(tmp_path: Path, overlays: list[str] | None = None, **options: Any) -> BonemonaiError:
    given = {"checkpoint": str(tmp_path / "out" / "model.pt"), **SMALL, **options}
    with pytest.raises(BonemonaiError) as caught:
        run_bundle(BUNDLE, "train_segmentation", overlays or [], given)
    assert list(tmp_path.rglob("*.curve.csv")) == []
    assert list(tmp_path.rglob("*.pt")) == []
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize(("name", "value", "words"), OPTIONS, ids=[f"{name}={value}" for name, value, _ in OPTIONS])
def test_an_option(name: str, value: Any, words: str, study: Path, tmp_path: Path) -> None:
    if value == "FILE/model.pt":
        (tmp_path / "file").write_text("")
        value = str(tmp_path / "file" / "model.pt")
    error = refusal(tmp_path, **{"dataset_dir": str(study), name: value})
    assert words in str(error)
    assert error.exit_code in (2, 4)


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest(case: str, study: Path, tmp_path: Path) -> None:
    change, words = MANIFESTS[case]
    folder = tmp_path / "study"
    shutil.copytree(study, folder)
    table = pd.read_csv(folder / "manifest.csv", dtype=str, keep_default_na=False)
    change(table, folder).to_csv(folder / "manifest.csv", index=False)
    error = refusal(tmp_path, dataset_dir=str(folder))
    assert words in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(("text", "words"), OVERLAYS)
def test_an_overlay_of_ones_own(text: str, words: str, study: Path, tmp_path: Path) -> None:
    (tmp_path / "own.json").write_text(text)
    assert words in str(refusal(tmp_path, [str(tmp_path / "own.json")], dataset_dir=str(study)))


def test_weights_that_are_there(study: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"weights")
    with pytest.raises(BonemonaiError, match="exists already; say --overwrite True"):
        run_bundle(
            BUNDLE, "train_segmentation", [], {"dataset_dir": str(study), "checkpoint": str(tmp_path / "model.pt")}
        )
    assert (tmp_path / "model.pt").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--set", "batch_size=0"], "batch_size"),
        (["--set", "datset_dir=x"], "did you mean --dataset_dir?"),
        (["--overlay", "smok"], "did you mean smoke?"),
    ],
)
def test_as_a_process(words: list[str], line: str, study: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bonemonai", "run", str(BUNDLE), "train_segmentation", *words]
    command += ["--set", f"dataset_dir={study}", "--set", f"checkpoint={tmp_path / 'model.pt'}"]
    run = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    refused = [each for each in run.stderr.splitlines() if each.startswith("bonemonai: error: ")]
    assert run.returncode == 2, run.stderr
    assert len(refused) == 1
    assert line in refused[0]
    assert "Traceback" not in run.stderr


def test_there_are_as_many_cases_as_promised() -> None:
    assert len(OPTIONS) + len(MANIFESTS) + len(OVERLAYS) >= 40
    assert len({json.dumps(case[:2], default=str) for case in OPTIONS}) == len(OPTIONS)
