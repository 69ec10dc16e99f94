from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch.utils.data import DataLoader, TensorDataset

from bonemonai.data import class_probabilities, class_sampler, sample_weights
from bonemonai.errors import InputError

COUNTS = (60, 29, 11)
LABELS = np.repeat([0, 1, 2], COUNTS)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8), st.floats(-4, 4))
def test_the_formula_for_any_power(counts: list[int], power: float) -> None:
    wanted = [m**power / sum(k**power for k in counts) for m in counts]
    found = class_probabilities(counts, power)
    np.testing.assert_allclose(found, wanted, rtol=1e-10)
    labels = np.random.default_rng(0).permutation(np.repeat(range(len(counts)), counts))
    weights = sample_weights(labels.tolist(), power)
    assert weights.sum() == pytest.approx(1)
    for label, (probability, count) in enumerate(zip(wanted, counts, strict=True)):
        np.testing.assert_allclose(weights[labels == label], probability / count, rtol=1e-9)


def test_ends() -> None:
    assert class_probabilities(COUNTS, 0).tolist() == [1 / 3] * 3
    np.testing.assert_allclose(class_probabilities(COUNTS, 1), np.array(COUNTS) / 100)
    np.testing.assert_allclose(sample_weights(LABELS.tolist(), 1), 1 / 100)
    np.testing.assert_allclose(class_probabilities([10**6, 1], 100), [1, 0], atol=1e-300)  # no overflow


@pytest.mark.parametrize("power", [1.0, 0.5, 0.0])
def test_draws_are_as_frequent_as_said(power: float) -> None:
    drawn = LABELS[list(class_sampler(LABELS.tolist(), power, seed=3, number=20_000))]
    expected = 20_000 * class_probabilities(COUNTS, power)
    assert chisquare(np.bincount(drawn), expected).pvalue > 1e-3
    within = np.bincount(list(class_sampler(LABELS.tolist(), power, seed=4, number=20_000)), minlength=100)
    assert chisquare(within, 20_000 * sample_weights(LABELS.tolist(), power)).pvalue > 1e-3


def test_one_seed_one_order_and_epochs_differ() -> None:
    one, other = (class_sampler(LABELS.tolist(), 0, seed=5) for _ in range(2))
    first = list(one)
    assert len(first) == len(one) == len(LABELS)
    torch.rand(3)  # the global generator takes no part
    assert first == list(other)
    second = list(one)
    assert second != first
    assert second == list(other)
    assert first != list(class_sampler(LABELS.tolist(), 0, seed=6))


def test_in_a_loader() -> None:
    data = TensorDataset(torch.from_numpy(LABELS))
    loader = DataLoader(data, 16, sampler=class_sampler(LABELS.tolist(), 0, seed=0, number=64))
    assert [len(labels) for (labels,) in loader] == [16] * 4


def test_refusals() -> None:
    with pytest.raises(InputError, match="class 1: has 0 samples"):
        class_probabilities([3, 0, 2], 1)
    with pytest.raises(InputError, match="class 1: has 0 samples"):
        sample_weights([0, 2], 1)
    with pytest.raises(InputError, match="labels: must be whole numbers"):
        sample_weights([0.0, 1.0], 1)  # type: ignore[list-item]
    with pytest.raises(InputError, match="labels: must be whole numbers"):
        sample_weights([], 1)
    with pytest.raises(InputError, match="labels: must be whole numbers"):
        sample_weights([-1, 0], 1)
    with pytest.raises(ValueError, match="power be finite"):
        class_probabilities([1], float("nan"))
    with pytest.raises(ValueError, match="counts must name a class"):
        class_probabilities([], 1)
    with pytest.raises(ValueError, match="number must be >= 1"):
        class_sampler([0], 1, seed=0, number=0)
