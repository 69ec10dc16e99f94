from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou
from sklearn.metrics import recall_score

from bonemonai.analysis import overlap_histogram, score_overlaps, slice_overlaps, subject_overlaps
from bonemonai.errors import InputError

METRICS = ["dice_index", "pixel_accuracy", "iou"]


def masks(seed: int, planes: int = 6) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random((planes, 9, 7)) < rng.choice([0, 0.3, 0.8], planes)[:, None, None]
    predicted = truth ^ (rng.random(truth.shape) < 0.2)
    predicted[rng.random(planes) < 0.3] = False
    return truth, predicted


def study(subjects: int = 5) -> pd.DataFrame:
    return pd.concat([slice_overlaps(f"p{s}", *masks(s), copy=0) for s in range(subjects)], ignore_index=True)


@given(st.integers(0, 100_000))
@settings(max_examples=25)
def test_slices_agree_with_monai_and_scikit_learn(seed: int) -> None:
    truth, predicted = masks(seed)
    table = slice_overlaps("p", truth, predicted, first_plane=10)
    assert table["plane"].tolist() == list(range(10, 16))
    as_tensors = [torch.from_numpy(mask.astype(np.float32))[:, None] for mask in (predicted, truth)]
    dice = compute_dice(*as_tensors, ignore_empty=True)[:, 0].numpy()
    iou = compute_iou(*as_tensors, ignore_empty=True)[:, 0].numpy()
    for index, row in enumerate(table.itertuples()):
        assert (row.true_pixels, row.predicted_pixels) == (truth[index].sum(), predicted[index].sum())
        if not row.true_pixels:
            assert math.isnan(row.pixel_accuracy)
            continue  # MONAI leaves all slices without truth out, ours those without either
        assert row.dice_index == pytest.approx(dice[index], abs=1e-6)
        assert row.iou == pytest.approx(iou[index], abs=1e-6)
        assert row.pixel_accuracy == pytest.approx(recall_score(truth[index].ravel(), predicted[index].ravel()))
    assert table[METRICS].stack().dropna().between(0, 1).all()
    assert (table["iou"] <= table["dice_index"])[table["iou"].notna()].all()
    np.testing.assert_allclose(table["iou"], table["dice_index"] / (2 - table["dice_index"]))


def test_empty_masks() -> None:
    nothing, something = np.zeros((1, 2, 2), bool), np.ones((1, 2, 2), bool)
    scores = [
        slice_overlaps("p", t, p)[METRICS].iloc[0].tolist() for t in (nothing, something) for p in (nothing, something)
    ]
    np.testing.assert_array_equal(scores, [[np.nan] * 3, [0, np.nan, 0], [0, 0, 0], [1, 1, 1]])


def test_empty_slices_are_left_out_and_counted() -> None:
    truth = np.array([[[1, 1, 0, 0]], [[0, 0, 0, 0]], [[0, 0, 0, 0]]], bool)
    predicted = np.array([[[1, 0, 0, 0]], [[0, 0, 0, 0]], [[1, 1, 0, 0]]], bool)
    table = score_overlaps(slice_overlaps("p", truth, predicted), resamples=10)
    of_slices = table.set_index(["level", "metric"]).loc["slice"]
    assert of_slices["value"].tolist() == pytest.approx([(2 / 3 + 0) / 2, 0.5, 0.25])
    assert of_slices["units"].tolist() == [2, 1, 2]
    assert of_slices["left_out"].tolist() == [1, 2, 1]
    of_subject = table.set_index(["level", "metric"]).loc["subject"]
    assert of_subject["value"].tolist() == pytest.approx([2 / 5, 1 / 2, 1 / 4])
    assert of_subject["units"].tolist() == [1, 1, 1]
    assert table[["low", "high"]].isna().all(axis=None)


def test_planes_may_stream() -> None:
    truth, predicted = masks(3)
    streamed = slice_overlaps("p", (plane for plane in truth), (plane for plane in predicted))
    pd.testing.assert_frame_equal(streamed, slice_overlaps("p", truth, predicted))
    assert streamed.columns.tolist() == [
        "subject", "plane", "copy", "true_pixels", "predicted_pixels", "shared_pixels", *METRICS,
    ]  # fmt: skip
    assert slice_overlaps("p", [], []).empty


def test_subjects_pool_their_pixels() -> None:
    slices = study()
    table = subject_overlaps(slices)
    assert table["subject"].tolist() == [f"p{s}" for s in range(5)]
    assert table["slices"].tolist() == [6] * 5
    for seed, row in enumerate(table.itertuples()):
        whole = slice_overlaps("p", *(mask.reshape(1, -1, 7) for mask in masks(seed)))
        assert [row.dice_index, row.pixel_accuracy, row.iou] == pytest.approx(whole[METRICS].iloc[0].tolist())


def test_means_and_intervals() -> None:
    slices = study(8)
    table = score_overlaps(slices)
    assert table.columns.tolist() == ["level", "metric", "value", "low", "high", "units", "left_out", "subjects"]
    np.testing.assert_allclose(table["value"][:3], slices[METRICS].mean())
    np.testing.assert_allclose(table["value"][3:], subject_overlaps(slices)[METRICS].mean())
    assert ((table["low"] < table["value"]) & (table["value"] < table["high"])).all()
    assert table["subjects"].unique().tolist() == [8]
    many = score_overlaps(pd.concat([slices] * 20))
    np.testing.assert_allclose(many[["low", "high"]], table[["low", "high"]])  # subjects are drawn, not slices
    shuffled = score_overlaps(slices.sample(frac=1, random_state=1))
    np.testing.assert_allclose(shuffled[["value", "low", "high"]], table[["value", "low", "high"]])


def test_copies_count_the_papers_way_only() -> None:
    slices = study()
    worse = slices.assign(copy=1, shared_pixels=0)
    both = pd.concat([slices, worse], ignore_index=True)
    pd.testing.assert_frame_equal(score_overlaps(both), score_overlaps(slices))
    pd.testing.assert_frame_equal(subject_overlaps(both), subject_overlaps(slices))
    paper = score_overlaps(both, copies=True)
    assert paper["level"].tolist() == ["image"] * 3
    assert (paper["units"] + paper["left_out"]).unique().tolist() == [60]
    np.testing.assert_allclose(paper["value"], slices[METRICS].mean() / 2)
    assert overlap_histogram(both)["images"].sum() < overlap_histogram(both, copies=True)["images"].sum()


def test_histogram() -> None:
    slices = study()
    table = overlap_histogram(slices, bins=4, lower=0.6)
    assert table.columns.tolist() == ["metric", "low", "high", "images", "left_out"]
    of_dice = table[table["metric"] == "dice_index"]
    np.testing.assert_allclose(of_dice["low"], [0, 0.6, 0.7, 0.8, 0.9])
    np.testing.assert_allclose(of_dice["high"], [0.6, 0.7, 0.8, 0.9, 1])
    values = slices["dice_index"]
    wanted = [((values >= low) & (values < high)).sum() for low, high in ((0, 0.6), (0.6, 0.7), (0.7, 0.8), (0.8, 0.9))]
    assert of_dice["images"].tolist() == [*wanted, (values >= 0.9).sum()]
    assert of_dice["left_out"].unique().tolist() == [values.isna().sum()]
    perfect = slice_overlaps("p", np.ones((3, 2, 2), bool), np.ones((3, 2, 2), bool))
    assert overlap_histogram(perfect)["images"].tolist() == ([0] * 19 + [3]) * 3


@pytest.mark.parametrize(
    ("truth", "predicted", "message"),
    [
        (np.zeros((2, 2, 2), bool), np.zeros((1, 2, 2), bool), "has more planes of truth than the 1 that were"),
        (np.zeros((1, 2, 2), bool), np.zeros((2, 2, 2), bool), "has 1 planes of truth, but more were predicted"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 3), bool), r"has a truth of \(2, 2\) and a prediction of \(2, 3\)"),
        (np.zeros((1, 2, 2)), np.zeros((1, 2, 2), bool), "has a truth of float64"),
        (np.zeros((1, 2, 2), bool), np.zeros((1, 2, 2), np.uint8), "has a prediction of uint8"),
        (np.zeros((2, 2), bool), np.zeros((2, 2), bool), r"has a truth of bool \(2,\); a plane is bool"),
    ],
)
def test_refused_masks(truth: np.ndarray, predicted: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"^p1: {message}"):
        slice_overlaps("p1", truth, predicted)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns=["subject", "shared_pixels"]), "have no column subject, shared_pixels; count"),
        (lambda t: t.iloc[:0], "need a row or more"),
        (lambda t: t.assign(subject=None), "and a subject in each"),
        (lambda t: t.assign(true_pixels=-1), r"hold \[-1.0, .* pixels in row 0; counts are whole"),
        (lambda t: t.assign(shared_pixels=99), "no more pixels are shared than are in either"),
        (lambda t: t.assign(predicted_pixels="x"), "pixels in row 0"),
        (lambda t: t.assign(copy=3), "hold augmented copies only"),
    ],
)
def test_refused_tables(change: Callable[[pd.DataFrame], pd.DataFrame], message: str) -> None:
    for function in (subject_overlaps, score_overlaps, overlap_histogram):
        with pytest.raises(InputError, match=f"^slices: .*{message}"):
            function(change(study(2)))


def test_options_out_of_range() -> None:
    for options in ({"bins": 0}, {"lower": 1.0}, {"lower": -0.1}):
        with pytest.raises(ValueError, match=r"bins must be >= 1 and lower in \[0, 1\)"):
            overlap_histogram(study(2), **options)  # type: ignore[arg-type]
