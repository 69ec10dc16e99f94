from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, recall_score

from bonemonai.analysis import one_vs_rest_scores, one_vs_rest_table
from bonemonai.errors import InputError
from tests.conftest import ROOT

CLASSES = ["normal", "osteopenia", "osteoporosis"]
TRUE = np.array([251, 116, 51])
SCORES = ["accuracy", "sensitivity", "specificity", "f1"]
PUBLISHED = pd.read_csv(ROOT / "data_manifests" / "paper_zhang_tables.csv", dtype={"table": str, "row": str})


def matrix(counts: list[list[int]]) -> pd.DataFrame:
    return pd.DataFrame(counts, index=CLASSES, columns=CLASSES)


def of(table: pd.DataFrame, convention: str) -> np.ndarray:
    return table[table["convention"] == convention][SCORES].to_numpy(float)


@given(st.integers(0, 100_000))
@settings(max_examples=25)
def test_both_conventions_are_scikit_learns(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 30, (3, 3))
    truth = np.repeat([0, 1, 2], counts.sum(1))
    found = np.concatenate([np.repeat([0, 1, 2], row) for row in counts])
    table = one_vs_rest_table(matrix(counts.tolist()))
    for index in range(3):
        for convention, positive in (("usual", True), ("paper", False)):
            t, p = (truth == index) == positive, (found == index) == positive
            wanted = [accuracy_score(t, p), recall_score(t, p), recall_score(~t, ~p), f1_score(t, p)]
            np.testing.assert_allclose(of(table, convention)[index], wanted)


def test_best_row_is_rebuilt() -> None:
    """245, 97 and 47 right. Columns follow from the printed sensitivities, what is off the diagonal does not."""
    right = np.array([245, 97, 47])
    assert right.sum() == 389
    assert right.sum() / TRUE.sum() == pytest.approx(0.931, abs=5e-4)  # "93.3 %" is osteopenia's one-vs-rest accuracy
    best = PUBLISHED[(PUBLISHED["table"] == "1") & (PUBLISHED["row"] == "0.001")]
    false_calls = np.rint((1 - best["sensitivity"].to_numpy()) * (418 - TRUE)).astype(int)
    called = right + false_calls
    assert called.tolist() == [251, 106, 61]
    assert called.sum() == 418
    table = one_vs_rest_scores(CLASSES, TRUE.tolist(), right.tolist(), called.tolist())
    np.testing.assert_allclose(of(table, "paper"), best[SCORES].to_numpy(), atol=5.1e-4)
    np.testing.assert_allclose(of(table, "usual")[:, 1], [0.976, 0.836, 0.922], atol=5e-4)
    np.testing.assert_allclose(of(table, "usual")[:, 3], [0.976, 0.874, 0.839], atol=5e-4)
    assert of(table, "paper")[1, 0] == pytest.approx(0.933, abs=5e-4)


def test_off_diagonal_counts_need_the_text() -> None:
    """Margins leave two matrices; the text's "only 3 cases were misclassified as low dose" of osteoporosis leaves one.

    Its "5 cases misclassified as normal" of osteopenia fits that one, its "2 ... as osteoporosis" and "8 ..." neither.
    """
    fitting = []
    for a, c, f in itertools.product(range(7), range(20), range(5)):  # rows: 6, 19 and 4 wrong
        counts = np.array([[245, a, 6 - a], [c, 97, 19 - c], [4 - f, f, 47]])
        if counts.sum(0).tolist() == [251, 106, 61]:
            fitting.append(counts)
    assert len(fitting) == 2
    chosen = [counts for counts in fitting if counts[2, 1] == 3]
    assert [counts.tolist() for counts in chosen] == [[[245, 6, 0], [5, 97, 14], [1, 3, 47]]]
    assert not any(counts[1, 2] == 2 for counts in fitting)


def test_published_rows_are_counts_on_one_test_set() -> None:
    """Every printed number but the marked ones is the counts' own, cut or rounded after the third digit."""
    assert len(PUBLISHED) == 3 * (5 + 9 + 7)
    assert PUBLISHED.groupby(["table", "row"]).size().unique().tolist() == [3]
    for (_, name), rows in PUBLISHED.groupby(["table", "row"]):
        assert rows["class"].tolist() == CLASSES
        if name == "0.01":
            assert rows["right"].isna().all()
            continue
        right, others = rows["right"].to_numpy(int), rows["others_right"].to_numpy(int)
        called = right + 418 - TRUE - others
        assert called.sum() == 418, name  # who is wrong is called another class
        table = one_vs_rest_scores(CLASSES, TRUE.tolist(), right.tolist(), called.tolist())
        printed = rows[SCORES].to_numpy()
        wrong = np.abs(printed - of(table, "paper")) > 1.1e-3
        if name == "AlexNet":
            usual = of(table, "usual")
            np.testing.assert_allclose(printed[:, [1, 3]], usual[:, [1, 3]], atol=1.1e-3)
            wrong[:, [1, 3]] = False
        for index, note in enumerate(rows["note"].fillna("")):
            marked = [f"{score} misprinted" in note for score in SCORES]
            assert wrong[index].tolist() == marked, (name, CLASSES[index])


def test_rows_of_the_ablation_and_the_learning_rates() -> None:
    def overall(table: str, row: str) -> float:
        rows = PUBLISHED[(PUBLISHED["table"] == table) & (PUBLISHED["row"] == row)]
        return round(float(rows["right"].sum()) / 418, 3)

    ablation = PUBLISHED[PUBLISHED["table"] == "3"]["row"].drop_duplicates()
    assert [overall("3", row) for row in ablation] == [0.821, 0.856, 0.849, 0.854, 0.861, 0.902, 0.926]
    assert overall("1", "0.001") == overall("2", "Joint framework") == 0.931


def test_undecided_is_wrong_and_empty_classes_are_no_number() -> None:
    counts = matrix([[3, 1, 0], [0, 2, 0], [0, 0, 0]]).assign(undecided=[1, 0, 0])
    table = one_vs_rest_table(counts)
    assert of(table, "usual")[0, 1] == pytest.approx(3 / 5)
    assert np.isnan(of(table, "usual")[2, 1])
    assert of(table, "paper")[2, 1] == 1


def test_refusals() -> None:
    with pytest.raises(InputError, match="columns begin with the rows' classes"):
        one_vs_rest_table(matrix([[1, 0, 0]] * 3)[CLASSES[::-1]])
    with pytest.raises(InputError, match="hold what is no count"):
        one_vs_rest_table(matrix([[1, 0, 0]] * 3) / 2)
    with pytest.raises(InputError, match="counts: do not fit"):
        one_vs_rest_scores(["a", "b"], [3, 3], [4, 3], [4, 3])
    with pytest.raises(ValueError, match="one count a class"):
        one_vs_rest_scores(["a", "b"], [3, 3], [3], [4, 3])
