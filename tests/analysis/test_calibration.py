from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import CalibrationErrorMetric
from scipy.special import log_softmax, softmax
from sklearn.metrics import accuracy_score, log_loss

from bonemonai.analysis import calibration_table, expected_calibration_error, fit_temperature, score_predictions
from bonemonai.errors import InputError


def calibrated(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from their own softmax, so that T = 1 is right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, classes))
    return logits, np.argmax(logits + rng.gumbel(size=logits.shape), axis=1)


def table_of(logits: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    names = np.array(["pristine", "failed"])
    columns = {"subject": [f"p{label}" for label in labels], "diagnosis": names[labels], "plane": 0, "row": 0}
    return pd.DataFrame(columns | {"column": 0, "logit_pristine": logits[:, 0], "logit_failed": logits[:, 1]})


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0, 20.0])
def test_a_known_temperature_is_found(classes: int, temperature: float) -> None:
    logits, labels = calibrated(100_000, classes, seed=classes)
    assert fit_temperature(logits * temperature, labels) == pytest.approx(temperature, rel=0.02)


@given(st.integers(0, 10_000))
@settings(max_examples=15)
def test_no_other_temperature_is_likelier(seed: int) -> None:
    logits, labels = calibrated(60, 3, seed)
    labels[:3] = 0, 1, 2
    grid = np.geomspace(0.01, 100, 2001)
    losses = -log_softmax(logits / grid[:, None, None], axis=2)[:, np.arange(60), labels].mean(axis=1)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(grid[np.argmin(losses)], rel=0.005)
    assert log_loss(labels, softmax(logits / found, axis=1)) <= losses.min() + 1e-9


@given(st.integers(0, 10_000), st.floats(-1e6, 1e6))
@settings(max_examples=15)
def test_shifted_logits_have_the_same_temperature(seed: int, shift: float) -> None:
    logits, labels = calibrated(200, 2, seed)
    labels[:2] = 0, 1
    shifts = np.random.default_rng(seed).normal(shift, 10, (200, 1))
    assert fit_temperature(logits + shifts, labels) == pytest.approx(fit_temperature(logits, labels), rel=1e-4)


@pytest.mark.parametrize("margin", [1e-3, 1.0, 50.0])
def test_separable_patches_end_at_the_bound(margin: float, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(20) % 2
    logits = np.eye(2)[labels] * margin
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(logits, labels) == pytest.approx(0.01)
    assert "no value is best; the bound, 0.01, is taken" in caplog.text


@pytest.mark.parametrize("sign", [0.0, -1.0])
def test_logits_without_truth_end_at_the_other_bound(sign: float, caplog: pytest.LogCaptureFixture) -> None:
    labels = np.arange(20) % 2
    with caplog.at_level(logging.WARNING):
        assert fit_temperature(np.eye(2)[labels] * sign, labels) == pytest.approx(100)
    assert "the bound, 100.00, is taken" in caplog.text


def test_no_warning_within_the_bounds(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fit_temperature(*calibrated(500, 2, seed=0))
    assert not caplog.records


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((20, 2)), np.zeros(20, int), r"are of 20 patches of 1 class\(es\); a temperature needs 10 of two"),
        (np.zeros((9, 2)), np.arange(9) % 2, "are of 9 patches of 2"),
        (np.full((20, 2), np.nan), np.arange(20) % 2, r"are not finite in row 0 \(\[nan, nan\]\)"),
        (np.zeros((20, 2)), np.arange(20), r"labels of int64 in \[0, 19\]; labels are integers in \[0, 1\]"),
        (np.zeros((20, 2)), np.arange(20) % 2 / 2, "labels of float64"),
        (np.zeros((20, 2)), np.arange(19) % 2, r"have shape \(20, 2\) and labels \(19,\)"),
        (np.zeros(20), np.arange(20) % 2, r"have shape \(20,\)"),
        (np.zeros((20, 1)), np.zeros(20, int), r"have shape \(20, 1\)"),
    ],
)
def test_what_has_no_temperature(logits: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=f"^logits: .*{message}"):
        fit_temperature(logits, labels)


def test_error_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.45, 0.55]])
    labels = np.array([0, 1, 1, 1])
    # (0.75, 1]: 0.85 sure, 0.5 right; (0.5, 0.75]: 0.625 sure, 1 right
    assert expected_calibration_error(probabilities, labels, bins=4) == pytest.approx(0.5 * 0.35 + 0.5 * 0.375)
    assert expected_calibration_error(probabilities, labels, bins=1) == pytest.approx(abs(2.95 - 3) / 4)


def test_a_bin_holds_its_upper_edge() -> None:
    probabilities = np.array([[0.75, 0.25], [0.8, 0.2]])
    apart = expected_calibration_error(probabilities, np.array([1, 0]), bins=4)
    assert apart == pytest.approx((0.75 + 0.2) / 2)
    assert expected_calibration_error(probabilities, np.array([1, 0]), bins=2) == pytest.approx(abs(1.55 - 1) / 2)


def test_what_is_calibrated_has_no_error() -> None:
    sure = np.repeat([0.6, 0.7, 0.9, 1.0], 10)
    labels = np.concatenate([np.arange(10) >= hits for hits in (6, 7, 9, 10)]).astype(int)
    assert expected_calibration_error(np.stack([sure, 1 - sure], axis=1), labels) == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 10_000), st.integers(2, 5), st.integers(1, 30))
@settings(max_examples=30)
def test_error_agrees_with_monai_and_brute_force(seed: int, classes: int, bins: int) -> None:
    logits, labels = calibrated(300, classes, seed)
    probabilities = softmax(logits * 1.7, axis=1)
    found = expected_calibration_error(probabilities, labels, bins=bins)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    brute = 0.0
    for lower in range(bins):
        inside = (confidence > lower / bins) & (confidence <= (lower + 1) / bins)
        brute += abs(confidence[inside].sum() - right[inside].sum()) / 300
    assert found == pytest.approx(brute)
    metric = CalibrationErrorMetric(num_bins=bins)
    metric(*(torch.from_numpy(np.asarray(each, dtype=np.float32))[None, None] for each in (confidence, right)))
    assert found == pytest.approx(metric.aggregate().item(), abs=1e-4)


def test_a_million_patches_are_summed_exactly() -> None:
    probabilities = np.tile([0.9001, 0.0999], (1_000_000, 1))
    error = expected_calibration_error(probabilities, np.zeros(1_000_000, dtype=int))
    assert error == pytest.approx(0.0999, abs=1e-9)


def test_probabilities_sum_to_1() -> None:
    labels = np.array([0, 1])
    for values, message in ((np.array([[2.0, -1.0], [0.5, 0.5]]), "minimum of -1"), (np.ones((2, 2)), "a sum of 2;")):
        with pytest.raises(InputError, match=f"^probabilities: .*{message}.*apply softmax"):
            expected_calibration_error(values, labels)
    with pytest.raises(InputError, match=r"^probabilities: have shape \(0, 2\)"):
        expected_calibration_error(np.empty((0, 2)), np.empty(0, dtype=int))
    with pytest.raises(ValueError, match="bins must be >= 1, got 0"):
        expected_calibration_error(np.full((2, 2), 0.5), labels, bins=0)


def test_table() -> None:
    logits, labels = calibrated(5000, 2, seed=8)
    predictions = table_of(logits * 4, labels)
    temperature = fit_temperature(logits * 4, labels)
    table = calibration_table(predictions, temperature)
    assert table.columns.tolist() == ["stage", "temperature", "ece", "nll", "patches", "patients"]
    assert table["stage"].tolist() == ["before", "after"]
    assert table["temperature"].tolist() == [1.0, temperature]
    assert table["patches"].tolist() == [5000, 5000]
    assert table["patients"].tolist() == [2, 2]
    for row, divisor in zip(table.to_dict("records"), (1.0, temperature), strict=True):
        probabilities = softmax(logits * 4 / divisor, axis=1)
        assert row["nll"] == pytest.approx(log_loss(labels, probabilities))
        assert row["ece"] == expected_calibration_error(probabilities, labels)
    assert table["nll"].is_monotonic_decreasing
    assert table["ece"][1] < 0.03 < 0.1 < table["ece"][0]


def test_accuracy_is_unchanged() -> None:
    logits, labels = calibrated(2000, 2, seed=9)
    temperature = fit_temperature(logits * 4, labels)
    before, after = (table_of(values, labels) for values in (logits * 4, logits * 4 / temperature))
    scores = [score_predictions(table, resamples=10).query("level == 'patch'") for table in (before, after)]
    pd.testing.assert_frame_equal(*scores)
    assert scores[0]["value"].iloc[0] == accuracy_score(labels, logits.argmax(axis=1))


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_is_above_0(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        calibration_table(table_of(*calibrated(20, 2, seed=0)), temperature)
