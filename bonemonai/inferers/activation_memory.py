"""How much memory a forward pass takes, counted on a small input instead of guessed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class ActivationMemory(NamedTuple):
    """Bytes a voxel of the input that a forward pass holds.

    Attributes:
        peak: of everything the pass makes, at the moment when most of it is alive.
        largest: of the largest single tensor.
        channels: of the output.
    """

    peak: float
    largest: float
    channels: int


def measure_activations(network: Callable[[torch.Tensor], Any], image: torch.Tensor) -> ActivationMemory:
    """Run a network once and count what is alive at each operation; weights and the input are left out.

    Scratch memory inside an operation (a convolution that reorders its input) is not seen.

    Args:
        network: to run.
        image: (B, C, spatial...); as small as the network takes without its borders dominating.
    """
    voxels = image.numel() / image.shape[1]
    with torch.no_grad(), _LiveBytes() as count:
        output = network(image)
    channels = output.shape[1] if isinstance(output, torch.Tensor) else 1
    return ActivationMemory(count.peak / voxels, count.largest / voxels, channels)


class _LiveBytes(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self.largest = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, func: Any, types: Sequence[type], args: Any = (), kwargs: Any = None) -> Any:
        before = {_key(leaf) for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        output = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(output):
            # a view, or an input changed in place, is no new memory
            if isinstance(leaf, torch.Tensor) and _key(leaf) not in before:
                storage = leaf.untyped_storage()
                self._alive[_key(leaf)] = StorageWeakRef(storage), storage.nbytes()
                self.largest = max(self.largest, storage.nbytes())
        self._alive = {key: entry for key, entry in self._alive.items() if not entry[0].expired()}
        self.peak = max(self.peak, sum(nbytes for _, nbytes in self._alive.values()))
        return output


def _key(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
