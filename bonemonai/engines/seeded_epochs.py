"""Every epoch of a training begins with random numbers of its own, whatever came before."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from bonemonai.data.held_objects import held_objects
from bonemonai.data.seeded_dataset import seed_generators
from bonemonai.inferers.ranks import rank


class SeededEpochs:
    """Handler: seed all random numbers of an epoch by the run's seed, the epoch's number and the process's.

    Python's, NumPy's and PyTorch's generators are seeded, with them dropout, and those that the data loader holds. What
    wants to know the epoch (``set_epoch``) is told: samplers such as ``DistributedSampler``, whose order is then of
    seed and epoch, and :class:`bonemonai.data.SeededDataset`, whose augmentation is of seed, epoch and sample.

    Args:
        seed: of the run, 0 or more.

    Attach to the trainer.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def attach(self, engine: Engine) -> None:
        """Register with MONAI's trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Any) -> None:
        """Seed, and say which epoch it is."""
        words = np.random.SeedSequence([self.seed, engine.state.epoch, rank()]).generate_state(4).tolist()
        random.seed(words[0])
        np.random.seed(words[1])  # noqa: NPY002  # what it seeds is what older code draws from
        torch.manual_seed(words[2])
        loader = engine.state.dataloader
        seed_generators([words[3]], loader)
        for each in held_objects(loader):
            if hasattr(each, "set_epoch"):
                each.set_epoch(engine.state.epoch)
