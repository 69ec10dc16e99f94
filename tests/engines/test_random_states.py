from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import torch

from bonemonai.engines.random_states import random_states, restore_random_states


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), float(np.random.randn()), float(torch.rand(1))]  # noqa: NPY002


def stored(states: dict[str, Any]) -> dict[str, Any]:
    stream = io.BytesIO()
    torch.save(states, stream)
    stream.seek(0)
    return dict(torch.load(stream, weights_only=True))


def test_all_go_on_where_they_stood() -> None:
    draws()
    states = stored(random_states())
    expected = draws()
    for _ in range(2):
        draws()
        restore_random_states(states)
        assert draws() == expected
    assert draws() != expected
