from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES
from bonemonai.report.multitask_inputs import (
    ABLATIONS,
    LEARNING_RATES,
    METRICS,
    MODELS,
    Multitask,
    read_ablation,
    read_learning_rates,
    read_models,
)
from bonemonai.report.multitask_paper import PAPER_AUC
from bonemonai.report.multitask_tables import (
    PAIRS,
    localisation_table,
    overall_accuracy,
    table_1,
    table_2,
    table_3,
)
from tests.conftest import ROOT
from tests.report.multitask_runs import write_multitask_run
from tests.report.test_multitask_inputs import lose_a_subject

PUBLISHED = pd.read_csv(ROOT / "data_manifests" / "paper_zhang_tables.csv", dtype={"table": str, "row": str})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("runs")
    return {
        "joint": write_multitask_run(root / "joint"),
        "resnet50": write_multitask_run(root / "resnet50", "resnet50", extras=False, masks=False, seed=3),
        "ours": write_multitask_run(root / "ours", "ours", extras=False, masks=False, seed=5),
    }


@pytest.fixture(scope="module")
def found(folders: dict[str, Path]) -> list[Multitask]:
    return read_models(folders)


@pytest.mark.parametrize(("number", "table"), [("1", table_1([])), ("2", table_2([])), ("3", table_3([]))])
def test_without_a_run_the_paper_stands_alone(number: str, table: pd.DataFrame) -> None:
    """Printed figures are those of the file, for all rows of it; nothing is made up beside them."""
    key = str(table.columns[0])
    printed = table[table["convention"] == "paper"].set_index([key, "class"])
    titles = {**MODELS, "osteopenia": "low bone mass"}
    back = {title: name for name, title in titles.items()}
    rows = PUBLISHED[PUBLISHED["table"] == number]
    for row in rows.to_dict("records"):
        own = printed.loc[(back.get(row["row"], row["row"]), titles.get(row["class"], row["class"]))]
        assert [own[f"paper_{name}"] for name in METRICS] == [row[name] for name in METRICS]
        assert own["note"] == (row["note"] if isinstance(row["note"], str) else "")
    runs = [name for name in table if str(name).startswith((*METRICS, "auc", "subjects"))]
    assert len(runs) == 3 * 5 + 1
    assert table[runs].isna().all(axis=None)
    # "usual" is never printed
    assert table.loc[table["convention"] == "usual", [f"paper_{name}" for name in METRICS]].isna().all(axis=None)


def test_rows_and_conventions(found: list[Multitask]) -> None:
    table = table_2(found)
    assert table["model"].unique().tolist() == [*MODELS, "ours"]
    own = table[table["model"] == "joint"]
    pairs = [(name, way) for name in SCREENING_CLASSES for way in ("usual", "paper")]
    assert list(zip(own["class"], own["convention"], strict=True)) == [*pairs, ("all", "")]
    assert table[table["model"] == "ours"].filter(regex="^(paper|counts)_").isna().all(axis=None)


def test_a_run_stands_beside_the_paper_in_both_conventions(found: list[Multitask], folders: dict[str, Path]) -> None:
    table = table_2(found).set_index(["model", "class", "convention"])
    for name in folders:
        counts = pd.read_csv(folders[name] / "confusion_subject.csv", index_col="diagnosis")
        values = counts.to_numpy()
        for index, of_class in enumerate(SCREENING_CLASSES):
            usual, paper = (table.loc[(name, of_class, way)] for way in ("usual", "paper"))
            recall = values[index, index] / values[index].sum()
            assert usual["sensitivity"] == paper["specificity"] == pytest.approx(recall, abs=1e-5)
            assert usual["specificity"] == paper["sensitivity"]
            assert usual["accuracy"] == paper["accuracy"]
            precise = values[index, index] / max(1, values[:, index].sum())
            assert usual["f1"] == pytest.approx(2 * recall * precise / (recall + precise), abs=1e-5)
            assert usual["f1"] != paper["f1"]
        every = table.loc[(name, "all", "")]
        assert every["accuracy"] == pytest.approx(np.trace(values) / values.sum(), abs=1e-5)
        assert every["subjects"] == 21


def test_intervals_go_with_their_values(found: list[Multitask], folders: dict[str, Path]) -> None:
    scores = pd.read_csv(folders["joint"] / "scores.csv").query("level == 'subject' and interval == 'bootstrap'")
    known = scores.set_index(["class", "metric"])[["low", "high"]]
    table = table_2(found).set_index(["model", "class", "convention"]).loc["joint"]
    for name in SCREENING_CLASSES:
        usual, paper = (table.loc[(name, way)] for way in ("usual", "paper"))
        for metric, other in (("sensitivity", "specificity"), ("specificity", "sensitivity")):
            bounds = known.loc[(name, metric)].tolist()
            assert usual[[f"{metric}_low", f"{metric}_high"]].tolist() == bounds
            assert paper[[f"{other}_low", f"{other}_high"]].tolist() == bounds
        assert usual[["f1_low", "f1_high"]].tolist() == known.loc[(name, "f1")].tolist()
        assert paper[["f1_low", "f1_high"]].isna().all()
        assert usual["auc"] == paper["auc"]
    every = table.loc[("all", "")]
    assert every[["accuracy_low", "accuracy_high"]].tolist() == known.loc[("all", "accuracy")].tolist()


def test_areas_of_the_paper_are_the_joint_model_s(found: list[Multitask]) -> None:
    table = table_2(found)
    said = table[table["paper_auc"].notna()]
    assert set(said["model"]) == {"joint"}
    assert dict(zip(said["class"], said["paper_auc"], strict=True)) == PAPER_AUC == {
        "normal": 0.973, "low bone mass": 0.965, "osteoporosis": 0.985,
    }  # fmt: skip


def test_accuracy_of_counts_alone(found: list[Multitask]) -> None:
    each = found[0]._replace(screening=found[0].screening._replace(scores=None))
    every = table_2([each]).query("model == 'joint' and `class` == 'all'").iloc[0]
    assert every["accuracy"] == pytest.approx(table_2(found).query("`class` == 'all'")["accuracy"].iloc[0], abs=1e-5)
    assert np.isnan(every["accuracy_low"])
    none = each._replace(one_vs_rest=None, screening=each.screening._replace(confusion={}))
    own = table_2([none]).query("model == 'joint'")
    assert own[[*METRICS, "auc", "subjects"]].isna().all(axis=None)


def test_subjects_that_were_lost_are_no_less_wrong(folders: dict[str, Path], tmp_path: Path) -> None:
    """Accuracy is of all, and intervals of some would not be its own."""
    folder = shutil.copytree(folders["joint"], tmp_path / "run")
    values = lose_a_subject(folder)
    own = table_2(read_models({"joint": folder})).query("model == 'joint'").set_index(["class", "convention"])
    every = own.loc[("all", "")]
    assert every["accuracy"] == pytest.approx(np.trace(values) / values.sum())
    assert every["subjects"] == values.sum() == 22
    bounds = own.filter(regex="_(low|high)$")
    assert bounds.drop(columns=["auc_low", "auc_high"]).isna().all(axis=None)
    assert bounds["auc_low"].notna().all()


def test_misprints_are_noted() -> None:
    notes = {
        (table.columns[0], row[table.columns[0]], row["class"]): row["note"]
        for table in (table_1([]), table_2([]), table_3([]))
        for row in table.to_dict("records")
        if row["note"]
    }
    assert "0.686" in notes["model", "resnet50", "osteoporosis"]
    assert "usual convention" in notes["model", "alexnet", "normal"]
    assert "0.863" in notes["modules", "a pair (1)", "osteoporosis"]
    assert "no one test set" in notes["learning_rate", "0.01", "low bone mass"]
    assert "389 of 418" in notes["model", "joint", "all"]
    assert "one of the two pairs above" in notes["modules", "GC+FF", "all"]


def test_learning_rates_and_others(folders: dict[str, Path]) -> None:
    table = table_1(read_learning_rates({"0.001": folders["joint"], "0.5": folders["joint"]}))
    assert table["learning_rate"].unique().tolist() == [*LEARNING_RATES, "0.5"]
    scores = overall_accuracy(table)
    assert scores["run"].notna().tolist() == [False, False, True, False, False, True]
    np.testing.assert_allclose(scores["paper"].round(3), [0.813, np.nan, 0.931, 0.806, 0.864, np.nan])


def test_pairs_that_cannot_be_told_apart_have_no_run(folders: dict[str, Path]) -> None:
    table = table_3(read_ablation(dict.fromkeys(ABLATIONS, folders["joint"])))
    assert table["modules"].unique().tolist() == [*ABLATIONS[:5], *PAIRS, *ABLATIONS[5:]]
    scores = overall_accuracy(table)
    assert scores.index[scores["run"].isna()].tolist() == list(PAIRS)
    assert scores.index[scores["paper"].isna()].tolist() == ["LF+FF", "GC+FF"]
    np.testing.assert_allclose(
        scores["paper"].dropna().round(3), [0.821, 0.856, 0.849, 0.854, 0.861, 0.902, 0.926, 0.931]
    )


def test_localisation(found: list[Multitask], folders: dict[str, Path]) -> None:
    table = localisation_table(found)
    assert set(table["model"]) == {"joint"}  # the others were given crops
    own = table.set_index(["class", "metric", "level"])
    place = own.loc[("all", "average_precision", "0.50")]
    assert place[["paper", "value", "count"]].tolist() == [0.95, 0.98, 42]
    assert own.loc[("L2", "average_precision", "0.50:0.95"), "value"] == 0.7
    slices = pd.read_csv(folders["joint"] / "overlap_slices.csv")
    for metric, paper in (("iou", [0.972, 0.125]), ("dice_index", [0.983, 0.036])):
        row = own.loc[("all", metric, "slice")]
        assert row[["paper", "paper_sd"]].tolist() == paper
        assert row["value"] == pytest.approx(slices[metric].mean(), abs=1e-5)
        assert row["sd"] == pytest.approx(slices[metric].std(), abs=1e-5)
        assert row["low"] < row["value"] < row["high"]
        assert np.isnan(own.loc[("all", metric, "subject"), "paper"])
    border = own.loc[("all", "hd95_mm", "slice")]
    assert border[["value", "sd", "median", "count", "left_out"]].tolist() == [1.234, 0.5, 1.1, 40, 2]
    assert table["paper"].notna().sum() == 3


def test_localisation_without_a_run_is_the_paper_s(found: list[Multitask]) -> None:
    for given in ([], found[1:]):
        table = localisation_table(given)
        assert table["metric"].tolist() == ["average_precision", "iou", "dice_index", "hd95_mm"]
        np.testing.assert_array_equal(table["paper"], [0.95, 0.972, 0.983, np.nan])
        assert table[["value", "low", "sd", "count"]].isna().all(axis=None)
