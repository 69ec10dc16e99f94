from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from bonemonai.data.seeded_dataset import SeededDataset, seed_generators


def seeded(seed: int = 0, cached: bool = False) -> SeededDataset:
    items = [{"image": torch.arange(16.0).reshape(1, 4, 4)} for _ in range(6)]
    transform = Compose([RandFlipd("image", prob=0.5), RandGaussianNoised("image", prob=0.9)])
    data = CacheDataset(items, transform, progress=False) if cached else Dataset(items, transform)
    return SeededDataset(data, seed)


def values(data: SeededDataset, numbers: list[int]) -> list[Any]:
    return [data[number]["image"].tolist() for number in numbers]


@pytest.mark.parametrize("cached", [False, True])
def test_a_sample_is_the_same_in_any_order(cached: bool) -> None:
    forwards = values(seeded(cached=cached), [0, 1, 2, 3, 4, 5])
    assert values(seeded(cached=cached), [5, 4, 3, 2, 1, 0])[::-1] == forwards
    assert values(seeded(cached=cached), [3, 3]) == [forwards[3]] * 2
    assert len({str(each) for each in forwards}) == 6


def test_seed_and_epoch_change_it() -> None:
    first, other, later = seeded(), seeded(seed=1), seeded()
    later.set_epoch(1)
    assert values(first, [2]) != values(other, [2])
    assert values(first, [2]) != values(later, [2])
    first.set_epoch(1)
    assert values(first, [2]) == values(later, [2])


def test_a_further_draw_is_the_same_sample_augmented_otherwise() -> None:
    data = SeededDataset([10, 11, 12], 0)
    assert [data[number] for number in (1, 4, 7)] == [11, 11, 11]
    assert values(seeded(), [1]) != values(seeded(), [7])


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(workers: int) -> None:
    alone = [batch["image"].tolist() for batch in DataLoader(seeded(), batch_size=2)]
    shared = [batch["image"].tolist() for batch in DataLoader(seeded(), batch_size=2, num_workers=workers)]
    assert shared == alone


def test_every_kind_of_generator_is_seeded_and_each_otherwise() -> None:
    held = [np.random.RandomState(7), np.random.default_rng(7), np.random.default_rng(8), torch.Generator()]

    def draws() -> list[float]:
        seed_generators([3, 4], held)
        drawn = [float(each.random()) for each in held[:3]]  # type: ignore[union-attr]
        return [*drawn, float(torch.rand(1, generator=held[3]))]  # type: ignore[call-overload]

    first = draws()
    assert draws() == first
    assert len(set(first)) == 4
