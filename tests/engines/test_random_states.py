from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from bonemonai.engines.random_states import random_states, restore_random_states
from bonemonai.errors import ResumeError


class Mixer:
    """An object of ours that holds generators of every kind, one of them twice."""

    def __init__(self, seed: int) -> None:
        self.torch, self.numpy = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        self.again = {"the same": self.numpy}

    def draw(self) -> list[float]:
        return [float(torch.rand(1, generator=self.torch)), float(self.numpy.random())]


def loader(seed: int) -> tuple[DataLoader, Mixer]:
    transform = Compose([RandFlipd("x", prob=0.5), RandGaussianNoised("x", prob=0.5)]).set_random_state(seed)
    data = Dataset([{"x": torch.zeros(1, 4, 4)} for _ in range(100)], transform)
    return DataLoader(data, batch_size=2, shuffle=True), Mixer(seed)


def draws(data: DataLoader, mixer: Mixer) -> list[Any]:
    values: list[Any] = [batch["x"].sum().item() for batch in data]
    return [*values, random.random(), float(np.random.rand()), float(torch.rand(1)), *mixer.draw()]  # noqa: NPY002


def stored(states: dict[str, Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    torch.save(states, stream)
    stream.seek(0)
    return dict(torch.load(stream, weights_only=True))


def test_all_go_on_where_they_stood() -> None:
    first, mixer = loader(1)
    draws(first, mixer)
    states = stored(random_states(first, mixer))
    expected = draws(first, mixer)
    again, other = loader(2)
    for _ in range(2):
        restore_random_states(states, again, other)
        assert draws(again, other) == expected
    assert draws(again, other) != expected


def test_other_transforms_are_refused() -> None:
    data, mixer = loader(1)
    states = random_states(data, mixer)
    with pytest.raises(ResumeError, match="other random transforms"):
        restore_random_states(states, data)


def test_data_is_not_searched() -> None:
    held = [np.random.RandomState(0)] * 65
    assert random_states(held)["held"] == []
    assert len(random_states(held[:1])["held"]) == 1
