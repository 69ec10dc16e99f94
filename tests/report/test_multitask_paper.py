from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from bonemonai.analysis import SCREENING_CLASSES, one_vs_rest_table
from bonemonai.report.multitask_inputs import ABLATIONS, LEARNING_RATES, METRICS, MODELS
from bonemonai.report.multitask_paper import (
    PAPER_ACCURACY,
    PAPER_CONFUSION,
    PAPER_MISPRINTS,
    PAPER_NOTES,
    PAPER_ROWS,
    PAPER_TRUE,
    paper_accuracy,
    paper_scores,
)
from tests.conftest import ROOT

PUBLISHED = pd.read_csv(ROOT / "data_manifests" / "paper_zhang_tables.csv", dtype={"table": str, "row": str})
NAMES = {title: name for name, title in MODELS.items()}
CLASSES = dict(zip(("normal", "osteopenia", "osteoporosis"), SCREENING_CLASSES, strict=True))


def test_rows_are_those_that_are_shipped() -> None:
    """Every figure, count and note of the file, and no others."""
    shown = {}
    for row in PUBLISHED.fillna({"note": ""}).to_dict("records"):
        name = NAMES.get(row["row"], row["row"])
        numbers = [row[key] for key in (*METRICS, "right", "others_right")]
        shown[row["table"], name, CLASSES[row["class"]]] = (numbers, row["note"])
    kept = {
        (table, name, SCREENING_CLASSES[index]): cells
        for table, rows in PAPER_ROWS.items()
        for name, lines in rows.items()
        for index, cells in enumerate(lines)
    }
    assert list(kept) == list(shown)
    for key, cells in kept.items():
        np.testing.assert_array_equal(cells, shown[key][0])
        assert PAPER_NOTES.get(key, "") == shown[key][1]
    assert {key for key in PAPER_NOTES if key not in shown} == {("2", "joint", "all")}


def test_names_are_those_of_the_report() -> None:
    assert set(PAPER_ROWS["1"]) == set(LEARNING_RATES)
    assert set(PAPER_ROWS["2"]) == set(MODELS)
    assert set(PAPER_ROWS["3"]) - {"a pair (1)", "a pair (2)"} == set(ABLATIONS) - {"LF+FF", "GC+FF", "LF+GC+FF"}


def test_the_confusion_gives_the_best_row() -> None:
    counts = pd.DataFrame(PAPER_CONFUSION, index=SCREENING_CLASSES, columns=SCREENING_CLASSES)  # type: ignore[arg-type]
    assert counts.sum(axis=1).tolist() == list(PAPER_TRUE)
    assert np.diagonal(counts).tolist() == [245, 97, 47]
    own = one_vs_rest_table(counts)
    best = paper_scores("2", "joint")
    np.testing.assert_allclose(best[[f"counts_{name}" for name in METRICS]], own[list(METRICS)])
    printed = best[best["convention"] == "paper"][[f"paper_{name}" for name in METRICS]]
    np.testing.assert_allclose(printed, own[own["convention"] == "paper"][list(METRICS)], atol=5.1e-4)
    pd.testing.assert_frame_equal(best, paper_scores("1", "0.001"))


def test_only_the_paper_s_convention_is_printed() -> None:
    table = paper_scores("2", "vgg19")
    assert table["convention"].tolist() == ["usual", "paper"] * 3
    assert table.loc[table["convention"] == "usual", "paper_f1"].isna().all()
    assert table["counts_f1"].notna().all()
    assert paper_scores("1", "0.01").filter(like="counts_").isna().all(axis=None)
    assert paper_scores("2", "ours").drop(columns=["class", "convention"]).isna().all(axis=None)


def test_printed_accuracies_are_the_counts_but_the_one_that_is_noted() -> None:
    for (table, row), printed in PAPER_ACCURACY.items():
        right = abs(paper_accuracy(table, row) - printed) < 6e-4
        assert right == ((table, row) != ("2", "joint")), row
    assert np.isnan(paper_accuracy("1", "0.01"))
    assert np.isnan(paper_accuracy("3", "LF+FF"))


def test_what_is_said_of_the_gain_follows_from_the_counts() -> None:
    others = [paper_accuracy("2", name) for name in MODELS if name != "joint"]
    assert max(others) * 418 == pytest.approx(364)
    assert paper_accuracy("2", "joint") - max(others) == pytest.approx(0.060, abs=5e-4)
    assert any("389 against 364" in words for words in PAPER_MISPRINTS)
