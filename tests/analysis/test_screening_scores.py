from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

from bonemonai.analysis import (
    SCREENING_CLASSES,
    delong_auc,
    read_predictions,
    score_screening,
    scores_of_confusion,
    screening_confusion,
    screening_roc,
    subject_probabilities,
)
from bonemonai.analysis.screening_scores import _areas, _images, _pairs
from bonemonai.errors import InputError
from tests.conftest import ROOT

LOGITS = [f"logit_{name}" for name in SCREENING_CLASSES]
PROBABILITIES = [f"probability_{name}" for name in SCREENING_CLASSES]


def random_predictions(seed: int, *, subjects: int = 12, skill: float = 1.0) -> pd.DataFrame:
    """One to four slices a subject, as probabilities."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(subjects):
        for plane in range(rng.integers(1, 5)):
            logits = rng.normal(0, 1, 3) + skill * (np.arange(3) == index % 3)
            row = {"subject": f"p{index:03d}", "diagnosis": SCREENING_CLASSES[index % 3], "plane": plane}
            rows.append(row | dict(zip(PROBABILITIES, softmax(logits), strict=True)))
    return pd.DataFrame(rows)


def value(table: pd.DataFrame, level: str, name: str, metric: str, interval: str = "bootstrap") -> float:
    chosen = table.query("level == @level and `class` == @name and metric == @metric and interval == @interval")
    assert len(chosen) == 1
    return float(chosen["value"].iloc[0])


def test_papers_counts_give_table_4_and_table_5() -> None:
    counts = pd.read_csv(ROOT / "data_manifests" / "paper_tang_confusion.csv", index_col="diagnosis")
    assert tuple(counts.columns) == SCREENING_CLASSES
    assert counts.to_numpy().tolist() == [[879, 127, 2], [205, 635, 168], [7, 197, 804]]
    assert counts.to_numpy().sum(axis=1).tolist() == [1008] * 3
    table = scores_of_confusion(counts).set_index(["class", "metric"])["value"]
    assert round(table["all", "accuracy"], 4) == 0.7665
    assert [round(table[name, "precision"], 4) for name in SCREENING_CLASSES] == [0.8057, 0.6621, 0.8255]
    assert table["normal", "sensitivity"] == pytest.approx(879 / 1008)
    assert table["osteoporosis", "specificity"] == pytest.approx(1 - 170 / 2016)
    assert all(0 <= number <= 1 for number in table)


def test_papers_macro_auc_is_the_plain_mean() -> None:
    assert round((0.9715 + 0.8320 + 0.9467) / 3, 4) == 0.9167


@given(st.integers(0, 100_000))
@settings(max_examples=12)
def test_agrees_with_scikit_learn(seed: int) -> None:
    predictions = random_predictions(seed)
    table = score_screening(predictions, resamples=2)
    true = predictions["diagnosis"].to_numpy()
    found = np.array(SCREENING_CLASSES)[predictions[PROBABILITIES].to_numpy().argmax(axis=1)]
    means = predictions.groupby("subject")[PROBABILITIES].mean().to_numpy()
    truth = predictions.groupby("subject")["diagnosis"].first().to_numpy()
    decided = np.array(SCREENING_CLASSES)[means.argmax(axis=1)]
    for level, t, f, p in (
        ("slice", true, found, predictions[PROBABILITIES].to_numpy()),
        ("subject", truth, decided, means),
    ):
        assert value(table, level, "all", "accuracy") == pytest.approx(accuracy_score(t, f))
        wanted = precision_recall_fscore_support(t, f, labels=SCREENING_CLASSES, zero_division=np.nan)
        for index, name in enumerate(SCREENING_CLASSES):
            for metric, values in zip(("precision", "sensitivity", "f1"), wanted, strict=False):
                assert value(table, level, name, metric) == pytest.approx(values[index], nan_ok=True)
            negative = t != name
            assert value(table, level, name, "specificity") == pytest.approx((f[negative] != name).mean())
            assert value(table, level, name, "auc") == pytest.approx(roc_auc_score(t == name, p[:, index]))
        macro = np.mean([roc_auc_score(t == name, p[:, i]) for i, name in enumerate(SCREENING_CLASSES)])
        assert value(table, level, "all", "auc") == pytest.approx(macro)
        wanted_counts = confusion_matrix(t, f, labels=SCREENING_CLASSES)
        np.testing.assert_array_equal(screening_confusion(predictions, level), wanted_counts)  # type: ignore[arg-type]
    assert table[["value", "low", "high"]].stack().dropna().between(0, 1).all()


def test_columns_and_rows() -> None:
    predictions = random_predictions(1)
    table = score_screening(predictions, resamples=50)
    wanted = ["level", "class", "metric", "value", "interval", "low", "high", "images", "subjects"]
    wanted += ["refused", "lost"]
    assert table.columns.tolist() == wanted
    assert table["level"].drop_duplicates().tolist() == ["slice", "subject"]
    assert table["images"].unique().tolist() == [len(predictions)]
    assert table["subjects"].unique().tolist() == [12]
    assert (table[["refused", "lost"]] == 0).all(axis=None)
    assert table.groupby(["level", "interval"]).size().to_dict() == {
        ("slice", "bootstrap"): 17,
        ("subject", "bootstrap"): 17,
        ("subject", "DeLong"): 3,
    }
    assert (table["low"] <= table["high"])[table["low"].notna()].all()


def test_delong_is_of_subjects() -> None:
    predictions = random_predictions(3, subjects=30)
    table = score_screening(predictions, resamples=2, confidence=0.9)
    decided = subject_probabilities(predictions)
    rows = table[table["interval"] == "DeLong"]
    for index, row in enumerate(rows.itertuples()):
        name = SCREENING_CLASSES[index]
        marks, scores = (decided["diagnosis"] == name).to_numpy(), decided[f"probability_{name}"].to_numpy()
        found = delong_auc(marks, scores, confidence=0.9)
        assert (row.level, row.value, row.low, row.high) == ("subject", found.value, found.low, found.high)


def test_bootstrap_and_delong_agree_where_subjects_are_many() -> None:
    table = score_screening(random_predictions(4, subjects=240, skill=1.5)).query("metric == 'auc'")
    for name in SCREENING_CLASSES:
        of_class = table[(table["class"] == name) & (table["level"] == "subject")].set_index("interval")
        for bound in ("low", "high"):
            assert of_class.loc["DeLong", bound] == pytest.approx(of_class.loc["bootstrap", bound], abs=0.015)


@given(st.integers(0, 100_000))
@settings(max_examples=20)
def test_areas_of_a_resample_are_those_of_the_table_drawn(seed: int) -> None:
    predictions = random_predictions(seed, subjects=9)
    images = _images(predictions, "slice")
    rng = np.random.default_rng(seed)
    drawn = rng.integers(1, 3, (1, 9))
    table = pd.concat(
        [
            predictions[predictions["subject"] == name]
            for name, n in zip(images.names, drawn[0], strict=True)
            for _ in range(n)
        ]
    )
    wanted = [roc_auc_score(table["diagnosis"] == name, table[f"probability_{name}"]) for name in SCREENING_CLASSES]
    assert _areas(drawn, *_pairs(images))[0] == pytest.approx(wanted)


def test_logits_are_as_good_as_probabilities() -> None:
    predictions = random_predictions(5)
    logits = predictions.drop(columns=PROBABILITIES)
    logits[LOGITS] = np.log(predictions[PROBABILITIES].to_numpy()) * 1.0 + 3
    pd.testing.assert_frame_equal(score_screening(predictions, resamples=50), score_screening(logits, resamples=50))


def test_probabilities_count_where_logits_stand_beside() -> None:
    """Those of a calibrated network do not follow from its logits alone."""
    predictions = random_predictions(5)
    beside = predictions.assign(**dict.fromkeys(LOGITS, 0.0))
    pd.testing.assert_frame_equal(score_screening(predictions, resamples=50), score_screening(beside, resamples=50))


def test_refused_images_are_left_out_and_counted() -> None:
    predictions = random_predictions(5).assign(refusal="")
    refused = (predictions["subject"] == "p003") | (predictions.index == 0)
    refused &= (predictions["subject"] == "p003") | predictions["subject"].duplicated(keep=False)
    holed = predictions.copy()
    holed.loc[refused, PROBABILITIES] = np.nan
    holed.loc[refused, "refusal"] = "no vertebra was marked"
    table, wanted = score_screening(holed, resamples=50), score_screening(predictions[~refused], resamples=50)
    assert table["refused"].unique().tolist() == [refused.sum()]
    assert table["lost"].unique().tolist() == [1]
    counts = ["refused", "lost"]
    pd.testing.assert_frame_equal(table.drop(columns=counts), wanted.drop(columns=counts))
    assert "p003" not in set(subject_probabilities(holed)["subject"])


def test_a_table_that_was_written_and_read_is_the_same(tmp_path: Path) -> None:
    predictions = random_predictions(5).assign(refusal="", copy=0)
    predictions.loc[0, PROBABILITIES] = np.nan
    predictions.loc[0, "refusal"] = "no vertebra was marked"
    predictions.to_csv(tmp_path / "predictions.csv", index=False, float_format="%.17g")
    read = read_predictions(tmp_path / "predictions.csv")
    pd.testing.assert_frame_equal(score_screening(predictions, resamples=50), score_screening(read, resamples=50))


def test_probabilities_of_0_and_1_are_taken() -> None:
    table = random_predictions(6)
    table[PROBABILITIES] = np.eye(3)[table["diagnosis"].map(SCREENING_CLASSES.index)]
    scores = score_screening(table, resamples=50)
    assert (scores["value"] == 1).all()
    assert scores.loc[scores["interval"] == "DeLong", ["low", "high"]].isna().all(axis=None)
    decided = subject_probabilities(table)
    assert decided["decision"].tolist() == decided["diagnosis"].tolist()
    assert set(decided[PROBABILITIES].to_numpy().ravel()) == {0.0, 1.0}


def test_copies_are_left_out_and_scored_the_papers_way_if_asked_for() -> None:
    slices = random_predictions(7).assign(copy=0)
    flipped = slices.assign(copy=1, **dict(zip(PROBABILITIES, slices[PROBABILITIES[::-1]].to_numpy().T, strict=True)))
    table = pd.concat([flipped, slices], ignore_index=True)
    pd.testing.assert_frame_equal(score_screening(table, resamples=50), score_screening(slices, resamples=50))
    pd.testing.assert_frame_equal(subject_probabilities(table), subject_probabilities(slices.drop(columns="copy")))
    paper = score_screening(table, copies=True, resamples=50)
    assert paper["level"].unique().tolist() == ["image"]
    assert paper["images"].unique().tolist() == [2 * len(slices)]
    right = screening_confusion(table, "image").to_numpy()
    assert right.sum() == 2 * len(slices)
    assert paper["value"].iloc[0] == pytest.approx(np.trace(right) / right.sum())
    assert screening_confusion(table, "slice").to_numpy().sum() == len(slices)
    as_slices = score_screening(table.drop(columns="copy"), resamples=50).query("level == 'slice'")
    pd.testing.assert_frame_equal(paper.drop(columns="level"), as_slices.drop(columns="level"))


def test_more_images_make_nothing_surer() -> None:
    slices = random_predictions(8, subjects=15).assign(copy=0)
    once = score_screening(slices, copies=True, resamples=200)
    many = score_screening(pd.concat([slices.assign(copy=n) for n in range(10)]), copies=True, resamples=200)
    np.testing.assert_allclose(once[["low", "high"]], many[["low", "high"]])
    assert once["high"].iloc[0] - once["low"].iloc[0] > 0.1


def test_subjects_by_hand() -> None:
    table = pd.DataFrame(
        {
            "subject": ["a", "a", "b", "c"],
            "diagnosis": ["normal", "normal", "osteoporosis", "low bone mass"],
            "probability_normal": [0.9, 0.3, 0.2, 0.4],
            "probability_low bone mass": [0.1, 0.6, 0.1, 0.4],
            "probability_osteoporosis": [0.0, 0.1, 0.7, 0.2],
        }
    )
    found = subject_probabilities(table)
    assert found.columns.tolist() == ["subject", "diagnosis", "slices", *PROBABILITIES, "decision"]
    assert found["slices"].tolist() == [2, 1, 1]
    np.testing.assert_allclose(found[PROBABILITIES].iloc[0], [0.6, 0.35, 0.05])
    assert found["decision"].tolist() == ["normal", "osteoporosis", "undecided"]
    assert screening_confusion(table)["undecided"].tolist() == [0, 1, 0]
    scores = score_screening(table, resamples=10)
    assert value(scores, "slice", "all", "accuracy") == 0.5
    assert value(scores, "subject", "all", "accuracy") == pytest.approx(2 / 3)
    assert scores[["low", "high"]].isna().all(axis=None)  # one subject a class draws itself


def test_a_class_never_predicted_has_no_precision_and_one_without_subjects_no_auc() -> None:
    table = random_predictions(9)
    table = table[table["diagnosis"] != "osteoporosis"].assign(**{PROBABILITIES[2]: 0.0})
    table[PROBABILITIES[:2]] /= table[PROBABILITIES[:2]].sum(axis=1).to_numpy()[:, None]
    scores = score_screening(table, resamples=50)
    for level in ("slice", "subject"):
        for metric in ("precision", "sensitivity", "f1", "auc"):
            assert math.isnan(value(scores, level, "osteoporosis", metric))
        assert value(scores, level, "osteoporosis", "specificity") == 1
        assert math.isnan(value(scores, level, "all", "auc"))
        assert not math.isnan(value(scores, level, "all", "accuracy"))
    assert set(screening_roc(table)["class"]) == {"normal", "low bone mass"}


def test_curves() -> None:
    predictions = random_predictions(10)
    curves = screening_roc(predictions)
    assert curves.columns.tolist() == ["class", "threshold", "one_minus_specificity", "sensitivity"]
    assert curves["class"].drop_duplicates().tolist() == list(SCREENING_CLASSES)
    for _, curve in curves.groupby("class"):
        assert curve["sensitivity"].is_monotonic_increasing
        assert curve["one_minus_specificity"].is_monotonic_increasing


@given(st.integers(0, 100_000))
@settings(max_examples=10)
def test_order_of_rows_changes_nothing(seed: int) -> None:
    predictions = random_predictions(seed)
    shuffled = predictions.sample(frac=1, random_state=seed)
    tables = [score_screening(each, resamples=20) for each in (predictions, shuffled)]
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="subject"), "have no column subject"),
        (lambda t: t.drop(columns=PROBABILITIES), "have the logits of: none"),
        (lambda t: t.assign(refusal="no mark"), r"are all refused \(no mark\); there is nothing to score"),
        (lambda t: t.assign(probability_normal=0.9), r"in row 0; probabilities sum to 1"),
        (lambda t: t.assign(probability_normal=math.nan), r"\[nan, .* in row 0; probabilities sum to 1"),
        (lambda t: t.assign(probability_normal="?"), r"in row 0; probabilities sum to 1"),
        (lambda t: t.assign(diagnosis="osteopenia"), "give subject p000 the diagnosis osteopenia"),
        (lambda t: t.assign(subject="p"), "call subject p .* and .*; correct the manifest"),
        (lambda t: t.iloc[:0], "have no row"),
        (lambda t: t.assign(copy=1), r"hold augmented copies only; predict the slices themselves \(copy 0\)"),
        (lambda t: t.assign(copy=[-1, *[0] * (len(t) - 1)]), "hold copy = -1 in row 0; copies are numbered"),
        (lambda t: t.assign(copy="x"), "hold copy = x in row 0"),
    ],
)
def test_refusals(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    table = change(random_predictions(0))
    for function in (score_screening, subject_probabilities, screening_confusion, screening_roc):
        with pytest.raises(InputError, match=f"^predictions: .*{message}"):
            function(table)


def test_refused_counts() -> None:
    good = pd.DataFrame([[1, 2], [3, 4]], index=["a", "b"], columns=["a", "b"])
    for bad, message in (
        (good[["b", "a"]], "rows of a, b and columns of b, a; rows and columns name the same classes"),
        (good.iloc[:1, :1], "rows of a and"),
        (good - 2, "hold what is no count"),
        (good / 3, "hold what is no count"),
        (good.map(lambda count: "x" if count == 4 else count), "hold what is no count"),
    ):
        with pytest.raises(InputError, match=f"^confusion counts: .*{message}"):
            scores_of_confusion(bad)
    undecided = good.assign(undecided=[0, 3])
    assert scores_of_confusion(undecided)["value"].iloc[0] == pytest.approx(5 / 13)


def test_level_must_be_known() -> None:
    with pytest.raises(ValueError, match="level must be one of slice, subject, image, got patient"):
        screening_confusion(random_predictions(0), "patient")  # type: ignore[arg-type]
