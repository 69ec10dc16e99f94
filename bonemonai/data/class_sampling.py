"""How often a class is drawn: as often as it occurs, equally often, or between (paper 4, 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Sampler, WeightedRandomSampler

from bonemonai.errors import InputError


def class_probabilities(counts: Sequence[int], power: float) -> NDArray[np.float64]:
    """p_j = M_j^n / sum_k M_k^n, the probability that a draw is of class j.

    Args:
        counts: M, samples of each class, 1 or more.
        power: n; 1 draws samples equally often (instance-based), 0 classes (class-based). Any finite number is allowed;
            below 0 rare classes are drawn more often than frequent ones.

    Returns:
        (K,), summing to 1.

    Raises:
        InputError: if a class has no sample.
        ValueError: if there is no class, or n is not finite.

    Source:
        Zhang et al., eq. (1).

    Example:
        >>> class_probabilities([60, 30, 10], 1).round(3).tolist(), class_probabilities([60, 40], 0).tolist()
        ([0.6, 0.3, 0.1], [0.5, 0.5])
    """
    if not len(counts) or not np.isfinite(power):
        raise ValueError(f"counts must name a class or more and power be finite, got {list(counts)} and {power}.")
    numbers = np.asarray(counts, dtype=np.float64)
    if not (numbers >= 1).all():
        cause = f"has {int(numbers.min())} samples; leave it out, or give it one: what is not there cannot be drawn."
        raise InputError(f"class {int(numbers.argmin())}", cause)
    # by logarithms, the largest first: powers of large counts overflow
    exponents = power * np.log(numbers)
    weights = np.exp(exponents - exponents.max())
    return np.asarray(weights / weights.sum())


def sample_weights(labels: Sequence[int], power: float) -> NDArray[np.float64]:
    """Probability of each sample to be drawn, p_j / M_j for one of class j.

    Args:
        labels: class of each sample, 0, 1, ...; every class up to the highest must occur.
        power: n, see :func:`class_probabilities`.

    Returns:
        (N,), summing to 1.

    Raises:
        InputError: if there is no sample, a label is no whole number from 0, or a class has no sample.
        ValueError: if n is not finite.

    Source:
        Zhang et al., eq. (1).

    Example:
        >>> sample_weights([0, 0, 0, 1], 0).round(3).tolist()
        [0.167, 0.167, 0.167, 0.5]
    """
    classes = np.asarray(labels)
    if classes.ndim != 1 or not classes.size or classes.dtype.kind not in "iu" or classes.min() < 0:
        raise InputError("labels", "must be whole numbers from 0, one a sample, and one sample or more.")
    counts = np.bincount(classes)
    return np.asarray((class_probabilities(counts.tolist(), power) / counts)[classes])


def class_sampler(
    labels: Sequence[int], power: float, *, seed: int, number: int | None = None
) -> WeightedRandomSampler:
    """Sampler that draws with replacement, seeded, for a ``DataLoader``.

    The generator goes on from epoch to epoch, where :class:`bonemonai.engines.SeededEpochs` does not seed it anew: two
    samplers of one seed give the same epochs in the same order.

    Args:
        labels: class of each sample of the data set, see :func:`sample_weights`.
        power: n, see :func:`class_probabilities`.
        seed: of the draws.
        number: of draws an epoch; None takes as many as there are samples.

    Raises:
        InputError: see :func:`sample_weights`.
        ValueError: if n is not finite, or ``number`` is below 1.

    Example:
        >>> sampler = class_sampler([0, 0, 0, 1], 0, seed=1, number=6)
        >>> len(list(sampler)), len(sampler)
        (6, 6)
    """
    if number is not None and number < 1:
        raise ValueError(f"number must be >= 1 (draws an epoch), got {number}.")
    weights = sample_weights(labels, power)
    generator = torch.Generator().manual_seed(seed)
    return WeightedRandomSampler(weights.tolist(), number or len(weights), replacement=True, generator=generator)


class NumberedDraws(Sampler[int]):
    """Number the draws of a sampler that draws with replacement, so that each can be augmented otherwise.

    The k-th further draw of sample i is i + k times the number of samples, which
    :class:`bonemonai.data.SeededDataset` understands.

    Args:
        sampler: gives samples' numbers.
        samples: how many there are.

    Example:
        >>> list(NumberedDraws([0, 2, 2, 0, 2], samples=10))
        [0, 2, 12, 10, 22]
    """

    def __init__(self, sampler: Sampler[int] | Sequence[int], samples: int) -> None:
        self.sampler, self.samples = sampler, samples

    def __len__(self) -> int:
        return len(self.sampler)  # type: ignore[arg-type]  # torch's Sampler has no __len__, its children do

    def __iter__(self) -> Iterator[int]:
        drawn: Counter[int] = Counter()
        for number in self.sampler:
            yield number + self.samples * drawn[number]
            drawn[number] += 1
