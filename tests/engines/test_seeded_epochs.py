from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from monai.data import DataLoader, Dataset, DistributedSampler
from monai.transforms import RandGaussianNoised

from bonemonai.data import SeededDataset
from bonemonai.engines import SeededEpochs


def run(seed: int, *, first_epoch: int = 0, drawn_before: int = 0) -> list[list[Any]]:
    """What each of three epochs draws, from all generators, and in which order its samples come."""
    items = [{"image": torch.zeros(1, 2, 2), "number": number} for number in range(6)]
    data = SeededDataset(Dataset(items, RandGaussianNoised("image", prob=1.0)), seed)
    order = DistributedSampler(data, num_replicas=1, rank=0, seed=seed)
    epochs: list[list[Any]] = []

    def step(engine: Engine, batch: dict[str, Any]) -> None:
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(1))]  # noqa: NPY002
        epochs[engine.state.epoch - first_epoch - 1] += [*drawn, batch["number"].tolist(), batch["image"].tolist()]

    trainer = Engine(step)
    trainer.state.max_epochs = first_epoch + 3
    trainer.state.epoch_length, trainer.state.epoch, trainer.state.iteration = 3, first_epoch, 3 * first_epoch
    SeededEpochs(seed).attach(trainer)
    epochs += [[], [], []]
    torch.rand(drawn_before)
    trainer.run(DataLoader(data, batch_size=2, sampler=order), max_epochs=first_epoch + 3)
    return epochs


def test_epochs_depend_on_seed_and_number_only() -> None:
    expected = run(0)
    assert run(0, drawn_before=5) == expected
    assert run(0, first_epoch=1)[:2] == expected[1:]
    assert len({str(epoch) for epoch in expected}) == 3
    assert run(1) != expected
