from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from monai.bundle import create_workflow

from bonemonai.errors import InputError, OutputError, find_bonemonai_error
from bonemonai.report import write_attention_report
from tests.conftest import ROOT
from tests.report.evaluations import CLASSES, write_evaluation, write_runs, write_segmentation

CONFIG = ROOT / "bundles" / "femur_srmct_osteoporosis_mga" / "configs" / "report.json"
# Poles et al., Table I, by row
PAPER_1A = {"vgg16-1": (57.48, 99.39), "unet-1": (58.52, 99.12), "vgg16-2": (61.92, 99.42), "unet-2": (63.12, 99.37)}
PAPER_1B = {
    "resnet50": ("50.72", "50.66", "50.51", "50.58"),
    "alexnet": ("50.91", "56.42", "50.62", "53.36"),
    "vgg16": ("51.21", "51.72", "51.51", "51.61"),
    "mga": ("62.89", "65.53", "61.11", "63.24"),
}
IMAGES = re.compile(r'src="data:[^"]*"')


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Path]]:
    return write_runs(tmp_path_factory.mktemp("H01_secret"))


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
    # folds of seeds 0, 1 and 2, each fifth patch without a map
    assert "MGA 11.00 % 5.50 % 10.00 % 1.10 0.55 48 12 " in text(page)


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
    folder = write_evaluation(tmp_path / "run", "mga", trained=None, tested="unknown")
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
    assert "Classifier other: trained on data of this kind: ex vivo; tested on: synthetic." in body
    # what it was tested on stands in the heading, too
    assert "PHANTOM" in path.read_text(encoding="utf-8").split("</h1>")[0]


def test_results_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "vgg16")
    with pytest.raises(InputError, match="holds results of 'vgg16', not of 'mga'"):
        write_attention_report(tmp_path / "out", classification={"mga": folder})


def test_curve_that_lies_elsewhere(tmp_path: Path) -> None:
    folder = write_evaluation(tmp_path / "run", "mga")
    curve = shutil.move(folder / "model.curve.csv", tmp_path / "weights.curve.csv")
    path, *_ = write_attention_report(tmp_path / "out", classification={"mga": folder}, curves={"mga": curve})
    assert 'alt="Learning curves' in path.read_text(encoding="utf-8")
    with pytest.raises(InputError, match="curves: are of vgg16, which classification does not name"):
        write_attention_report(tmp_path / "new", classification={"mga": folder}, curves={"vgg16": curve})


def test_names_are_escaped(tmp_path: Path) -> None:
    folder = write_segmentation(tmp_path / "u", 0.5, 0.5)
    path, *_ = write_attention_report(tmp_path / "out", segmentation={"<script>": folder})
    assert "<script>" not in path.read_text(encoding="utf-8")


def test_refusals(tmp_path: Path, report: Path, runs: dict[str, dict[str, Path]]) -> None:
    with pytest.raises(InputError, match="has nothing to show"):
        write_attention_report(tmp_path)
    with pytest.raises(InputError, match=r"segmentation unet-1: .*nowhere is no folder"):
        write_attention_report(tmp_path, segmentation={"unet-1": tmp_path / "nowhere"})
    with pytest.raises(InputError, match="classification: must be model name to folder"):
        write_attention_report(tmp_path, classification=str(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"metrics\.csv: is not there"):
        write_attention_report(tmp_path / "out", segmentation={"unet-1": tmp_path})
    assert not (tmp_path / "out").exists()
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
