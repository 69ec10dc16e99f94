"""Random augmentation that depends on seed, epoch and sample only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from bonemonai.data.held_objects import held_generators


class SeededDataset(Dataset[Any]):
    """Seed the random transforms of a data set for each sample, by the sample's number and the epoch.

    MONAI seeds transforms once a worker process, and they go on from there: with another ``num_workers``, or with the
    samples dealt to several processes, a sample is augmented otherwise. Here it is not. What a transform draws from
    Python's, NumPy's or PyTorch's global generators is not covered; MONAI's draw from their own.

    A number beyond the last sample is a further draw of one: ``number % len(data)``, augmented otherwise, see
    :class:`bonemonai.data.NumberedDraws`.

    Args:
        data: whose items are augmented when they are asked for.
        seed: of the run.

    Attributes:
        epoch: of the training; :class:`bonemonai.engines.SeededEpochs` sets it.
    """

    def __init__(self, data: Sequence[Any] | Dataset[Any], seed: int) -> None:
        self.data, self.seed, self.epoch = data, seed, 0

    def __len__(self) -> int:
        return len(self.data)  # type: ignore[arg-type]  # torch's Dataset has no __len__, its map-style children do

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins; before the data loader makes its workers."""
        self.epoch = epoch

    def __getitem__(self, number: int) -> Any:
        seed_generators([self.seed, self.epoch, number], self.data)
        return self.data[number % len(self)]


def seed_generators(seed: Sequence[int], *roots: Any) -> None:
    """Seed each generator that objects hold, each otherwise.

    Args:
        seed: numbers of 0 or more.
        roots: see :func:`bonemonai.data.held_objects.held_generators`.
    """
    generators = held_generators(*roots)
    words = np.random.SeedSequence(list(seed)).generate_state(2 * len(generators))
    for generator, (first, second) in zip(generators, words.reshape(-1, 2).tolist(), strict=True):
        if isinstance(generator, np.random.RandomState):
            generator.seed([first, second])
        elif isinstance(generator, torch.Generator):
            generator.manual_seed(first)
        else:
            kind = type(generator.bit_generator)
            generator.bit_generator.state = kind([first, second]).state
