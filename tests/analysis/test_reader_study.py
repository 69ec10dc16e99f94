from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, cohen_kappa_score, confusion_matrix, precision_score

from bonemonai.analysis import (
    SCREENING_CLASSES,
    cohen_kappa,
    compare_with_readers,
    fleiss_kappa,
    read_reader_study,
    reader_agreement,
    reader_scores,
)
from bonemonai.errors import InputError
from tests.conftest import ROOT
from tests.test_data_manifests import KEYS

READERS = ["radiologist_1", "radiologist_2", "radiologist_3"]
PAPER = ROOT / "data_manifests" / "paper_tang_readers.csv"

# Fleiss' kappa on Wikipedia: 14 raters put 10 subjects into 5 categories; kappa 0.210
TEXTBOOK = [
    [0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7],
]  # fmt: skip


@pytest.fixture(scope="module")
def readings() -> pd.DataFrame:
    return read_reader_study(PAPER)


def random_decisions(readings: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    decision = np.where(
        rng.random(len(readings)) < 0.7, readings["truth"], rng.choice(SCREENING_CLASSES, len(readings))
    )
    return pd.DataFrame({"subject": readings["subject"], "diagnosis": readings["truth"], "decision": decision})


def test_papers_table_6(readings: pd.DataFrame) -> None:
    assert len(readings) == 63
    assert readings["truth"].value_counts().to_dict() == dict.fromkeys(SCREENING_CLASSES, 21)
    scores = reader_scores(readings, resamples=100)
    table = scores.pivot(index="reader", columns=["class", "metric"], values="value").round(4)
    assert table.index.tolist() == READERS
    assert table["all", "accuracy"].tolist() == [0.5079, 0.4921, 0.5556]
    assert table["normal", "precision"].tolist() == [0.6250, 0.6471, 0.7500]
    assert table["low bone mass", "precision"].tolist() == [0.3571, 0.3333, 0.3929]
    assert table["osteoporosis", "precision"].tolist() == [0.6316, 0.6250, 0.6316]


def test_card_says_where_the_readings_are_from() -> None:
    card = json.loads(PAPER.with_suffix(".json").read_text(encoding="utf-8"))
    assert tuple(card) == KEYS
    assert set(card["not_known"]) == {name for name in KEYS if card[name] is None}
    assert card["subjects"] == len(read_reader_study(PAPER))


def test_scores(readings: pd.DataFrame) -> None:
    table = reader_scores(readings)
    assert table.columns.tolist() == ["reader", "class", "metric", "value", "low", "high", "subjects"]
    assert len(table) == 3 * 13
    assert ((table["low"] >= 0) & (table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert (table["high"] <= 1).all()
    for reader, rows in table.groupby("reader"):
        true, said = readings["truth"], readings[reader]
        assert rows.query("metric == 'accuracy'")["value"].tolist() == [accuracy_score(true, said)]
        wanted = precision_score(true, said, labels=SCREENING_CLASSES, average=None)
        assert rows.query("metric == 'precision'")["value"].tolist() == pytest.approx(wanted)
    accuracy = table[(table["metric"] == "accuracy")]
    # a binomial share of 63 has a standard error of 0.063
    assert (accuracy["high"] - accuracy["low"]).between(0.15, 0.3).all()
    pd.testing.assert_frame_equal(table, reader_scores(readings.sample(frac=1, random_state=1)))


def test_agreement(readings: pd.DataFrame) -> None:
    table = reader_agreement(readings, resamples=300)
    assert table.columns.tolist() == ["first", "second", "kappa", "value", "low", "high", "subjects"]
    pairs = list(itertools.combinations(["truth", *READERS], 2))
    assert len(table) == 3 * len(pairs) + 1
    for first, second in pairs:
        of_pair = table.query("first == @first and second == @second").set_index("kappa")["value"]
        for name, weights in (("Cohen", None), ("Cohen, linear", "linear"), ("Cohen, quadratic", "quadratic")):
            wanted = cohen_kappa_score(readings[first], readings[second], labels=SCREENING_CLASSES, weights=weights)
            assert of_pair[name] == pytest.approx(wanted)
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    votes = np.stack([(readings[READERS] == name).sum(axis=1) for name in SCREENING_CLASSES], axis=1)
    assert table.iloc[-1][["first", "second", "kappa"]].tolist() == ["all readers", "", "Fleiss"]
    assert table["value"].iloc[-1] == pytest.approx(fleiss_kappa(votes))
    alone = reader_agreement(readings[["subject", "truth", READERS[0]]], resamples=10)
    assert alone["kappa"].tolist() == ["Cohen", "Cohen, linear", "Cohen, quadratic"]


@given(st.integers(0, 100_000), st.sampled_from(["none", "linear", "quadratic"]), st.integers(2, 5))
@settings(max_examples=40)
def test_cohens_agrees_with_scikit_learn_and_is_symmetric(seed: int, weights: str, classes: int) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, classes, (2, 30))
    second = np.where(rng.random(30) < 0.5, first, second)
    first[:classes] = np.arange(classes)
    counts = confusion_matrix(first, second, labels=range(classes))
    found = float(cohen_kappa(counts, weights))  # type: ignore[arg-type]
    assert found == pytest.approx(cohen_kappa_score(first, second, weights=None if weights == "none" else weights))
    assert found == pytest.approx(float(cohen_kappa(counts.T, weights)))  # type: ignore[arg-type]
    assert -1 <= found <= 1
    assert float(cohen_kappa(np.diag(counts.sum(axis=1)), weights)) == 1.0  # type: ignore[arg-type]


def test_cohens_of_one_class_is_none() -> None:
    assert math.isnan(float(cohen_kappa(np.array([[5, 0], [0, 0]]))))
    with pytest.raises(ValueError, match="weights must be one of none, linear, quadratic, got cubic"):
        cohen_kappa(np.eye(2), "cubic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"counts must be \(..., C, C\), got shape \(2, 3\)"):
        cohen_kappa(np.ones((2, 3)))


def test_fleiss_textbook_example() -> None:
    assert round(fleiss_kappa(np.array(TEXTBOOK)), 3) == 0.210


@given(st.integers(0, 100_000))
@settings(max_examples=30)
def test_fleiss_agrees_with_brute_force(seed: int) -> None:
    """Agreement of all pairs of raters, against that of two readings drawn from all of them."""
    rng = np.random.default_rng(seed)
    said = rng.integers(0, 3, (7, 4))
    said[0] = said[0, 0]
    votes = np.stack([(said == c).sum(axis=1) for c in range(3)], axis=1)
    seen = np.mean([[row[i] == row[j] for i, j in itertools.permutations(range(4), 2)] for row in said])
    chance = np.mean([a == b for a, b in itertools.product(said.ravel(), repeat=2)])
    assert fleiss_kappa(votes) == pytest.approx((seen - chance) / (1 - chance))
    order = rng.permutation(3)
    assert fleiss_kappa(votes[:, order]) == pytest.approx(fleiss_kappa(votes))


def test_fleiss_limits() -> None:
    assert fleiss_kappa(np.array([[3, 0], [0, 3]])) == 1.0
    assert math.isnan(fleiss_kappa(np.array([[3, 0], [3, 0]])))
    for votes in ([[2, 1], [1, 1]], [[1, 0]], [3, 0], [[4, -1]], np.empty((0, 3))):
        with pytest.raises(ValueError, match=r"votes must be \(subjects, C\) with as many raters a subject"):
            fleiss_kappa(np.array(votes, dtype=int))


def test_model_of_the_same_patients(readings: pd.DataFrame) -> None:
    decisions = random_decisions(readings)
    table = compare_with_readers(readings, decisions.sample(frac=1, random_state=2), paired=True)
    assert table.columns.tolist() == [
        "reader", "class", "metric", "reader_value", "model_value", "difference", "low", "high", "p_value",
        "subjects", "model_subjects",
    ]  # fmt: skip
    assert table["reader"].value_counts().to_dict() == dict.fromkeys(READERS, 4)
    np.testing.assert_allclose(table["difference"], table["model_value"] - table["reader_value"])
    assert ((table["low"] < table["difference"]) & (table["difference"] < table["high"])).all()
    accuracy = table[table["metric"] == "accuracy"]
    assert accuracy["model_value"].iloc[0] == accuracy_score(decisions["diagnosis"], decisions["decision"])
    assert table["p_value"].notna().tolist() == (table["metric"] == "accuracy").tolist()
    right, theirs = decisions["decision"] == readings["truth"], readings[READERS[0]] == readings["truth"]
    wins, losses = (right & ~theirs).sum(), (~right & theirs).sum()
    tail = sum(math.comb(wins + losses, k) for k in range(min(wins, losses) + 1)) / 2 ** (wins + losses)
    assert accuracy["p_value"].iloc[0] == pytest.approx(min(1, 2 * tail))


def test_a_reader_is_no_better_than_itself(readings: pd.DataFrame) -> None:
    decisions = pd.DataFrame(
        {"subject": readings["subject"], "diagnosis": readings["truth"], "decision": readings[READERS[1]]}
    )
    table = compare_with_readers(readings, decisions, paired=True).query("reader == @READERS[1]")
    assert (table[["difference", "low", "high"]] == 0).all(axis=None)
    assert table["p_value"].iloc[0] == 1


def test_model_of_other_patients_has_no_difference(readings: pd.DataFrame) -> None:
    decisions = random_decisions(readings).iloc[:30].assign(subject=[f"x{n}" for n in range(30)])
    decisions.loc[0, "decision"] = "undecided"
    table = compare_with_readers(readings, decisions)
    assert table[["difference", "low", "high", "p_value"]].isna().all(axis=None)
    assert table["model_value"].iloc[0] == (decisions["decision"] == decisions["diagnosis"]).mean()
    assert table[["subjects", "model_subjects"]].drop_duplicates().to_numpy().tolist() == [[63, 30]]


@pytest.mark.parametrize(
    ("change", "paired", "message"),
    [
        (lambda d: d.drop(columns="decision"), False, "have no column decision; decide on subjects first"),
        (lambda d: d.iloc[:0], False, "have no row"),
        (lambda d: pd.concat([d, d[:1]]), False, "holds subject 1 twice"),
        (lambda d: d.assign(decision="osteopenia"), False, r"says 'osteopenia' of subject 1 \(decision\); classes are"),
        (lambda d: d.assign(diagnosis="undecided"), False, r"says 'undecided' of subject 1 \(diagnosis\)"),
        (lambda d: d[1:], True, "and readings are of the same patients, but only one has subject 1"),
        (lambda d: d.assign(diagnosis="normal"), True, "call subject 10 normal, but readings low bone mass; who"),
    ],
)
def test_refused_decisions(
    readings: pd.DataFrame, change: Callable[[pd.DataFrame], pd.DataFrame], paired: bool, message: str
) -> None:
    with pytest.raises(InputError, match=f"^decisions: {message}"):
        compare_with_readers(readings, change(random_decisions(readings)), paired=paired)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,truth\n1,normal\n", "has the columns subject, truth; it needs"),
        ("subject,reader,other\n1,normal,normal\n", "has the columns subject, reader, other"),
        ("subject,truth,a,a\n1,normal,normal,normal\n", "a column for each reader, each once"),
        ("subject,truth,a\n", "holds no subject"),
        ("subject,truth,a\n,normal,normal\n", "holds a row without a subject"),
        ("subject,truth,a\n1,normal,normal\n1,normal,normal\n", "holds subject 1 twice"),
        ("subject,truth,a\n7,normal,Normal\n", r"says 'Normal' of subject 7 \(a\); classes are normal, low bone mass"),
        ("subject,truth,a\n7,,normal\n", r"says '' of subject 7 \(truth\)"),
        ("", "is no table of readings"),
    ],
)
def test_refused_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "readers.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"readers\.csv: .*{message}"):
        read_reader_study(path)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no table of readings"):
        read_reader_study(tmp_path / "none.csv")
