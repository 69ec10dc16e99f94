"""One forward pass: on the network's device, in smaller batches where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from bonemonai.errors import InputError
from bonemonai.inferers.slice_wise import SliceWise

logger = logging.getLogger(__name__)


class Forward:
    """Call a network on batches of tiles or windows.

    Where a batch does not fit into memory it is halved, as often as needed, and stays halved.

    Args:
        network: takes (B, C, spatial...) and returns one tensor of the same size.
        args: passed on to the network.
        kwargs: passed on to the network.
        channels_last: lay batches out channels last, which convolutions on GPUs prefer.
        compile_backend: compile the network by ``torch.compile`` with this backend, for instance "inductor".

    Attributes:
        device: of the network's weights.
        passes: batches run.
        halved: how often a batch was halved for want of memory.
    """

    def __init__(
        self,
        network: Callable[..., Any],
        *args: Any,
        channels_last: bool = False,
        compile_backend: str | None = None,
        **kwargs: Any,
    ) -> None:
        # slices are a batch, which can be halved
        self._slices = network if isinstance(network, SliceWise) else None
        self._network, self._args, self._kwargs = getattr(self._slices, "network", network), args, kwargs
        self._channels_last = channels_last
        if compile_backend is not None:
            self._network = torch.compile(self._network, backend=compile_backend)
        self.device = network_device(network)
        self.passes = self.halved = 0
        self._most: int | None = None

    def __call__(self, batch: torch.Tensor, where: str = "the input") -> torch.Tensor:
        """Return the network's output, on the network's device.

        Args:
            batch: (B, C, spatial...), on any device.
            where: what the batch is, for messages.

        Raises:
            InputError: if one element alone does not fit into memory, or the output is no tensor of the input's size.
        """
        if self.device.type == "cuda" and batch.device.type == "cpu":
            # from pinned memory the copy runs while the device still works on the batch before
            batch = batch.pin_memory()
        batch = batch.to(self.device, non_blocking=True)
        flat = self._slices.fold(batch) if self._slices is not None else batch
        if self._channels_last:
            layout = torch.channels_last if flat.ndim == 4 else torch.channels_last_3d
            flat = flat.contiguous(memory_format=layout)
        outputs: list[torch.Tensor] = []
        done = 0
        while done < len(flat):
            part = flat[done : done + (self._most or len(flat))]
            result = self._run(part, where)
            if result is not None:
                outputs.append(result)
                done += len(part)
        output = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
        if output.shape[2:] != flat.shape[2:]:
            raise InputError(
                type(self._network).__name__,
                f"returns size {tuple(output.shape[2:])} for {tuple(flat.shape[2:])}; both must be the same.",
            )
        return self._slices.unfold(output, batch) if self._slices is not None else output

    def _run(self, batch: torch.Tensor, where: str) -> torch.Tensor | None:
        """Return the output; None if memory ran out, and smaller batches are to be tried."""
        self.passes += 1
        try:
            output = self._network(batch, *self._args, **self._kwargs)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            if len(batch) == 1:
                raise InputError(
                    where, f"a tile of {tuple(batch.shape)} does not fit into memory; lower memory_budget or roi_size."
                ) from error
            self._most = len(batch) // 2
            self.halved += 1
            logger.warning("out of memory: batches of %d are halved.", len(batch))
        else:
            if not isinstance(output, torch.Tensor) or len(output) != len(batch):
                name = type(self._network).__name__
                raise InputError(name, "must return one tensor with as many elements as the batch has.")
            return output
        if batch.device.type == "cuda":
            torch.cuda.empty_cache()
        return None


def network_device(network: object) -> torch.device:
    """Where a network's weights are; the CPU for what has none."""
    network = network.network if isinstance(network, SliceWise) else network
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            return parameter.device
    return torch.device("cpu")


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
