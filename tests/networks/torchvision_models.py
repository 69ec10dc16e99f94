"""torchvision as the reference, also where its compiled operators do not load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytest
import torch

from bonemonai.networks.torchvision_models import import_torchvision_models


def torchvision_models() -> Any:
    """``torchvision.models``; beside another build of PyTorch it lacks operators, which models do not need."""
    if find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed: networks are not compared with it")
    return import_torchvision_models()


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
