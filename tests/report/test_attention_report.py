from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from monai.bundle import create_workflow

from bonemonai.analysis import pool_folds, write_classification_results
from bonemonai.errors import InputError, OutputError, find_bonemonai_error
from bonemonai.report import write_attention_report
from tests.conftest import ROOT

CONFIG = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs" / "report.json"
CLASSES = ["healthy", "osteoporotic"]
TRAINED = {"data": "a phantom", "kind": "synthetic", "patients": {"train": 4, "test": 2}}
# Poles et al., Table I, by row
PAPER_1A = {"vgg16-1": (57.48, 99.39), "unet-1": (58.52, 99.12), "vgg16-2": (61.92, 99.42), "unet-2": (63.12, 99.37)}
PAPER_1B = {
    "resnet50": ("50.72", "50.66", "50.51", "50.58"),
    "alexnet": ("50.91", "56.42", "50.62", "53.36"),
    "vgg16": ("51.21", "51.72", "51.51", "51.61"),
    "mga": ("62.89", "65.53", "61.11", "63.24"),
}
IMAGES = re.compile(r'src="data:[^"]*"')


def predict(subjects: Sequence[int], seed: int) -> pd.DataFrame:
    """Patches of subjects, even ones healthy; right more often than not."""
    random = np.random.default_rng(seed)
    rows = [(f"subject_{n:02d}", CLASSES[n % 2], plane, 0, 0) for n in subjects for plane in range(10)]
    table = pd.DataFrame(rows, columns=["subject", "diagnosis", "plane", "row", "column"])
    right = np.where(table["diagnosis"] == "healthy", 0.5, -0.5)
    table["logit_healthy"] = right + random.normal(size=len(table))
    return table.assign(logit_osteoporotic=0.0)


def write_examples(folder: Path, predictions: pd.DataFrame, seed: int, *, image_seed: int = 0) -> None:
    """Two patches a subject, the same for each model unless the image's seed differs; the last map is empty."""
    chosen = predictions.groupby("subject", sort=False).head(2)
    random, of_map = np.random.default_rng([image_seed, len(chosen)]), np.random.default_rng(seed)
    grid = np.stack(np.mgrid[:55, :55])
    centres = random.uniform(8, 47, (len(chosen), 4, 2))
    mask = (np.square(grid - centres[..., None, None]).sum(2) < 16).any(1)
    image = np.clip(0.7 + 0.05 * random.normal(size=mask.shape) - 0.5 * mask, 0, 1).astype(np.float16)
    looks = of_map.uniform(10, 45, (len(chosen), 2))
    heat = np.exp(-np.square(grid - looks[..., None, None]).sum(1) / 150).astype(np.float16)
    heat[-1] = 0
    names = {key: chosen[key].to_numpy(str) for key in ("subject", "diagnosis")}
    decision = np.where(chosen["logit_healthy"] > 0, *CLASSES)
    np.savez_compressed(folder / "gradcam_examples.npz", image=image, mask=mask, map=heat, decision=decision, **names)


def write_evaluation(
    folder: Path,
    name: str,
    subjects: Sequence[int] = range(6),
    *,
    seed: int = 0,
    trained: Any = TRAINED,
    image_seed: int = 0,
) -> Path:
    """What evaluate_classification.json leaves, and the learning curve that lies beside the weights."""
    folder.mkdir(parents=True)
    predictions = predict(subjects, seed)
    predictions.to_csv(folder / "predictions.csv", index=False)
    cam = predictions[["subject", "diagnosis", "plane", "row", "column"]].assign(decision="healthy", area=0.1)
    cam["share"] = np.where(np.arange(len(cam)) % 5 == 0, np.nan, 0.1 + 0.01 * seed)
    cam.to_csv(folder / "gradcam.csv", index=False)
    write_examples(folder, predictions, seed, image_seed=image_seed)
    epochs = np.arange(1, 21)
    curve = {"epoch": epochs, "loss": 0.7 * np.exp(-epochs / (10 + seed)), "patch_accuracy": 0.5 + epochs / (60 + seed)}
    pd.DataFrame(curve).to_csv(folder / "model.curve.csv", index=False)
    weights = {"sha256": f"{seed:064x}", "trained_on": trained, "calibration": {"temperature": 1.7}}
    about = {"bonemonai": "0.1.0", "configs": {"train.json": "ab" * 32}, "seed": 5, "weights": weights}
    write_classification_results(folder, model=name, about=about)
    return folder


def write_cross_validation(folder: Path, name: str, *, seed: int = 0) -> Path:
    pairs = [(0, 1), (2, 3), (4, 5)]
    folds = [write_evaluation(folder / f"fold_{n:02d}", name, pair, seed=seed + n) for n, pair in enumerate(pairs)]
    pool_folds(folder, folds, model=name)
    return folder


def write_segmentation(folder: Path, lacunae: float, background: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "metrics.csv").write_text(f"lacuna_dsc,{lacunae}\nbackground_dsc,{background}\n")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    root = tmp_path_factory.mktemp("H01_secret")
    return {
        "segmentation": {
            "unet-1": write_segmentation(root / "u1", 0.61234, 0.98765),
            "unet-2": write_segmentation(root / "u2", float("nan"), 0.9),
            "swin": write_segmentation(root / "swin", 0.5, 0.9),
        },
        "classification": {
            "vgg16": write_cross_validation(root / "vgg16", "vgg16", seed=3),
            "mga": write_cross_validation(root / "mga", "mga"),
        },
    }


@pytest.fixture(scope="module")
def report(runs: dict[str, dict[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("H01_report")
    files = write_attention_report(folder, **runs)
    assert files == [folder / n for n in ("report.html", "table_1a.csv", "table_1b.csv", "gradcam_share.csv")]
    return folder


@pytest.fixture
def page(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def text(page: str) -> str:
    """What a reader sees, without figures, marks and line ends."""
    return " ".join(re.sub(r"<[^>]*>", " ", IMAGES.sub("", page)).split())


def test_paper_and_run_stand_side_by_side_in_table_1a(page: str, report: Path) -> None:
    table = pd.read_csv(report / "table_1a.csv").set_index("model")
    for name, figures in PAPER_1A.items():
        assert tuple(table.loc[name, ["paper_dsc_lacunae_percent", "paper_dsc_background_percent"]]) == figures
    own = table[["dsc_lacunae_percent", "dsc_background_percent"]]
    assert own.loc["unet-1"].tolist() == pytest.approx([61.234, 98.765])
    assert own.loc["unet-2"].tolist() == pytest.approx([np.nan, 90], nan_ok=True)
    assert own.loc["vgg16-1"].isna().all()
    for row in (
        "vgg16-1 57.48 n/a 99.39 n/a",
        "U-Net-1 58.52 61.23 99.12 98.77",
        "vgg16-2 61.92 n/a 99.42 n/a",
        "U-Net-2 63.12 n/a 99.37 90.00",
        "swin n/a 50.00 n/a 90.00",
    ):
        assert row in text(page)


def test_table_1b_is_the_papers_and_the_runs(page: str, report: Path, runs: dict[str, dict[str, Path]]) -> None:
    table = pd.read_csv(report / "table_1b.csv").set_index(["model", "level", "metric"]).sort_index()
    metrics = ["accuracy", "precision", "recall", "f1"]
    for name, figures in PAPER_1B.items():
        assert [f"{table.loc[(name, 'patch', m), 'paper_percent']:.2f}" for m in metrics] == list(figures)
        assert f"paper {' '.join(figures)}" in text(page)
        assert table.loc[(name, "patient"), "paper_percent"].isna().all()
    for name, folder in runs["classification"].items():
        scores = pd.read_csv(folder / "scores.csv").set_index(["level", "metric"])
        over_folds = json.loads((folder / "results.json").read_text())["over_folds"]
        for (level, metric), score in scores.iterrows():
            row = table.loc[(name, level, metric)]
            for column in ("value", "low", "high"):
                assert row[f"{column}_percent"] == pytest.approx(100 * score[column])
            for column in ("mean", "sd"):
                assert row[f"fold_{column}_percent"] == pytest.approx(100 * over_folds[f"{level} {metric}"][column])
        assert table.loc[name][["patches", "patients", "folds"]].drop_duplicates().to_numpy().tolist() == [[60, 6, 3]]
        low, high = 100 * scores.loc[("patch", "f1"), ["low", "high"]]
        assert f"[{low:.2f}, {high:.2f}]" in text(page)
    assert table.loc["alexnet", "value_percent"].isna().all()
    assert "only multiples of 1/6" in text(page)


def test_models_that_were_not_run_are_not_guessed(page: str) -> None:
    assert re.search(r"AlexNet paper 50\.91 56\.42 50\.62 53\.36 this run n/a n/a n/a n/a vgg16 paper", text(page))


def test_phantom_and_unknown_data_are_said_first(page: str) -> None:
    heading = text(page).split("Segmentation: Table I")[0]
    for said in (
        "PHANTOM DATA",
        "Research software, not a medical device",
        "Classifier vgg16, Classifier MGA: trained and tested on a synthetic phantom: these figures say nothing about",
        "Segmentation U-Net-1, Segmentation U-Net-2, Segmentation swin: trained and tested on data of unknown kind",
    ):
        assert said in heading
    assert "not tested on the same patches" not in heading


def test_gradcam_share(page: str, report: Path, runs: dict[str, dict[str, Path]]) -> None:
    table = pd.read_csv(report / "gradcam_share.csv").set_index("model")
    for name, folder in runs["classification"].items():
        expected = json.loads((folder / "results.json").read_text())["gradcam"]
        assert table.loc[name].to_dict() == pytest.approx(expected)
    assert "MGA 11.00 % 10.00 % 1.10 48 12 " in text(page), "folds of seeds 0, 1 and 2, each fifth patch without a map"


def test_patients_confusion_calibration_and_provenance(page: str, runs: dict[str, dict[str, Path]]) -> None:
    counts = pd.read_csv(runs["classification"]["mga"] / "confusion_patch.csv").set_index("diagnosis")
    body = text(page)
    for name in CLASSES:
        assert f"{name} {counts.loc[name, 'healthy']} {counts.loc[name, 'osteoporotic']}" in body
    assert "subject_05 osteoporotic 10" in body
    assert "MGA fold_01 after 1.700" in body
    for word in ("0" * 63 + "3", "ab" * 32, "&#34;seed&#34;"):
        assert word in body


def test_page_is_self_contained_and_tells_no_path(page: str, report: Path, runs: dict[str, dict[str, Path]]) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(sources) == 2, "the models saw the same patches: one panel, and the curves"
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for file in report.iterdir():
        content = IMAGES.sub("", file.read_text(encoding="utf-8"))
        assert not re.search(r"H01|http|/tmp|nan\b", content), file.name
    assert page.count("<img alt=") == 2


def test_models_with_other_patches_have_panels_of_their_own(tmp_path: Path) -> None:
    one = write_evaluation(tmp_path / "one", "mga")
    two = write_evaluation(tmp_path / "two", "vgg16", range(4), seed=1, image_seed=9)
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": one, "vgg16": two})
    page = path.read_text(encoding="utf-8")
    assert len(re.findall("outlines of lacunae and the Grad-CAM of", page)) == 2
    assert "not tested on the same patches: compare" in page
    assert "n/a (fewer than 3 patients a class)" in text(page)
    assert "3 folds" not in page


def test_optional_files_may_be_missing(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga", trained=None)
    for name in ("calibration.csv", "gradcam_examples.npz", "model.curve.csv", "predictions.csv"):
        (folder / name).unlink()
    record = json.loads((folder / "results.json").read_text())
    (folder / "results.json").write_text(json.dumps({**record, "gradcam": None}))
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": folder})
    body = text(path.read_text(encoding="utf-8"))
    for said in (
        "data of unknown kind",
        "no folder holds Grad-CAM",
        "no folder holds a learning",
        "no model was calib",
    ):
        assert said in body
    assert "PHANTOM" not in body


def test_not_a_number_is_no_crash(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga", range(2))
    scores = pd.read_csv(folder / "scores.csv")
    scores.assign(value=np.nan).to_csv(folder / "scores.csv", index=False)
    curve = pd.read_csv(folder / "model.curve.csv")
    curve.assign(patch_accuracy=np.nan).to_csv(folder / "model.curve.csv", index=False)
    stored = dict(np.load(folder / "gradcam_examples.npz"))
    stored["image"][0, 0], stored["map"][0, 0], stored["mask"][1] = np.nan, np.nan, False
    np.savez(folder / "gradcam_examples.npz", **stored)
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": folder})
    page = path.read_text(encoding="utf-8")
    assert "this run, 20 patches 95 % interval: n/a (fewer than 3 patients a class) n/a n/a n/a n/a" in text(page)
    assert page.count("<img alt=") == 2


def test_leakage_is_said(tmp_path: Path) -> None:
    trained = {"data": "scans", "kind": "ex vivo", "leakage": "patients in two splits"}
    folder = write_evaluation(tmp_path / "run", "other", trained=trained)
    path, *_ = write_attention_report(tmp_path / "out", classification={"other": folder})
    body = text(path.read_text(encoding="utf-8"))
    assert "LEAKAGE: patients in two splits; scores say nothing of other patients" in body
    assert "Classifier other: trained on data of this kind: ex vivo." in body


def test_curve_that_lies_elsewhere(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    curve = shutil.move(folder / "model.curve.csv", tmp_path / "weights.curve.csv")
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": folder}, curves={"mga": curve})
    assert 'alt="Learning curves' in path.read_text(encoding="utf-8")
    for name in "ab":
        shutil.copy(curve, folder / f"{name}.curve.csv")
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": folder}, overwrite=True)
    assert "no folder holds a learning curve" in path.read_text(encoding="utf-8"), "two curves: whose is it?"
    with pytest.raises(InputError, match="curves: are of vgg16, which classification does not name"):
        write_attention_report(tmp_path / "new", classification={"mga": folder}, curves={"vgg16": curve})


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = write_segmentation(tmp_path / "u", 0.5, 0.5)
    path, *_ = write_attention_report(tmp_path / "out", segmentation={"<script>": folder})
    assert "<script>" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("scores.csv", None, r"scores\.csv: is not there"),
        ("patients.csv", "", r"patients\.csv: cannot be read as a table"),
        ("results.json", "[]", r"results\.json: is not there, or is no JSON object"),
        ("confusion_patch.csv", "diagnosis,a,b\na,1,2\nb,3,4\n", r"confusion_patch\.csv: has no column healthy, osteo"),
        (
            "confusion_patient.csv",
            "diagnosis,healthy,osteoporotic\nhealthy,1,2\n",
            "is of healthy; the report's classes",
        ),
        ("scores.csv", "level,metric,value,low,high,patches,patients\npatch,f1,1,,,1,1\n", "must hold each score once"),
        ("scores.csv", "level,metric,value,low,high,patches,patients\npatch,f1,x,,,1,1\n", "could not convert string"),
        ("gradcam_examples.npz", "no archive", r"gradcam_examples\.npz: holds no Grad-CAM examples"),
        ("model.curve.csv", "epoch\n1\n", r"model\.curve\.csv: has no column loss"),
    ],
)
def test_damaged_folders_are_refused(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        write_attention_report(tmp_path / "out", classification={"mga": folder})
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_refusals(tmp_path: Path, report: Path, runs: dict[str, dict[str, Path]]) -> None:
    with pytest.raises(InputError, match="has nothing to show"):
        write_attention_report(tmp_path)
    with pytest.raises(InputError, match=r"segmentation unet-1: .*nowhere is no folder"):
        write_attention_report(tmp_path, segmentation={"unet-1": tmp_path / "nowhere"})
    with pytest.raises(InputError, match="classification: must be model name to folder"):
        write_attention_report(tmp_path, classification=str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"metrics\.csv: is not there"):
        write_attention_report(tmp_path, segmentation={"unet-1": tmp_path})
    (tmp_path / "metrics.csv").write_text("loss,0.5\n")
    with pytest.raises(InputError, match=r"metrics\.csv: has no lacuna_dsc"):
        write_attention_report(tmp_path, segmentation={"unet-1": tmp_path})
    with pytest.raises(OutputError, match=r"report\.html: exists already"):
        write_attention_report(report, **runs)


def test_bundle_step(tmp_path: Path, runs: dict[str, dict[str, Path]]) -> None:
    options = {key: {name: str(path) for name, path in folders.items()} for key, folders in runs.items()}
    out = tmp_path / "out"
    create_workflow(config_file=str(CONFIG), logging_file=False, output_dir=str(out), **options).run()
    assert (out / "report.html").is_file()
    nothing = create_workflow(config_file=str(CONFIG), logging_file=False, output_dir=str(tmp_path / "none"))
    with pytest.raises(RuntimeError) as caught:
        nothing.run()
    assert "has nothing to show" in str(find_bonemonai_error(caught.value))
