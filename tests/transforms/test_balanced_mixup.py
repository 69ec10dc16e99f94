from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.stats import beta, kstest
from torch.nn import functional as F
from torch.utils.data import DataLoader

from bonemonai.data import class_sampler
from bonemonai.transforms import BalancedMixUp, BalancedMixUpLoader, Mixed


def batch(value: float, label: int, size: int = 3) -> dict[str, object]:
    return {
        "l1": torch.full((size, 1, 4, 4), value),
        "l2": torch.full((size, 1, 4, 4), 10 * value),
        "mask": torch.full((size, 1, 4, 4), label),
        "label": torch.full((size,), label),
        "boxes": [torch.rand(label + 1, 4) for _ in range(size)],
        "subject": [f"p{label}"] * size,
    }


def test_lambda_is_of_beta_and_its_mean_one_eleventh() -> None:
    assert beta(0.1, 1).mean() == pytest.approx(1 / 11)
    mix = BalancedMixUp(["x"], seed=1)
    drawn = np.array([mix.draw() for _ in range(20_000)])
    error = beta(0.1, 1).std() / np.sqrt(len(drawn))
    assert abs(drawn.mean() - 1 / 11) < 4 * error
    assert kstest(drawn, beta(0.1, 1).cdf).pvalue > 1e-3
    printed = BalancedMixUp(["x"], lambda_on="instance", seed=1)
    np.testing.assert_allclose([printed.draw() for _ in range(100)], 1 - drawn[:100])


@pytest.mark.parametrize("lambda_on", ["class", "instance"])
def test_one_lambda_and_one_partner_for_every_image_and_target(lambda_on: str) -> None:
    mix = BalancedMixUp(["l1", "l2"], ["mask", "label", "boxes"], alpha=1.0, lambda_on=lambda_on, seed=4)  # type: ignore[arg-type]
    one, other = batch(1.0, 0), batch(2.0, 2)
    mixed = mix(one, other)
    drawn = np.random.default_rng(4).beta(1.0, 1.0)
    share = drawn if lambda_on == "class" else 1 - drawn
    assert torch.allclose(mixed["l1"], torch.tensor(1 + share, dtype=torch.float32))
    assert torch.allclose(mixed["l2"], 10 * mixed["l1"])
    assert {mixed[key].lam for key in ("mask", "label", "boxes")} == {share}
    for key in ("mask", "label", "boxes"):
        assert mixed[key].target_a is one[key]
        assert len(mixed[key].target_b) == 3
    assert mixed["label"].target_b.tolist() == [2, 2, 2]
    assert set(mixed) == {"l1", "l2", "mask", "label", "boxes"}  # whose subject would it be?


def test_losses_are_weighed() -> None:
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    mixed = Mixed(torch.tensor([0, 1, 2]), torch.tensor([2, 2, 2]), 0.3)
    found = mixed.weigh(F.cross_entropy, logits)
    soft = 0.7 * F.one_hot(mixed.target_a, 3) + 0.3 * F.one_hot(mixed.target_b, 3)
    assert torch.isclose(found, F.cross_entropy(logits, soft))  # linear in the target: the mixed label's own loss
    assert torch.isclose(Mixed(*mixed[:2], 0.0).weigh(F.cross_entropy, logits), F.cross_entropy(logits, mixed[0]))


def test_seeds() -> None:
    one, other, third = (BalancedMixUp(["x"], seed=seed) for seed in (7, 7, 8))
    first = [one.draw() for _ in range(5)]
    assert first == [other.draw() for _ in range(5)]
    assert first != [third.draw() for _ in range(5)]
    assert len(set(first)) == 5


def test_smaller_last_batches_and_meta_tensors() -> None:
    mix = BalancedMixUp(["l1"], ["label"])
    mixed = mix(batch(0.0, 0, size=2), batch(1.0, 1, size=3))
    assert mixed["l1"].shape[0] == len(mixed["label"].target_b) == 2
    tracked = {"l1": MetaTensor(torch.zeros(2, 1)), "label": [0, 0]}
    assert type(mix(tracked, tracked)["l1"]) is torch.Tensor
    with pytest.raises(ValueError, match="class_batch must have 3 subjects or more, got 2 of 'l1'"):
        mix(batch(0.0, 0, size=3), batch(1.0, 1, size=2))


def test_two_loaders() -> None:
    labels = [0] * 9 + [1]
    data = [{"image": torch.tensor([float(label)]), "label": label} for label in labels]
    loader = BalancedMixUpLoader(
        DataLoader(data, 4),  # type: ignore[arg-type]
        DataLoader(data, 4, sampler=class_sampler(labels, 0, seed=0, number=400), drop_last=True),  # type: ignore[arg-type]
        BalancedMixUp(["image"], ["label"], seed=2),
    )
    assert len(loader) == 3
    epochs = [list(loader) for _ in range(40)]
    assert [len(each["image"]) for each in epochs[0]] == [4, 4, 2]
    for each in epochs[0]:
        pair = each["label"]
        wanted = (1 - pair.lam) * pair.target_a + pair.lam * pair.target_b
        assert torch.allclose(each["image"][:, 0], wanted.float())
    partners = torch.cat([each["label"].target_b for epoch in epochs for each in epoch]).float()
    assert 0.4 < partners.mean() < 0.6  # balanced, though one in ten is of class 1
    few = BalancedMixUpLoader(loader.instance_loader, list(loader.class_loader)[:1], loader.mix)
    assert len(list(few)) == 3  # begins anew
    with pytest.raises(ValueError, match="class_loader must give a batch"):
        list(BalancedMixUpLoader(loader.instance_loader, [], loader.mix))


def test_refusals() -> None:
    with pytest.raises(ValueError, match="alpha must be > 0, got 0"):
        BalancedMixUp(["x"], alpha=0)
    with pytest.raises(ValueError, match="lambda_on must be class or instance"):
        BalancedMixUp(["x"], lambda_on="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="images must have one shape"):
        BalancedMixUp(["x"])({"x": torch.zeros(1, 2)}, {"x": torch.zeros(1, 3)})
