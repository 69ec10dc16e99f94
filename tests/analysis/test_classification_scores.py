from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import accuracy_score, confusion_matrix, precision_score, recall_score

from bonemonai.analysis import classes_of, confusion, logits_and_labels, patient_decisions, score_predictions
from bonemonai.analysis.classification_scores import _harmonic_mean
from bonemonai.errors import InputError

CLASSES = ("healthy", "osteoporotic")
METRICS = ["accuracy", "precision", "recall", "f1"]

# Poles et al., Table I (b), percent: precision, recall, F1
PAPER_TABLE_1B = [(50.66, 50.51, 50.58), (56.42, 50.62, 53.36), (51.72, 51.51, 51.61), (65.53, 61.11, 63.24)]


def predictions(
    patients: Mapping[str, tuple[str, Sequence[Sequence[float]]]], classes: Sequence[str] = CLASSES
) -> pd.DataFrame:
    """Table of patients: diagnosis, and the logits of each patch."""
    rows = [
        {"subject": subject, "diagnosis": diagnosis, "plane": 0, "row": 0, "column": 55 * index}
        | dict(zip([f"logit_{name}" for name in classes], logits, strict=True))
        for subject, (diagnosis, patches) in patients.items()
        for index, logits in enumerate(patches)
    ]
    return pd.DataFrame(rows)


def shares(right: Mapping[str, tuple[str, int, int]]) -> pd.DataFrame:
    """Table of patients: diagnosis, right patches, patches."""

    def logits(diagnosis: str, hit: bool) -> tuple[float, float]:
        return (1.0, -1.0) if (diagnosis == "healthy") == hit else (-1.0, 1.0)

    return predictions(
        {
            subject: (diagnosis, [logits(diagnosis, index < hits) for index in range(patches)])
            for subject, (diagnosis, hits, patches) in right.items()
        }
    )


SIX = shares(
    {
        "h1": ("healthy", 9, 10),
        "h2": ("healthy", 3, 10),
        "h3": ("healthy", 5, 8),
        "o1": ("osteoporotic", 7, 7),
        "o2": ("osteoporotic", 1, 9),
        "o3": ("osteoporotic", 6, 11),
    }
)


def random_predictions(seed: int, *, patients: int = 7, classes: Sequence[str] = CLASSES) -> pd.DataFrame:
    """Logits are whole numbers, so that patches and votes are often tied."""
    rng = np.random.default_rng(seed)
    return predictions(
        {
            f"p{index}": (
                classes[index % len(classes)],
                rng.integers(-2, 3, (rng.integers(1, 6), len(classes))).tolist(),
            )
            for index in range(patients)
        },
        classes,
    )


def values(table: pd.DataFrame, level: str, column: str = "value") -> list[float]:
    chosen = table[table["level"] == level]
    assert chosen["metric"].tolist() == METRICS
    return chosen[column].tolist()


def reference(true: Sequence[str], found: Sequence[str], classes: Sequence[str]) -> list[float]:
    """scikit-learn's scores; a decision that is no class is wrong, and no class is averaged over for it."""
    options = {"average": "macro", "labels": list(classes), "zero_division": 0}
    precision, recall = precision_score(true, found, **options), recall_score(true, found, **options)
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return [accuracy_score(true, found), precision, recall, f1]


@pytest.mark.parametrize("row", PAPER_TABLE_1B)
def test_papers_f1_is_the_harmonic_mean(row: tuple[float, float, float]) -> None:
    precision, recall, f1 = row
    assert round(float(_harmonic_mean(np.array(precision), np.array(recall))), 2) == f1


@given(st.integers(0, 10_000), st.sampled_from([CLASSES, ("pristine", "loaded", "failed")]))
@settings(max_examples=40)
def test_agrees_with_scikit_learn(seed: int, classes: Sequence[str]) -> None:
    table = random_predictions(seed, classes=classes)
    logits, labels = logits_and_labels(table)
    true = table["diagnosis"].tolist()
    assert [classes[label] for label in labels] == true
    found = []
    for row in logits:
        best = [name for name, logit in zip(classes, row, strict=True) if logit == row.max()]
        found.append(best[0] if len(best) == 1 else "undecided")
    scores = score_predictions(table, resamples=2)
    assert values(scores, "patch") == pytest.approx(reference(true, found, classes))
    decided = patient_decisions(table)
    wanted = reference(decided["diagnosis"].tolist(), decided["decision"].tolist(), classes)
    assert values(scores, "patient") == pytest.approx(wanted)
    matrix = confusion(table, "patch")
    expected = confusion_matrix(true, found, labels=[*classes, "undecided"])[: len(classes)]
    np.testing.assert_array_equal(matrix, expected[:, : matrix.shape[1]])
    assert ("undecided" in matrix) == ("undecided" in found)


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_decisions_are_the_rule_by_hand(seed: int) -> None:
    table = random_predictions(seed, classes=("a", "b", "c"))
    decided = patient_decisions(table)
    assert decided["subject"].tolist() == sorted(set(table["subject"]))
    for row in decided.to_dict("records"):
        logits = table.loc[table["subject"] == row["subject"], ["logit_a", "logit_b", "logit_c"]].to_numpy()
        votes = {name: 0 for name in "abc"}
        for patch in logits:
            if (patch == patch.max()).sum() == 1:
                votes["abc"[patch.argmax()]] += 1
        means = dict(zip("abc", softmax(logits, axis=1).mean(axis=0), strict=True))
        leading = [name for name in "abc" if votes[name] == max(votes.values())]
        best = [name for name in leading if math.isclose(means[name], max(means[n] for n in leading), abs_tol=1e-9)]
        assert row["decision"] == (best[0] if len(best) == 1 else "undecided")
        assert row["patches"] == len(logits)
        for name in "abc":
            assert row[f"votes_{name}"] == pytest.approx(votes[name] / len(logits))
            assert row[f"probability_{name}"] == pytest.approx(means[name])


@pytest.mark.parametrize(
    ("patches", "decision"),
    [
        ([(1, 0), (1, 0), (0, 9)], "healthy"),  # votes count, not certainty
        ([(1, 0), (0, 2)], "osteoporotic"),  # a tie of votes: the surer class
        ([(2, 0), (0, 2), (0, 2), (2, 0)], "undecided"),
        ([(0.1, 0), (0, 0.1), (0.3, 0), (0, 0.3), (0.7, 0), (0, 0.7)], "undecided"),  # equal but for rounding
        ([(0, 0), (0, 0)], "undecided"),
        ([(0, 0), (0, 0), (1, 0)], "healthy"),
    ],
)
def test_ties(patches: list[tuple[float, float]], decision: str) -> None:
    table = predictions({"p1": ("healthy", patches), "p2": ("osteoporotic", [(0, 1)])})
    assert patient_decisions(table)["decision"].tolist() == [decision, "osteoporotic"]
    backwards = table[[*table.columns[:5], *table.columns[:4:-1]]]
    assert classes_of(backwards) == ["osteoporotic", "healthy"]
    assert patient_decisions(backwards)["decision"].tolist() == [decision, "osteoporotic"]
    accuracy = values(score_predictions(table), "patient")[0]
    assert accuracy == (1.0 if decision == "healthy" else 0.5)
    assert ("undecided" in confusion(table, "patient")) == (decision == "undecided")


@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
@settings(max_examples=20)
def test_order_of_rows_changes_nothing(seed: int, random: object) -> None:
    table = random_predictions(seed)
    order = list(range(len(table)))
    random.shuffle(order)  # type: ignore[attr-defined]
    shuffled = table.iloc[order]
    pd.testing.assert_frame_equal(patient_decisions(table), patient_decisions(shuffled))
    pd.testing.assert_frame_equal(
        score_predictions(table, resamples=50, seed=seed), score_predictions(shuffled, resamples=50, seed=seed)
    )


@given(st.integers(0, 10_000), st.sampled_from([f"p{index}" for index in range(7)]))
@settings(max_examples=20)
def test_more_patches_of_the_same_give_a_patient_no_more_weight(seed: int, subject: str) -> None:
    table = random_predictions(seed)
    doubled = pd.concat([table, table[table["subject"] == subject]])  # its index repeats, too
    once, twice = patient_decisions(table), patient_decisions(doubled)
    pd.testing.assert_frame_equal(once.drop(columns="patches"), twice.drop(columns="patches"))
    scores = [score_predictions(each, resamples=50) for each in (table, doubled)]
    for column in ("value", "low", "high"):
        assert values(scores[0], "patient", column) == values(scores[1], "patient", column)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_six_patients_give_sixths(seed: int) -> None:
    scores = score_predictions(random_predictions(seed, patients=6), resamples=50)
    accuracy = values(scores, "patient")[0]
    assert any(accuracy == pytest.approx(k / 6) for k in range(7))
    assert scores["patients"].unique().tolist() == [6]


def test_table_by_hand() -> None:
    scores = score_predictions(SIX)
    assert scores.columns.tolist() == ["level", "metric", "value", "low", "high", "patches", "patients"]
    assert scores["patches"].unique().tolist() == [55]
    # healthy: 17 of 28 right, osteoporotic: 14 of 27
    precision = (17 / (17 + 13) + 14 / (14 + 11)) / 2
    recall = (17 / 28 + 14 / 27) / 2
    f1 = 2 * precision * recall / (precision + recall)
    assert values(scores, "patch") == pytest.approx([31 / 55, precision, recall, f1])
    assert values(scores, "patient") == pytest.approx([4 / 6] * 4)
    assert confusion(SIX, "patch").to_numpy().tolist() == [[17, 11], [13, 14]]
    assert confusion(SIX, "patient").loc["healthy", "osteoporotic"] == 1


def test_intervals_are_those_of_all_resamples() -> None:
    """With three patients a class there are 27 x 27 resamples, all equally likely."""
    tables = {subject: table for subject, table in SIX.groupby("subject")}
    decided = patient_decisions(SIX).set_index("subject")["decision"]
    exact: dict[str, list[list[float]]] = {"patch": [], "patient": []}
    for healthy in itertools.product(["h1", "h2", "h3"], repeat=3):
        for osteoporotic in itertools.product(["o1", "o2", "o3"], repeat=3):
            drawn = [tables[subject] for subject in healthy + osteoporotic]
            table = pd.concat(drawn)
            found = np.where(table["logit_healthy"] > table["logit_osteoporotic"], *CLASSES)
            exact["patch"].append(scores_of(table["diagnosis"].to_numpy(), found))
            true = np.repeat(np.array(CLASSES), 3)
            exact["patient"].append(scores_of(true, decided[list(healthy + osteoporotic)].to_numpy()))
    # scores of so few patients jump; at 15 % and 85 % they do not, so that 20 000 draws come near
    scores = score_predictions(SIX, resamples=20_000, confidence=0.7, seed=1)
    for level, all_scores in exact.items():
        low, high = np.quantile(all_scores, [0.15, 0.85], axis=0)
        np.testing.assert_allclose(values(scores, level, "low"), low, atol=0.01)
        np.testing.assert_allclose(values(scores, level, "high"), high, atol=0.01)


def scores_of(true: np.ndarray, found: np.ndarray) -> list[float]:
    """Two classes' scores, from scratch: scikit-learn takes a minute for 1458 of them."""
    right = {name: np.sum((true == name) & (found == name)) for name in CLASSES}
    precision = np.mean([right[name] / max(np.sum(found == name), 1) for name in CLASSES])
    recall = np.mean([right[name] / np.sum(true == name) for name in CLASSES])
    f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    return [float(np.mean(true == found)), float(precision), float(recall), float(f1)]


def test_equal_patients_have_no_width() -> None:
    table = shares({f"{name[0]}{index}": (name, 3, 4) for name in CLASSES for index in range(3)})
    scores = score_predictions(table)
    assert values(scores, "patch") == pytest.approx([0.75] * 4)
    assert values(scores, "patient") == [1.0] * 4
    np.testing.assert_allclose(scores["low"], scores["value"])
    np.testing.assert_allclose(scores["high"], scores["value"])


def test_patients_not_patches_are_drawn() -> None:
    """A patient's patches go together: twenty times as many make no interval narrower."""
    few = score_predictions(SIX, seed=4)
    many = score_predictions(pd.concat([SIX] * 20), seed=4)
    pd.testing.assert_frame_equal(few.drop(columns="patches"), many.drop(columns="patches"))
    assert values(few, "patch", "high")[0] - values(few, "patch", "low")[0] > 0.3


def test_seed() -> None:
    first, again, other = (score_predictions(SIX, resamples=15, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert not first[["low", "high"]].equals(other[["low", "high"]])


def test_two_patients_of_a_class_have_no_interval() -> None:
    scores = score_predictions(SIX[SIX["subject"] != "o1"])
    assert scores[["low", "high"]].isna().all(axis=None)
    assert scores["value"].notna().all()


def test_a_class_never_predicted_has_precision_0() -> None:
    table = shares({"h1": ("healthy", 2, 2), "o1": ("osteoporotic", 0, 2)})
    assert values(score_predictions(table), "patch") == pytest.approx([0.5, 0.25, 0.5, 1 / 3])
    nothing = shares({"h1": ("healthy", 0, 2), "o1": ("osteoporotic", 0, 2)})
    assert values(score_predictions(nothing), "patient") == [0.0] * 4


def test_a_class_without_patients_leaves_accuracy_alone() -> None:
    scores = score_predictions(shares({"h1": ("healthy", 3, 4)}))
    assert values(scores, "patch")[0] == 0.75
    assert all(math.isnan(value) for value in values(scores, "patch")[1:])


def test_categories_in_another_order_are_the_same() -> None:
    table = SIX.assign(
        subject=pd.Categorical(SIX["subject"], categories=["o3", "h2", "unused", "o1", "h1", "o2", "h3"]),
        diagnosis=pd.Categorical(SIX["diagnosis"], categories=["osteoporotic", "unused", "healthy"]),
    )
    pd.testing.assert_frame_equal(score_predictions(table), score_predictions(SIX))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["plane", "subject"]), "have no column subject, plane; predict"),
        (lambda t: t.drop(columns="logit_healthy"), "have the logits of: osteoporotic; a score needs two"),
        (lambda t: t.drop(columns=["logit_healthy", "logit_osteoporotic"]), "logits of: none;"),
        (lambda t: t.assign(logit_undecided=0.0), "healthy, osteoporotic, undecided; a score needs"),
        (lambda t: pd.concat([t, t["logit_healthy"]], axis=1), "healthy, osteoporotic, healthy; a score needs"),
        (lambda t: t.iloc[:0], "have no row"),
        (lambda t: t.assign(logit_healthy=[math.nan, *t["logit_healthy"][1:]]), "hold logit_healthy = nan in row 0;"),
        (lambda t: t.assign(logit_healthy=[*t["logit_healthy"][1:], -math.inf]), "logit_healthy = -inf in row 54;"),
        (lambda t: t.assign(logit_healthy=["?", *t["logit_healthy"][1:].astype(str)]), r"logit_healthy = \? in row 0"),
        (lambda t: t.assign(diagnosis="osteopenic"), "give subject h1 the diagnosis osteopenic, but the classes are"),
        (lambda t: t.assign(diagnosis=[None, *t["diagnosis"][1:]]), "give subject h1 the diagnosis (None|nan), but"),
        (lambda t: t.assign(subject="h1"), "call subject h1 healthy and osteoporotic; correct the manifest"),
        (lambda t: t.assign(subject=[None, *t["subject"][1:]]), "hold a patch without a subject"),
    ],
)
def test_refusals(change: object, message: str) -> None:
    table = change(SIX)  # type: ignore[operator]
    for function in (classes_of, patient_decisions, score_predictions):
        with pytest.raises(InputError, match=f"^predictions: .*{message}"):
            function(table)


def test_options_out_of_range() -> None:
    with pytest.raises(ValueError, match="resamples must be >= 2"):
        score_predictions(SIX, resamples=1)
    with pytest.raises(ValueError, match=r"confidence in \(0, 1\), got 2000 and 1"):
        score_predictions(SIX, confidence=1)
    with pytest.raises(ValueError, match="level must be one of patch, patient, got slide"):
        confusion(SIX, "slide")  # type: ignore[arg-type]
