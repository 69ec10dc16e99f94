"""One training by several processes, on as many GPUs, or on CPUs."""

from __future__ import annotations

import os

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bonemonai.inferers.ranks import world_size


def join_training(wanted: bool = True) -> None:
    """Join the other processes that torchrun started with this one to one training; alone, do nothing.

    Args:
        wanted: False leaves the process alone, such as one of several that share the folds of a cross-validation.
    """
    if not wanted or int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        return
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")


def in_parallel(module: nn.Module, *, unused: bool = False) -> nn.Module:
    """Have the processes average a module's gradients; alone, give it back as it is.

    A batch is that of one process. Where the loss is a mean over samples, and all processes have as many, the gradient
    is that of one process with a batch as large as all of theirs. Batch normalisation takes its statistics over all
    processes on GPUs, and over each process's own batch on CPUs, where PyTorch has no other way.

    Args:
        module: network, or loss that learns, on the device of this process.
        unused: whether an epoch may leave parameters without a gradient.
    """
    if world_size() == 1 or not any(parameter.requires_grad for parameter in module.parameters()):
        return module
    on_gpu = next(module.parameters()).is_cuda
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(module) if on_gpu else module
    return DistributedDataParallel(synchronised, find_unused_parameters=unused)


def share_buffers(module: nn.Module) -> None:
    """Give the first process's buffers to all: on CPUs each has its own statistics of batch normalisation.

    What is validated is then one network, and the one that is saved.

    Args:
        module: the same in every process.
    """
    for buffer in module.buffers():
        distributed.broadcast(buffer, src=0)
