"""Learning rates as paper 3 lowers them: multipliers for ``torch.optim.lr_scheduler.LambdaLR``."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

from bonemonai.errors import InputError


def inverse_decay(gamma: float, power: float) -> Callable[[int], float]:
    """Make the multiplier ``(1 + gamma * N) ** -power``, Caffe's policy "inv".

    N is the number of steps of the scheduler, from 0. Caffe, in which the paper's networks were trained, counts
    iterations, the paper says "training rounds": whoever steps the scheduler chooses.

    Args:
        gamma: per step, >= 0; 0.006 in the paper.
        power: >= 0; 0.98 in the paper, which calls it alpha.

    Returns:
        A picklable function of N.

    Raises:
        InputError: if an argument is out of its range.

    Source:
        Tang et al., 3.2, eq. 1; Caffe's ``SGDSolver``, ``lr_policy: "inv"``.

    Example:
        >>> round(inverse_decay(0.006, 0.98)(1000), 6)
        0.148526
    """
    for name, value in (("gamma", gamma), ("power", power)):
        if not (math.isfinite(value) and value >= 0):
            raise InputError(name, f"must be finite and >= 0, got {value}.")
    return partial(_inverse, gamma=gamma, power=power)


def constant_then_linear(constant: int, decay: int) -> Callable[[int], float]:
    """Make the multiplier that is 1 for ``constant`` epochs and then falls linearly to 0 over ``decay`` epochs.

    Epochs count from 0. The rule is pix2pix's: the first ``constant`` epochs have 1, the ``decay`` epochs after them
    ``decay / (decay + 1)`` down to ``1 / (decay + 1)``, and the 0 is the one of the epoch that does not train any more;
    no epoch is trained with a learning rate of 0.

    Args:
        constant: epochs, >= 0; 100 in the paper.
        decay: epochs, >= 0; 50 in the paper.

    Returns:
        A picklable function of the epoch.

    Raises:
        InputError: if an argument is out of its range, or both are 0, which would train nothing.

    Source:
        Tang et al., 3.2; Isola et al., arXiv:1611.07004, whose code has ``lr_policy: linear``.

    Example:
        >>> [constant_then_linear(2, 3)(epoch) for epoch in range(7)]
        [1.0, 1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """
    for name, value in (("constant", constant), ("decay", decay)):
        if not isinstance(value, int) or value < 0:
            raise InputError(name, f"must be a whole number >= 0 (epochs), got {value}.")
    if constant + decay == 0:
        raise InputError("constant", "must be >= 1 (epochs) where decay is 0; no epoch would train.")
    return partial(_linear, constant=constant, decay=decay)


def _inverse(step: int, *, gamma: float, power: float) -> float:
    return float((1 + gamma * step) ** -power)


def _linear(epoch: int, *, constant: int, decay: int) -> float:
    return min(max(constant + decay - epoch, 0) / (decay + 1), 1.0)
