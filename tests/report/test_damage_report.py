from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.report import write_damage_report
from tests.report.damage_runs import best_fold, weights_of, write_gradcam, write_runs, write_validation

# Shen et al., Fig. 8 and the text on it: mean accuracy by bone and deal
PAPER = {
    ("cortical", "sample"): {"cnn": 0.983, "resnet_scratch": None, "transfer": 0.959, "fine_tuning": 0.988},
    ("trabecular", "sample"): {"cnn": 0.901, "resnet_scratch": None, "transfer": 0.951, "fine_tuning": 0.996},
    ("cortical", "mixed"): {"cnn": 0.967, "resnet_scratch": None, "transfer": None, "fine_tuning": 0.997},
    ("trabecular", "mixed"): {"cnn": 0.926, "resnet_scratch": None, "transfer": None, "fine_tuning": 0.990},
}
LEAKS = "LEAKAGE: slices of the same sample on both sides: says nothing about an unseen sample"
IMAGES = re.compile(r'src="data:[^"]*"')
VOID = {"meta", "img", "br", "hr", "link", "input"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return write_runs(tmp_path_factory.mktemp("H01_secret"))


@pytest.fixture(scope="module")
def report(runs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("H01_report")
    files = write_damage_report(folder, **runs)
    assert files == [folder / name for name in ("report.html", "table_fig8.csv", "detection_limits.csv")]
    return folder


@pytest.fixture
def page(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def text(page: str) -> str:
    """What a reader sees, without figures, marks and line ends."""
    return " ".join(re.sub(r"<[^>]*>", " ", IMAGES.sub("", page)).split())


def test_paper_and_run_stand_side_by_side(page: str, report: Path, runs: dict[str, Any]) -> None:
    table = pd.read_csv(report / "table_fig8.csv").set_index(["bone", "deal", "model"])
    assert len(table) == 16
    for (bone, deal), figures in PAPER.items():
        for model, published in figures.items():
            assert table["paper_accuracy"][bone, deal, model] == pytest.approx(published or np.nan, nan_ok=True)
    for key, folder in runs["results"].items():
        bone, model, *deal = key.split("/")
        scores = pd.read_csv(folder / "scores.csv", index_col="metric").loc["accuracy"]
        row = table.loc[(bone, *(deal or ["sample"]), model)]
        assert row[["mean", "sd", "folds"]].tolist() == pytest.approx(scores[["mean", "sd", "folds"]].tolist())
    assert table["mean"].notna().sum() == 4
    cnn, tuned = (table.loc[("cortical", "sample", model)] for model in ("cnn", "fine_tuning"))
    group = (
        f"cortical by sample CNN 0.983 {cnn['mean']:.3f} {cnn['sd']:.3f} 4 ResNet-50 from scratch n/a n/a n/a n/a "
        f"transfer learning (TL) 0.959 n/a n/a n/a TL + fine-tuning 0.988 {tuned['mean']:.3f} {tuned['sd']:.3f} 4"
    )
    assert group in text(page)
    assert "TL + fine-tuning 0.990 n/a n/a n/a LEAKAGE" in text(page)


def test_mixed_deals_are_named_as_leakage(page: str, report: Path) -> None:
    table = pd.read_csv(report / "table_fig8.csv", keep_default_na=False)
    assert set(table["leakage"][table["deal"] == "mixed"]) == {LEAKS}
    assert set(table["leakage"][table["deal"] == "sample"]) == {""}
    heading = text(page).split("Accuracy over folds")[0]
    assert f"cortical, CNN, mixed deal: {LEAKS} (planes are dealt)." in heading
    assert "cortical, CNN, mixed deal (LEAKAGE)" in text(page)


def test_leakage_that_the_key_does_not_say(tmp_path: Path) -> None:
    folder = write_validation(tmp_path / "run", "cnn", count=1, states=3, leakage="samples are shared")
    _, csv, _ = write_damage_report(tmp_path / "out", results={"trabecular/cnn": folder})
    table = pd.read_csv(csv, keep_default_na=False).set_index(["bone", "deal", "model"])
    assert table["leakage"]["trabecular", "sample", "cnn"] == LEAKS
    assert f"trabecular, CNN: {LEAKS} (samples are shared)" in text((tmp_path / "out" / "report.html").read_text())


def test_phantom_is_said_first(page: str) -> None:
    heading = text(page).split("Accuracy over folds")[0]
    for said in (
        "Pristine and failed bone in SR-microCT: PHANTOM DATA",
        "Research software, not a medical device; not for diagnosis",
        "trabecular, CNN: trained and tested on a synthetic phantom: these figures say nothing about bone",
    ):
        assert said in heading
    assert "phantom data</title>" in page


@pytest.mark.parametrize(
    ("trained", "tested", "heading", "sentence"),
    [
        ({"kind": "ex vivo"}, "synthetic", "PHANTOM", "trained on data of this kind: ex vivo; tested on: synthetic."),
        ({"kind": "ex vivo"}, "ex vivo", "", "trained and tested on data of this kind: ex vivo."),
        (None, "unknown", "data of unknown kind", "trained and tested on data of unknown kind, real or synthetic."),
    ],
)
def test_kinds_of_data(
    tmp_path: Path, trained: dict[str, str] | None, tested: str, heading: str, sentence: str
) -> None:
    folder = write_validation(tmp_path / "run", "cnn", count=1, states=3, trained=trained, tested=tested)
    path, *_ = write_damage_report(tmp_path / "out", results={"cnn": folder})
    page = path.read_text(encoding="utf-8")
    said = page.split("<h1>")[1].split("</h1>")[0].removeprefix("Pristine and failed bone in SR-microCT")
    assert (heading in said) if heading else not said
    assert f"CNN: {sentence}" in text(page)


def test_detection_limits_are_of_the_best_fold_beside_all(report: Path, runs: dict[str, Any]) -> None:
    table = pd.read_csv(report / "detection_limits.csv").set_index(["bone", "deal", "model", "load_state"]).sort_index()
    assert len(table) == 20 * 3 + 15
    for key, folder in runs["results"].items():
        bone, model, *deal = key.split("/")
        own = table.loc[(bone, *(deal or ["sample"]), model)]
        best = json.loads((folder / "results.json").read_text())["best_fold"]
        limits = pd.read_csv(folder / "detection_limits.csv")
        limits = limits[limits["fold"] == best].set_index("load_state")
        band = pd.read_csv(folder / "detection_band.csv", index_col="load_state")
        assert set(own["best_fold"]) == {best}
        np.testing.assert_allclose(own[["pristine", "loaded", "overall"]], limits[["pristine", "loaded", "overall"]])
        np.testing.assert_allclose(own[["mean", "low", "high"]], band[["mean", "low", "high"]])
        assert own.loc[1, ["overall", "mean", "low", "high"]].tolist() == [0.5] * 4


def test_figures_and_what_is_said_of_them(page: str) -> None:
    alts = re.findall(r'<img alt="([^"]*)"', page)
    assert len([alt for alt in alts if alt.startswith("Accuracy of pristine, loaded and all")]) == 4
    assert [alt for alt in alts if "CNN and TL + fine-tuning" in alt] == [
        "Overall accuracy of CNN and TL + fine-tuning over loading states: cortical"
    ]
    assert "Mean accuracy over values of each hyper-parameter cortical" in alts
    assert "Slices and Grad-CAM over loading states: cortical, CNN subject_00, XY 150" in alts
    assert len(alts) == 7
    for said in (
        "compare the bands",
        "rises again to near 1 at states 3 and 4 of 15",
        "learning_rate 0.0001 (baseline)",
    ):
        assert said in text(page)


def test_best_folds(page: str, runs: dict[str, Any]) -> None:
    folder = runs["results"]["cortical/cnn"]
    best = json.loads((folder / "results.json").read_text())["best_fold"]
    row = pd.read_csv(folder / "folds.csv", index_col="fold").loc[best]
    names = ("accuracy_failed", "accuracy_pristine", "accuracy")
    figures = " ".join(f"{row[name]:.3f}" for name in names)
    softmax = f"{row['softmax_failed']:.3f} {row['softmax_pristine']:.3f}"
    said = f"cortical, CNN {best} test {row['test']}; validation {row['val']} {figures} 1.000 {softmax}"
    assert said in text(page)
    assert f"{best} (best) {row['test']} {row['val']} {row['accuracy']:.3f}" in text(page)


def test_gradcam_numbers(page: str, runs: dict[str, Any]) -> None:
    table = pd.read_csv(runs["gradcam"]["cortical/cnn"] / "gradcam.csv")
    cracked = table[(table["crack_area"] > 0) & (table["decision"] == "failed")]
    share, area = 100 * cracked["crack_share"].mean(), 100 * cracked["crack_area"].mean()
    assert f"cracks {share:.2f} % {area:.2f} % {share / area:.2f} {len(cracked)} 0" in text(page)
    assert "rings 2.00 % 4.00 % 0.50 11 0" in text(page)


def test_gradcam_of_the_best_fold_is_found(tmp_path: Path) -> None:
    folder = write_validation(tmp_path / "run", "cnn", count=2, states=3)
    best = json.loads((folder / "results.json").read_text())["best_fold"]
    write_gradcam(folder / best, states=3, weights=weights_of(best))
    path, *_ = write_damage_report(tmp_path / "out", results={"cnn": folder})
    page = path.read_text(encoding="utf-8")
    assert "Slices and Grad-CAM over loading states: CNN subject_00, XY 150" in page
    assert "tied to a fold" not in page


def test_gradcam_of_other_weights_is_told_or_refused(tmp_path: Path) -> None:
    folder = write_validation(tmp_path / "run", "cnn", count=2, states=3)
    best = best_fold(folder)
    (other,) = {"fold_00", "fold_01"} - {best}
    cam = tmp_path / "cam"
    for weights, said in (
        (None, "CNN : cannot be tied to a fold: its gradcam.json does not say which weights made the maps."),
        (weights_of(other), f"CNN : made by the weights of {other} of CNN, not by those of its best fold, {best}."),
    ):
        write_gradcam(cam, states=3, weights=weights)
        path, *_ = write_damage_report(tmp_path / "out", results={"cnn": folder}, gradcam={"cnn": cam}, overwrite=True)
        assert said in text(path.read_text(encoding="utf-8"))
    write_gradcam(cam, states=3, weights="f" * 64)
    with pytest.raises(InputError, match=r"cam: holds Grad-CAM by weights .* of no fold of CNN; visualise fold_0"):
        write_damage_report(tmp_path / "new", results={"cnn": folder}, gradcam={"cnn": cam})
    assert not (tmp_path / "new").exists()
    path, *_ = write_damage_report(tmp_path / "new", results={"cnn": folder}, gradcam={"own": cam})
    said = "own : made by weights that are of no fold of the cross-validations shown."
    assert said in text(path.read_text(encoding="utf-8"))


def test_page_is_self_contained_well_formed_and_tells_no_path(page: str, report: Path) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for file in report.iterdir():
        content = IMAGES.sub("", file.read_text(encoding="utf-8"))
        assert not re.search(r"H01|http|/tmp|\bnan\b|\binf\b", content), file.name

    class Checker(HTMLParser):
        open: list[str] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in VOID:
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    checker = Checker()
    checker.feed(page)
    assert checker.open == []


def test_least_that_can_be_shown(tmp_path: Path) -> None:
    folder = write_validation(tmp_path / "run", "<b>own</b>", count=1, states=2)
    with pytest.raises(InputError, match="must be model, bone/model or bone/model/mixed"):
        write_damage_report(tmp_path / "out", results={"<b>own</b>": folder})
    path, csv, _ = write_damage_report(tmp_path / "out", results={"<b>own": folder})
    page = path.read_text(encoding="utf-8")
    for said in (
        "Fig. 9: n/a, no bone has both",
        "n/a: no sweep was given",
        "n/a: no folder holds Grad-CAM",
        "not named by sample &lt;b&gt;own n/a",
    ):
        assert said in text(page)
    assert "<b>own" not in page
    table = pd.read_csv(csv, keep_default_na=False)
    assert table.iloc[-1][["bone", "model", "sd", "folds"]].tolist() == ["", "<b>own", "", "1"]


def test_provenance_is_shown(page: str) -> None:
    for word in ("0" * 63 + "3", "&#34;seed&#34;: 7", "&#34;best_fold&#34;"):
        assert word in page


def test_refusals(tmp_path: Path, report: Path, runs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="has nothing to show"):
        write_damage_report(tmp_path / "out", results={})
    with pytest.raises(InputError, match="holds results of 'fine_tuning', not of 'cnn'"):
        write_damage_report(tmp_path / "out", results={"cnn": runs["results"]["cortical/fine_tuning"]})
    with pytest.raises(InputError, match=r"sweep\.csv: is not there"):
        write_damage_report(tmp_path / "out", results=runs["results"], sweep=tmp_path)
    with pytest.raises(InputError, match=r"gradcam\.csv: is not there"):
        write_damage_report(tmp_path / "out", results=runs["results"], gradcam=tmp_path)
    assert not (tmp_path / "out").exists()
    with pytest.raises(OutputError, match=r"report\.html: exists already"):
        write_damage_report(report, **runs)
    write_damage_report(report, **runs, overwrite=True)
