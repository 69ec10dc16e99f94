"""torchvision as the reference, also where its compiled operators do not load."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARIES: list[Any] = []  # an operator lives as long as the library that defined it


def torchvision_models() -> Any:
    """``torchvision.models``; beside another build of PyTorch it lacks operators, which models do not need."""
    try:
        import torchvision.models
    except ImportError:
        pytest.skip("torchvision is not installed: networks are not compared with it")
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}{_SIGNATURE}")
        _LIBRARIES.append(library)
        import torchvision.models
    return torchvision.models


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
