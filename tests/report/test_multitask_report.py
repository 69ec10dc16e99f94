from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.report import write_multitask_report
from tests.report.multitask_runs import curve, examples, write_multitask_run
from tests.report.test_screening_report import IMAGES, VOID, text

FILES = ("report.html", "table_1.csv", "table_2.csv", "table_3.csv", "table_localisation.csv")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("H01_secret")
    curve().to_csv(folder / "joint.curve.csv", index=False)
    joint = write_multitask_run(folder / "joint")
    bare = write_multitask_run(folder / "bare", extras=False, seed=7)
    return {
        "results": {
            "vgg19": write_multitask_run(folder / "vgg19", "vgg19", extras=False, masks=False, skill=0.6),
            "joint": joint,
        },
        "learning_rates": {0.001: joint, "0.1": bare},
        "ablation": {"LF+GC+FF": joint, "none": bare},
        "curves": {"joint model": folder / "joint.curve.csv"},
    }


@pytest.fixture(scope="module")
def report(runs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("H01_report")
    assert write_multitask_report(folder, **runs) == [folder / name for name in FILES]
    return folder


@pytest.fixture(scope="module")
def page(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def written(folder: Path, **options: Any) -> str:
    path, *_ = write_multitask_report(folder, **options)
    return path.read_text(encoding="utf-8")


def test_what_is_said_first(page: str) -> None:
    heading = text(page).split("Misprints of the paper")[0]
    for said in (
        "Osteoporosis from L1 and L2 on CT: PHANTOM DATA",
        "Research software, not a medical device; not for diagnosis.",
        "Accuracies on phantoms say nothing about patients.",
        "Joint framework; VGG-19; learning rate 0.1; learning rate 0.001; ablation none; ablation LF+GC+FF: trained "
        "and tested on a synthetic phantom: these figures say nothing about patients.",
        "Joint framework 21 84 1 0 VGG-19 21 84 1 0",
        "251 normal, 116 low bone mass, 51 osteoporosis (418 subjects",
    ):
        assert said in heading
    assert "phantom data</title>" in page
    assert "were not tested on the same subjects" not in heading


@pytest.mark.parametrize(
    ("trained", "tested", "heading", "sentence"),
    [
        ("clinical", "clinical", "", "trained and tested on data of this kind: clinical."),
        ("synthetic", "clinical", "PHANTOM", "trained on data of this kind: synthetic; tested on: clinical."),
        ("clinical", "synthetic", "PHANTOM", "trained on data of this kind: clinical; tested on: synthetic."),
        (None, "unknown", "unknown kind", "trained and tested on data of unknown kind, real or synthetic."),
    ],
)
@pytest.mark.parametrize(("option", "name"), [("results", "joint"), ("learning_rates", "0.1"), ("ablation", "LF")])
def test_kinds_of_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trained: str | None,
    tested: str,
    heading: str,
    sentence: str,
    option: str,
    name: str,
) -> None:
    """Of any run that is shown."""
    for figure in ("confusion_figure", "bars_figure", "ablation_figure"):  # other tests draw them
        monkeypatch.setattr(f"bonemonai.report.multitask_report.{figure}", lambda *_: "")
    weights = {"trained_on": {"kind": trained}} if trained else {"sha256": "ab"}
    (tmp_path / "results.json").write_text(json.dumps({"weights": weights, "tested_on": tested}))
    page = written(tmp_path / "out", **{"results": {}, option: {name: tmp_path}})
    said = page.split("<h1>")[1].split("</h1>")[0].removeprefix("Osteoporosis from L1 and L2 on CT")
    assert (heading in said) if heading else not said
    assert sentence in text(page)
    assert ("say nothing about patients" in text(page)) == ("PHANTOM" in heading)


def test_paper_and_run_stand_side_by_side(page: str, report: Path) -> None:
    said = text(page)
    table = pd.read_csv(report / "table_2.csv").set_index(["model", "class", "convention"])
    row = table.loc[("joint", "normal", "paper")]
    interval = f"{row['sensitivity_low']:.3f} to {row['sensitivity_high']:.3f}"
    cells = f"normal 0.971 {row['accuracy']:.3f} 0.964 {row['sensitivity']:.3f} {interval} 0.976"
    assert f"Joint framework the paper's {cells}" in said.replace("&#39;", "'")
    usual = table.loc[("joint", "osteoporosis", "usual")]
    assert f"osteoporosis 0.957 {usual['accuracy']:.3f} 0.922 {usual['sensitivity']:.3f}" in said
    every = table.loc["joint"].loc["all"].iloc[0]
    ends = f"{every['accuracy_low']:.3f} to {every['accuracy_high']:.3f}"
    assert f"all, share that is right 0.933 (0.931) {every['accuracy']:.3f} {ends} 21 subjects" in said
    assert "GoogLeNet the paper's normal 0.899 n/a 0.976 n/a 0.849 n/a 0.886 n/a" in said.replace("&#39;", "'")
    assert "all, share that is right 0.811 n/a no run" in said


def test_tables_are_of_their_runs(report: Path, runs: dict[str, Any]) -> None:
    rates, _, modules, _ = (pd.read_csv(report / name, dtype={"learning_rate": str}) for name in FILES[1:])
    scores = pd.read_csv(runs["ablation"]["none"] / "scores.csv")
    expected = scores.query("level == 'subject' and `class` == 'all' and metric == 'accuracy'")["value"].item()
    for table, name in ((rates, "0.1"), (modules, "none")):
        every = table[(table.iloc[:, 0] == name) & (table["class"] == "all")]
        assert every["accuracy"].item() == pytest.approx(expected, rel=1e-5)
    assert rates["accuracy"].notna().sum() == modules["accuracy"].notna().sum() == 2 * 7


def test_misprints_are_named(page: str) -> None:
    said = text(page.replace("&#39;", "'"))
    for words in (
        "Table 1, 0.1, normal: sensitivity misprinted: the counts give 0.970.",
        "Table 1, 0.01, all conditions: the row's counts belong to no one test set.",
        "Table 2, AlexNet, all conditions: sensitivity and F1 are the named class's own (the usual convention).",
        "Table 2, ResNet-50, osteoporosis: specificity misprinted: the counts give 0.686.",
        "Table 3, LF+FF or GC+FF (1), osteoporosis: specificity misprinted: the counts give 0.863.",
        "Table 3's ticks are partly lost.",
        "the text has 93.3 %, the counts of its row 389 of 418, which is 93.1 %",
        "The formula of accuracy is printed with TP + FN above the line",
    ):
        assert words in said
    assert "osteoporosis 0.956 n/a 0.995 n/a 0.986 (0.686) n/a" in said
    assert said.count("(0.863)") == 1


def test_the_paper_s_confusion_is_shown_with_the_joint_model(page: str, tmp_path: Path, runs: dict[str, Any]) -> None:
    said = "normal low bone mass osteoporosis normal 245 6 0 low bone mass 5 97 14 osteoporosis 1 3 47"
    assert f"the paper: Joint framework {said} this run: Joint framework" in text(page)
    assert (
        "Confusion matrices, counts and shares: the paper: Joint framework, this run: Joint framework, this run" in page
    )
    counts = pd.read_csv(runs["results"]["vgg19"] / "confusion_subject.csv", index_col=0).to_numpy()
    assert f"this run: VGG-19 normal low bone mass osteoporosis normal {' '.join(map(str, counts[0]))}" in text(page)


def test_areas_and_localisation(page: str, report: Path) -> None:
    said = text(page)
    area = pd.read_csv(report / "table_2.csv").query("model == 'joint' and `class` == 'normal'").iloc[0]
    assert f"Joint framework normal 0.973 {area['auc']:.3f} {area['auc_low']:.3f} to {area['auc_high']:.3f}" in said
    assert "AlexNet normal n/a" not in said.split("ROC curves: Fig. 9")[1]
    assert "AP of boxes all 0.50 0.950 0.980 n/a n/a 42 n/a" in said
    assert "IoU all slice 0.972 ± 0.125 0.9" in said
    assert "HD95 (mm) all slice n/a 1.234 0.500 1.100 40 2" in said


def test_figures_have_words(page: str) -> None:
    alts = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,', page)
    assert len(alts) == page.count("<img")
    assert [alt.split(":")[0] for alt in alts] == [
        "Confusion matrices, counts and shares",
        "Bars of accuracy and F1 of each condition over models, the paper and this run",
        "ROC curves of the three conditions",
        "ROC curves of the three conditions",
        "Total loss, six losses, six weights and metrics of validation over epochs",
        "Grad-CAM over L1 and L2 of subjects decided rightly",
        "Grad-CAM over L1 and L2 of subjects decided wrongly",
        "Share of right decisions over the modules that are on, the paper and this run",
    ]
    assert alts[2].endswith(": Joint framework")
    assert "subjects decided wrongly (3 given)" in text(page)


def test_page_is_self_contained_well_formed_and_tells_no_path(page: str, report: Path) -> None:
    from html.parser import HTMLParser

    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for file in report.iterdir():
        content = IMAGES.sub("", file.read_text(encoding="utf-8"))
        assert not re.search(r"H01|http|/tmp|\bnan\b|\binf\b|\bNone\b|subject_\d", content), file.name
    unclosed: list[str] = []

    class Checker(HTMLParser):
        def handle_starttag(self, tag: str, attrs: Any) -> None:
            if tag not in VOID:
                unclosed.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert unclosed.pop() == tag

    Checker().feed(page)
    assert unclosed == []


def test_how_it_came_about_is_shown_of_every_run(page: str) -> None:
    assert page.count("<details><summary>") == 1 + 6  # a second model's ROC curves
    assert page.count("&#34;seed&#34;: 5") == 6
    assert page.count("ab" * 32) == 6


@pytest.mark.parametrize("kept", ["results.json", "scores.csv", "confusion_subject.csv", "average_precision.csv"])
def test_what_is_missing_is_na(tmp_path: Path, runs: dict[str, Any], kept: str) -> None:
    """Nearly any one file of an evaluation is enough for a page."""
    source = runs["results"]["joint"]
    (tmp_path / "run").mkdir()
    for name in {kept, "results.json" if kept.endswith(("subject.csv", "precision.csv")) else kept}:
        shutil.copy(source / name, tmp_path / "run" / name)
    page = text(written(tmp_path / "out", results={"joint": tmp_path / "run"}))
    for said, cause in {
        "Joint framework: ROC curves n/a, the folder has no roc.csv": "",
        "n/a, no counts of decisions (confusion_subject.csv): Joint framework": "confusion_subject.csv",
        "n/a: no curves were given": "",
        "n/a: no folder has gradcam_examples.npz": "",
        "HD95 (mm) all slice n/a n/a n/a n/a n/a n/a": "",
        "all 0.50 0.950 n/a n/a": "average_precision.csv",
    }.items():
        assert (said in page) == (kept != cause), said
    assert ("n/a: its folder holds no record" in page) == (kept == "scores.csv")


def test_settings_alone_make_a_page(tmp_path: Path, runs: dict[str, Any]) -> None:
    page = text(written(tmp_path / "out", results=None, ablation=runs["ablation"]))
    assert "Joint framework: ROC curves n/a, it was not run." in page
    assert "ablation none 21 84 1 0" in page


def test_texts_are_escaped(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script> $\\frac$'
    folder = write_multitask_run(
        tmp_path / "run", hostile, per_class=3, slices=2, tested="<b>real", weights={"options": hostile}
    )
    (tmp_path / "curve.csv").write_text("epoch,loss,<u>$\\frac$\n1,0.5,0.5\n")
    table = pd.read_csv(folder / "average_precision.csv").replace({"class": {"L1": "<i>L1"}})
    table.to_csv(folder / "average_precision.csv", index=False)
    page = written(tmp_path / "out", results={hostile: folder}, curves={hostile: tmp_path / "curve.csv"})
    for raw in ("<script", "<b>", "<i>", "<u>"):
        assert raw not in page
    assert page.count("&lt;script&gt;") > 8


def test_only_right_examples(tmp_path: Path, runs: dict[str, Any]) -> None:
    folder = shutil.copytree(runs["results"]["joint"], tmp_path / "run")
    given = examples()
    np.savez(folder / "gradcam_examples.npz", **{name: value[given["right"]] for name, value in given.items()})
    page = text(written(tmp_path / "out", results={"joint": folder}))
    assert "Fig. 12, Joint framework: n/a, no example is decided wrongly." in page


def test_models_of_other_subjects_are_told(tmp_path: Path) -> None:
    folders = {
        "joint": write_multitask_run(tmp_path / "a", per_class=3, slices=2, extras=False),
        "vgg19": write_multitask_run(tmp_path / "b", "vgg19", per_class=4, slices=2, extras=False),
    }
    assert "Models were not tested on the same subjects" in text(written(tmp_path / "out", results=folders))


def test_refusals(tmp_path: Path, report: Path, runs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="has nothing to show: give results, model name to folder"):
        write_multitask_report(tmp_path / "out", results={})
    with pytest.raises(InputError, match=r"no\.csv: is not there"):
        write_multitask_report(tmp_path / "out", results=runs["results"], curves={"a": tmp_path / "no.csv"})
    with pytest.raises(InputError, match="holds results of 'vgg19', not of 'joint'"):
        write_multitask_report(tmp_path / "out", results={}, ablation={"LF": runs["results"]["vgg19"]})
    assert not (tmp_path / "out").exists()
    before = (report / "report.html").read_bytes()
    with pytest.raises(OutputError, match=r"report\.html: exists already"):
        write_multitask_report(report, **runs)
    write_multitask_report(report, **runs, overwrite=True)
    assert (report / "report.html").read_bytes() == before
