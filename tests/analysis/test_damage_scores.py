from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.analysis import (
    clear_damage_results,
    clear_results,
    detection_band,
    detection_limits,
    pool_damage_folds,
    read_damage_predictions,
    score_damage,
    write_damage_results,
)
from bonemonai.errors import InputError, OutputError

COLUMNS = ["subject", "load_state", "plane", "index", "logit_pristine", "logit_failed"]
PLANES = ("XY", "XZ", "YZ")


def slices(states: dict[str, int], seed: int = 0, images: int = 4, first: int = 1) -> pd.DataFrame:
    """Subject to number of states; the more load, the more it looks failed."""
    random = np.random.default_rng(seed)
    rows: list[tuple[Any, ...]] = [
        (subject, state, plane, index, random.normal(), random.normal(3 * (state - first) / count - 1.5))
        for subject, count in states.items()
        for state in range(first, first + count)
        for plane in PLANES
        for index in range(images)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def softmax_of_failed(row: Any) -> float:
    return math.exp(row.logit_failed) / (math.exp(row.logit_failed) + math.exp(row.logit_pristine))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def brute_force(table: pd.DataFrame) -> dict[str, float]:
    rows = list(table.itertuples())
    ends = {s: [r.load_state for r in rows if r.subject == s] for s in {r.subject for r in rows}}
    pristine = [r for r in rows if r.load_state == min(ends[r.subject])]
    failed = [r for r in rows if r.load_state == max(ends[r.subject])]
    right = (
        [not r.logit_failed > r.logit_pristine for r in pristine],
        [r.logit_failed > r.logit_pristine for r in failed],
    )
    return {
        "accuracy": mean([*right[0], *right[1]]),
        "accuracy_pristine": mean([*right[0]]),
        "accuracy_failed": mean([*right[1]]),
        "softmax_pristine": mean([1 - softmax_of_failed(r) for r in pristine]),
        "softmax_failed": mean([softmax_of_failed(r) for r in failed]),
        "images": len(pristine) + len(failed),
    }


def brute_force_limits(table: pd.DataFrame) -> list[list[float]]:
    rows, found = list(table.itertuples()), []
    for state in sorted({r.load_state for r in rows}):
        loaded = [r for r in rows if r.load_state == state]
        having = {r.subject for r in loaded}
        lowest = {s: min(r.load_state for r in rows if r.subject == s) for s in having}
        pristine = [r for r in rows if r.subject in having and r.load_state == lowest[r.subject]]
        a = [r.logit_failed <= r.logit_pristine for r in pristine]
        b = [r.logit_failed > r.logit_pristine for r in loaded]
        soft = mean([softmax_of_failed(r) for r in loaded])
        found.append([state, mean([*a]), mean([*b]), mean([*a, *b]), soft, len(a) + len(b)])
    return found


@pytest.mark.parametrize("states", [{"a": 2}, {"a": 20}, {"a": 15, "b": 20, "c": 3}])
def test_scores_and_limits_are_those_counted_by_hand(states: dict[str, int]) -> None:
    table = slices(states, seed=len(states)).sample(frac=1, random_state=0)
    assert score_damage(table) == pytest.approx(brute_force(table))
    limits = detection_limits(table)
    assert list(limits) == ["load_state", "pristine", "loaded", "overall", "softmax_failed", "images"]
    np.testing.assert_allclose(limits.to_numpy(float), brute_force_limits(table))


def test_two_images_a_state_by_hand() -> None:
    #          state 1: right, wrong; state 2: both missed; state 3: right, a tie, which is pristine
    logits = [(1.0, 0.0), (0.0, 2.0), (1.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]
    rows = [("a", 1 + n // 2, "XY", n % 2, *pair) for n, pair in enumerate(logits)]
    table = pd.DataFrame(rows, columns=COLUMNS)
    scores = score_damage(table)
    assert (scores["accuracy"], scores["accuracy_pristine"], scores["accuracy_failed"]) == (0.5, 0.5, 0.5)
    assert scores["softmax_pristine"] == pytest.approx((0.7310586 + 0.1192029) / 2)
    assert scores["softmax_failed"] == pytest.approx((0.7310586 + 0.5) / 2)
    assert detection_limits(table)["overall"].tolist() == [0.5, 0.25, 0.5]
    assert detection_limits(table)["loaded"].tolist() == [0.5, 0, 0.5]


@given(
    pairs=st.lists(st.tuples(*[st.sampled_from([-2.0, 0.0, 0.5])] * 2), min_size=3, max_size=30),
    states=st.integers(1, 4),
)
def test_the_unloaded_state_against_itself_is_half_right(pairs: list[tuple[float, float]], states: int) -> None:
    rows = [("ab"[n % 2], 1 + n // 2 % states, "XY", n, *pair) for n, pair in enumerate(pairs)]
    limits = detection_limits(pd.DataFrame(rows, columns=COLUMNS)).set_index("load_state")
    assert limits.loc[1, "overall"] == 0.5
    assert limits.loc[1, "pristine"] == pytest.approx(1 - limits.loc[1, "loaded"])


def test_pristine_is_the_same_at_all_states_of_one_subject() -> None:
    limits = detection_limits(slices({"a": 20}))
    assert limits["pristine"].nunique() == 1
    assert limits["load_state"].tolist() == list(range(1, 21))


def test_states_need_not_begin_at_one() -> None:
    low, high = slices({"a": 5}), slices({"a": 5}, first=3)
    assert score_damage(low) == score_damage(high)


def test_sure_networks_stay_finite() -> None:
    table = pd.DataFrame([("a", 1, "XY", 0, 1e4, -1e4), ("a", 2, "XY", 0, -1e4, 1e4)], columns=COLUMNS)
    assert score_damage(table)["softmax_pristine"] == score_damage(table)["softmax_failed"] == 1


def test_one_state_cannot_be_scored() -> None:
    with pytest.raises(InputError, match="hold one loading state of b; pristine and failed are its lowest and"):
        score_damage(slices({"a": 3, "b": 1}))
    assert detection_limits(slices({"a": 1}))["overall"].tolist() == [0.5]


def test_band_over_folds() -> None:
    folds = pd.concat(
        [detection_limits(slices({"a": count}, seed=count)).assign(fold=f"fold_{count}") for count in (3, 4)]
    )
    band = detection_band(folds).set_index("load_state")
    assert list(band) == ["mean", "sd", "low", "high", "folds"]
    assert band["folds"].tolist() == [2, 2, 2, 1]
    for state, row in band.iterrows():
        values = folds.loc[folds["load_state"] == state, "overall"]
        expected = [values.mean(), np.std(values, ddof=1) if len(values) > 1 else np.nan, values.min(), values.max()]
        assert row[["mean", "sd", "low", "high"]].tolist() == pytest.approx(expected, nan_ok=True)


def write_fold(folder: Path, table: pd.DataFrame, *, model: str = "cnn", **changes: Any) -> Path:
    folder.mkdir(parents=True)
    table.to_csv(folder / "predictions.csv", index=False, float_format="%.9g")
    split = {"test": sorted(table["subject"].unique()), "val": ["subject_09"], **changes}
    about = {
        "weights": {"sha256": folder.name, "trained_on": {"kind": "synthetic"}},
        "seed": 3,
        "tested_on": "synthetic",
    }
    write_damage_results(folder, model=model, about=about, split=split)
    return folder


def test_files_of_a_fold(tmp_path: Path) -> None:
    table = slices({"subject_00": 5})
    folder = write_fold(tmp_path / "fold_00", table)
    read = read_damage_predictions(folder / "predictions.csv")
    np.testing.assert_allclose(read[COLUMNS[4:]], table[COLUMNS[4:]], rtol=1e-8)
    assert read[COLUMNS[:4]].equals(table[COLUMNS[:4]])
    stored = pd.read_csv(folder / "scores.csv")
    assert list(stored) == ["metric", "value"]
    assert stored.set_index("metric")["value"].to_dict() == pytest.approx(score_damage(table), abs=1e-8)
    limits = pd.read_csv(folder / "detection_limits.csv")
    pd.testing.assert_frame_equal(limits, detection_limits(table), atol=1e-8)
    results = json.loads((folder / "results.json").read_text())
    assert results["split"] == {"test": ["subject_00"], "val": ["subject_09"]}
    assert (results["model"], results["seed"]) == ("cnn", 3)
    assert "not a medical device" in results["note"]


def test_folds_stand_side_by_side(tmp_path: Path) -> None:
    tables = [slices({f"subject_{n:02d}": 5}, seed=n) for n in range(3)]
    folders = [write_fold(tmp_path / f"fold_{n:02d}", table) for n, table in enumerate(tables)]
    pooled = pool_damage_folds(tmp_path, folders, model="cnn")
    singles = pd.DataFrame([score_damage(table) for table in tables])
    stored = pd.read_csv(tmp_path / "scores.csv").set_index("metric")
    for metric in ("accuracy", "accuracy_pristine", "accuracy_failed", "softmax_pristine", "softmax_failed"):
        assert stored.loc[metric, "mean"] == pytest.approx(singles[metric].mean())
        assert stored.loc[metric, "sd"] == pytest.approx(np.std(singles[metric], ddof=1))
    assert stored["folds"].tolist() == [3] * 5
    assert pooled["metric"].tolist() == list(stored.index)
    folds = pd.read_csv(tmp_path / "folds.csv", index_col="fold")
    assert list(folds)[:3] == ["test", "val", "accuracy"]
    assert folds["test"].tolist() == ["subject_00", "subject_01", "subject_02"]
    np.testing.assert_allclose(folds[singles.columns], singles, atol=1e-8)
    limits = pd.read_csv(tmp_path / "detection_limits.csv")
    assert list(limits)[:2] == ["fold", "load_state"]
    assert len(limits) == 15
    band = pd.read_csv(tmp_path / "detection_band.csv")
    pd.testing.assert_frame_equal(band, detection_band(limits), atol=1e-8)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["best_fold"] == f"fold_{singles['accuracy'].argmax():02d}"
    assert results["folds"] == ["fold_00", "fold_01", "fold_02"]
    assert (results["seed"], results["tested_on"]) == (3, "synthetic")
    assert [weights["sha256"] for weights in results["weights_of_folds"]] == results["folds"]
    assert "leakage" not in results


def test_best_is_the_first_of_equals_and_leakage_is_kept(tmp_path: Path) -> None:
    perfect = pd.DataFrame([("s", 1, "XY", 0, 1.0, 0.0), ("s", 2, "XY", 0, 0.0, 1.0)], columns=COLUMNS)
    wrong = perfect.assign(logit_failed=0.0, logit_pristine=1.0)
    folders = [
        write_fold(tmp_path / name, table, leakage=said)
        for name, table, said in [("a", wrong, ""), ("b", perfect, "samples shared"), ("c", perfect, "samples shared")]
    ]
    pool_damage_folds(tmp_path / "out", folders, model="cnn")
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (results["best_fold"], results["leakage"]) == ("b", "samples shared")


def test_one_fold_has_no_spread(tmp_path: Path) -> None:
    folder = write_fold(tmp_path / "fold_00", slices({"s": 4, "t": 3}))
    assert pool_damage_folds(tmp_path, [folder], model="cnn")["sd"].isna().all()
    assert pd.read_csv(tmp_path / "folds.csv")["test"].tolist() == ["s; t"]
    assert pd.read_csv(tmp_path / "detection_band.csv")["sd"].isna().all()


def test_folds_without_a_record_are_named_by_their_predictions(tmp_path: Path) -> None:
    folder = write_fold(tmp_path / "fold_00", slices({"s": 4}))
    (folder / "results.json").unlink()
    pool_damage_folds(tmp_path, [folder], model="cnn")
    assert pd.read_csv(tmp_path / "folds.csv", keep_default_na=False)[["test", "val"]].to_numpy().tolist() == [
        ["s", ""]
    ]


def test_folds_that_are_none_or_doubled_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one or more, each name once, got none"):
        pool_damage_folds(tmp_path, [], model="cnn")
    with pytest.raises(InputError, match="each name once"):
        pool_damage_folds(tmp_path, [tmp_path / "a", tmp_path / "b" / "a"], model="cnn")
    folder = write_fold(tmp_path / "a", slices({"s": 2}))
    slices({"s": 1}).to_csv(folder / "predictions.csv", index=False)
    with pytest.raises(InputError, match=r"a/predictions\.csv: hold one loading state of s"):
        pool_damage_folds(tmp_path, [folder], model="cnn")
    assert not (tmp_path / "scores.csv").exists()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("logit_failed", "nan", "logit_failed = 'nan' in row 2, but logit_failed must be a finite number"),
        ("logit_pristine", "inf", "logit_pristine must be a finite number"),
        ("logit_pristine", "", "logit_pristine = '' in row 2"),
        ("load_state", "1.5", "load_state must be a whole number"),
        ("load_state", "unloaded", "load_state must be a finite number"),
        ("index", "-0.5", "index must be a whole number"),
        ("plane", "ZX", "plane must be one of XY, XZ, YZ"),
        ("subject", "", "each image needs a subject"),
        ("index", "1", "doubles the image s 1 XY 1 in row 2"),
    ],
)
def test_damaged_tables_are_refused(tmp_path: Path, column: str, value: str, message: str) -> None:
    table = slices({"s": 2}).astype(str)
    table.loc[2, column] = value
    table.to_csv(tmp_path / "predictions.csv", index=False)
    with pytest.raises(InputError) as caught:
        read_damage_predictions(tmp_path / "predictions.csv")
    assert message in str(caught.value)
    assert "predictions.csv: " in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match="is no table of predictions"):
        read_damage_predictions(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no table of predictions"):
        read_damage_predictions(path)
    slices({"s": 2}).drop(columns=["plane", "logit_failed"]).to_csv(path, index=False)
    with pytest.raises(InputError, match="has no column plane, logit_failed; predict the images again"):
        read_damage_predictions(path)
    slices({}).to_csv(path, index=False)
    with pytest.raises(InputError, match="holds no image"):
        read_damage_predictions(path)


def test_tables_that_were_not_read_are_checked_too() -> None:
    table = slices({"s": 2})
    table.loc[3, "logit_failed"] = np.nan
    for function in (score_damage, detection_limits):
        with pytest.raises(InputError, match="predictions: holds logit_failed"):
            function(table)


def test_subjects_that_look_like_numbers_stay_words(tmp_path: Path) -> None:
    slices({"007": 2, "7": 2, "NA": 2}).to_csv(tmp_path / "predictions.csv", index=False)
    read = read_damage_predictions(tmp_path / "predictions.csv")
    assert sorted(read["subject"].unique()) == ["007", "7", "NA"]


def test_an_earlier_evaluation_goes_whole_or_stays(tmp_path: Path) -> None:
    for name in ("results.json", "detection_limits.csv", "gradcam_states.npz", "model.pt", "patients.csv"):
        (tmp_path / name).touch()
    with pytest.raises(OutputError, match="exists already; say --overwrite True"):
        clear_damage_results(tmp_path)
    clear_damage_results(tmp_path, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "patients.csv"]
    clear_results(tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"], "the other paper's files are its own"
