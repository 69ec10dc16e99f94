from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from bonemonai.errors import InputError, OutputError
from bonemonai.report import write_screening_report
from tests.conftest import ROOT
from tests.report.screening_runs import write_run

READERS = ROOT / "data_manifests" / "paper_tang_readers.csv"
FILES = ("report.html", "table_3.csv", "table_4.csv", "table_5.csv", "table_6.csv")
IMAGES = re.compile(r'src="data:[^"]*"')
VOID = {"meta", "img", "br", "hr", "link", "input"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("H01_secret")
    curve = folder / "cls.curve.csv"
    pd.DataFrame({"epoch": [1, 2], "loss": [1.0, 0.5], "accuracy": [0.4, 0.8]}).to_csv(curve, index=False)
    results = {
        "densenet_1": write_run(folder / "b", "densenet_1", skill=0.6),
        "bcc_net": write_run(folder / "a", temperature=1.7, copies=2),
    }
    return {"results": results, "readers": READERS, "curves": {"BCC-Net": curve}}


@pytest.fixture(scope="module")
def report(runs: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("H01_report")
    assert write_screening_report(folder, **runs) == [folder / name for name in FILES]
    return folder


@pytest.fixture
def page(report: Path) -> str:
    return (report / "report.html").read_text(encoding="utf-8")


def text(page: str) -> str:
    """What a reader sees, without figures, marks and line ends."""
    return " ".join(re.sub(r"<[^>]*>", " ", IMAGES.sub("", page)).split())


def written(folder: Path, **options: Any) -> str:
    path, *_ = write_screening_report(folder, **options)
    return path.read_text(encoding="utf-8")


def test_what_is_said_first(page: str) -> None:
    heading = text(page).split("Marks of the vertebra")[0]
    for said in (
        "Osteoporosis screening from lumbar CT: PHANTOM DATA",
        "Research software, not a medical device; not for diagnosis.",
        "Accuracies on phantoms say nothing about patients.",
        "BCC-Net; DenseNet-1: trained and tested on a synthetic phantom: these figures say nothing about patients.",
        "BCC-Net 21 84 1 0 2 DenseNet-1 21 84 1 0 0",
    ):
        assert said in heading
    assert "phantom data</title>" in page
    assert "No augmented copies were scored" not in heading


@pytest.mark.parametrize(
    ("trained", "segmented", "tested", "heading", "sentence"),
    [
        ("clinical", "clinical", "clinical", "", "trained and tested on data of this kind: clinical."),
        ("synthetic", "clinical", "clinical", "PHANTOM", "of this kind: clinical, synthetic; tested on: clinical."),
        ("clinical", "synthetic", "clinical", "PHANTOM", "of this kind: clinical, synthetic; tested on: clinical."),
        ("clinical", "clinical", "synthetic", "PHANTOM", "on data of this kind: clinical; tested on: synthetic."),
        (None, None, "unknown", "unknown kind", "trained and tested on data of unknown kind, real or synthetic."),
    ],
)
def test_kinds_of_data(
    tmp_path: Path, trained: str | None, segmented: str | None, tested: str, heading: str, sentence: str
) -> None:
    cards = [{"trained_on": {"kind": kind}} if kind else {"sha256": "ab"} for kind in (trained, segmented)]
    record = {"weights": cards[0], "segmentation": cards[1], "tested_on": tested}
    (tmp_path / "results.json").write_text(json.dumps(record))
    page = written(tmp_path / "out", results={"bcc_net": tmp_path})
    said = page.split("<h1>")[1].split("</h1>")[0].removeprefix("Osteoporosis screening from lumbar CT")
    assert (heading in said) if heading else not said
    assert sentence in text(page)
    assert ("say nothing about patients" in text(page)) == ("PHANTOM" in heading)


def test_paper_and_run_stand_side_by_side(page: str, report: Path, runs: dict[str, Any]) -> None:
    tables = [pd.read_csv(report / name) for name in FILES[1:]]
    overlaps, _, models, _ = tables
    row = overlaps.iloc[0]
    cells = " ".join(
        f"{row[n]:.4f} {row[f'{n}_low']:.4f} to {row[f'{n}_high']:.4f}" for n in ("subject", "slice", "image")
    )
    assert f"BCC-Net Dice index (DI) 0.9992 {cells} 21 84" in text(page)
    scores = pd.read_csv(runs["results"]["bcc_net"] / "scores.csv").query("metric == 'accuracy' and level == 'subject'")
    own = models.set_index(["model", "metric"]).loc[("bcc_net", "accuracy")]
    assert own["subject"] == pytest.approx(scores["value"].item(), rel=1e-5)
    assert f"BCC-Net accuracy 0.7665 {own['subject']:.4f} {own['subject_low']:.4f} to" in text(page)
    assert "DenseNet-121 accuracy 0.5498 n/a n/a n/a n/a AUC 0.6842 n/a" in text(page)
    assert "normal precision 0.8057" in text(page)


def test_radiologists(page: str, report: Path) -> None:
    said = text(page)
    assert "radiologist 1 accuracy 0.5079 0.5079 0.3" in said
    assert "BCC-Net (network) accuracy 0.7665" in said
    assert "Other data are behind the two" in said
    table = pd.read_csv(report / "table_6.csv")
    assert table["metric"].str.startswith("kappa").sum() == 19
    both = table[table["reader"] == "radiologist_1 / radiologist_2"].set_index("metric")
    linear = both.loc["kappa, Cohen, linear"]
    assert f"{linear['value']:.2f} {linear['low']:.2f} to {linear['high']:.2f}" in said


def test_figures_have_words(page: str) -> None:
    alts = re.findall(r'<img alt="([^"]*)" src="data:image/png;base64,', page)
    assert len(alts) == page.count("<img")
    assert alts == [
        "Number of slices over Dice index, IoU and pixel accuracy: BCC-Net",
        "Number of slices over Dice index, IoU and pixel accuracy: DenseNet-1",
        "ROC curves of the three conditions: BCC-Net",
        "ROC curves of the three conditions: DenseNet-1",
        "Decisions by true condition: BCC-Net",
        "Decisions by true condition: DenseNet-1",
        "Share of right slices over probability, before and after the temperature: BCC-Net",
        "Share of right slices over probability, before and after the temperature: DenseNet-1",
        "Accuracy of answers over the share of subjects with an answer",
        "Loss of training and metrics of validation over epochs",
    ]


def test_calibration_and_abstaining(page: str, runs: dict[str, Any]) -> None:
    folder = runs["results"]["bcc_net"]
    table = pd.read_csv(folder / "calibration.csv", index_col="stage")
    ece = f"{table.loc['before', 'ece']:.4f} {table.loc['after', 'ece']:.4f}"
    assert f"BCC-Net 1.700 {ece}" in text(page)
    assert "DenseNet-1 1.000 not calibrated" in text(page)
    subjects = pd.read_csv(folder / "subjects.csv")
    answered = subjects[subjects["answer"] != "undecided"]
    right = (answered["answer"] == answered["diagnosis"]).mean()
    assert f"BCC-Net 0.20 {len(answered)} 21 {len(answered) / 21:.2f} {right:.4f}" in text(page)
    rules = subjects[subjects["diagnosis"] == "osteoporosis"]["rule"].value_counts()
    names = ("sure, normal", "normal, not sure", "sure, reduced", "reduced, not sure", "comparable")
    assert f"osteoporosis {' '.join(str(rules.get(name, 0)) for name in names)}" in text(page)


def test_models_of_other_subjects_are_told(tmp_path: Path, page: str) -> None:
    assert "were not tested on the same subjects" not in page
    results = {
        "bcc_net": write_run(tmp_path / "a", per_class=3),
        "densenet_2": write_run(tmp_path / "b", "densenet_2", per_class=4),
    }
    for folder in results.values():  # the other tests draw the figures
        for path in [path for path in folder.iterdir() if path.name != "subjects.csv"]:
            path.unlink()
    assert "Models were not tested on the same subjects" in text(written(tmp_path / "out", results=results))


def test_page_is_self_contained_well_formed_and_tells_no_path(page: str, report: Path) -> None:
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for file in report.iterdir():
        content = IMAGES.sub("", file.read_text(encoding="utf-8"))
        assert not re.search(r"H01|http|/tmp|\bnan\b|\binf\b|\bNone\b|subject_\d", content), file.name

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


@pytest.mark.parametrize(
    "kept", ["results.json", "scores.csv", "overlap_scores.csv", "subjects.csv", "predictions.csv"]
)
def test_what_is_missing_is_na(tmp_path: Path, runs: dict[str, Any], kept: str) -> None:
    """Any one file of an evaluation is enough for a page."""
    (tmp_path / "run").mkdir()
    shutil.copy(runs["results"]["densenet_1"] / kept, tmp_path / "run" / kept)
    page = text(written(tmp_path / "out", results={"densenet_1": tmp_path / "run"}))
    for said, cause in {
        "Fig. 5: n/a, no slice has a true mask": "",
        "DenseNet-1: ROC curves n/a, the folder has no roc.csv": "",
        "DenseNet-1: n/a, the folder has no counts of decisions (confusion_subject.csv)": "",
        "n/a: no readings were given": "",
        "DenseNet-1: reliability n/a, the folder has no predictions.csv": "predictions.csv",
        "n/a: the folder has no subjects.csv": "subjects.csv",
        "Coverage: n/a, no folder has coverage.csv": "",
        "n/a: no curves were given": "",
        "n/a: its folder holds no record of how it came about (results.json)": "results.json",
        "No augmented copies were scored, so the columns of the paper&#39;s way are n/a": "",
    }.items():
        assert (said.replace("&#39;", "'") in page.replace("&#39;", "'")) == (kept != cause), said
    assert ("data of unknown kind" in page) == (kept != "results.json")


def test_texts_are_escaped(tmp_path: Path) -> None:
    hostile = '<script>alert("1")</script> $\\frac$'
    folder = write_run(tmp_path / "run", hostile, per_class=3, slices=2, tested="<b>real", weights={"options": hostile})
    readings = pd.read_csv(READERS).rename(columns={"radiologist_1": hostile, "radiologist_2": "<i>x"})
    readings.to_csv(tmp_path / "readers.csv", index=False)
    (tmp_path / "curve.csv").write_text("epoch,loss,<u>$\\frac$\n1,0.5,0.5\n")
    page = written(
        tmp_path / "out", results={hostile: folder}, readers=tmp_path / "readers.csv",
        curves={hostile: tmp_path / "curve.csv"},
    )  # fmt: skip
    for raw in ("<script", "<b>", "<i>", "<u>"):
        assert raw not in page
    assert page.count("&lt;script&gt;") > 5


def test_a_record_that_is_not_as_it_should_be(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", per_class=3, slices=2)
    odd = {
        "scored": [1],
        "thresholds": {"band": "wide"},
        "weights": "ab",
        "segmentation": {"trained_on": "x"},
        "model": 3,
    }
    (folder / "results.json").write_text(json.dumps(odd))
    page = text(written(tmp_path / "out", results={"bcc_net": folder}))
    assert "BCC-Net n/a n/a n/a 0 n/a" in page


def test_masks_alone_are_shown(tmp_path: Path) -> None:
    """Scans whose condition is not known: marks are scored, decisions are n/a."""
    from bonemonai.analysis import write_screening_scores
    from tests.report.screening_runs import predict

    predict().assign(diagnosis="").to_csv(tmp_path / "predictions.csv", index=False)
    write_screening_scores(tmp_path, model="bcc_net", about={"tested_on": "clinical"})
    page = written(tmp_path / "out", results={"bcc_net": tmp_path})
    assert page.count("<img") == 1
    assert "BCC-Net accuracy 0.7665 n/a n/a n/a" in text(page)


def test_refusals(tmp_path: Path, report: Path, runs: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="has nothing to show: give results, model name to folder"):
        write_screening_report(tmp_path / "out", results={})
    with pytest.raises(InputError, match="is no table of readings"):
        write_screening_report(tmp_path / "out", results=runs["results"], readers=tmp_path / "no.csv")
    with pytest.raises(InputError, match=r"no\.csv: is not there"):
        write_screening_report(tmp_path / "out", results=runs["results"], curves={"a": tmp_path / "no.csv"})
    assert not (tmp_path / "out").exists()
    before = (report / "report.html").read_bytes()
    with pytest.raises(OutputError, match=r"report\.html: exists already"):
        write_screening_report(report, **runs)
    write_screening_report(report, **runs, overwrite=True)
    assert (report / "report.html").read_bytes() == before
