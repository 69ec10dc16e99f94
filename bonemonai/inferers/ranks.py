"""Several processes at one run: who they are, how they share the blocks, when they wait for each other."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import ignite.distributed as idist
import torch
from torch import distributed

from bonemonai.errors import BonemonaiError, find_bonemonai_error

_T = TypeVar("_T")
_POLL = 0.02  # seconds
_DIED = "another process of this run ended early; start it again to resume."


def join_ranks() -> None:
    """Join the other processes that torchrun or srun started with this one; alone, do nothing.

    Ignite reads both launchers' variables. A batch script's own shell is a Slurm task as well, but no step of several.
    """
    launched = int(os.environ.get("WORLD_SIZE", "1")) > 1 or int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    if launched and distributed.is_available() and not distributed.is_initialized():
        # blocks are shared by number: nothing but waiting for each other goes through the group
        # a process that dies is noticed at once; waiting for one that counts, or writes smaller levels, may take hours
        idist.initialize("gloo", timeout=timedelta(days=7))


def rank() -> int:
    """Number of this process, from 0."""
    return int(idist.get_rank())


def world_size() -> int:
    """How many processes share the run."""
    return int(idist.get_world_size())


def local_device() -> torch.device:
    """This process's own GPU where there are some, else the CPU.

    Processes that were started by torchrun but have not joined, such as those that share out the folds of a
    cross-validation, are told apart by its environment variable.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local_rank = int(os.environ.get("LOCAL_RANK", idist.get_local_rank()))
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def _wait() -> None:
    """Wait for all processes, in Python, where signals are heard: a wait within gloo would keep SIGTERM waiting."""
    work = distributed.barrier(async_op=True)
    while not work.is_completed():
        time.sleep(_POLL)
    work.wait()


def meet(failure: BonemonaiError | None) -> None:
    """Wait for all processes, and have a failure of one stop all.

    Args:
        failure: of this process.

    Raises:
        BonemonaiError: this process's failure, or else the first of another.
    """
    if world_size() > 1:
        failures: list[BonemonaiError | None] = [None] * world_size()
        try:
            _wait()
            distributed.all_gather_object(failures, failure)
        except RuntimeError as error:
            raise failure or BonemonaiError("run", _DIED) from error
        failure = failure or next((other for other in failures if other is not None), None)
    if failure is not None:
        raise failure


def agree(decide: Callable[[], _T]) -> _T:
    """Have the first process decide, and give its answer, or its refusal, to all.

    Args:
        decide: called in the first process only; what it returns must pickle.
    """
    if world_size() == 1:
        return decide()
    answer: list[Any] = [None, None]
    if rank() == 0:
        try:
            answer[0] = decide()
        except Exception as error:
            # whatever it is, the others must not be left waiting
            failed = BonemonaiError("run", f"the first process failed: {type(error).__name__}: {error}")
            answer[1] = find_bonemonai_error(error) or failed
    try:
        _wait()
        distributed.broadcast_object_list(answer, src=0)
    except RuntimeError as error:
        raise BonemonaiError("run", _DIED) from error
    if answer[1] is not None:
        raise answer[1]
    decided: _T = answer[0]
    return decided


def share(blocks: Sequence[_T], number: int, of: int) -> Sequence[_T]:
    """The blocks of one process: consecutive ones, so that halos are read twice only where shares meet.

    Args:
        blocks: to be shared, the same list in every process.
        number: of the process.
        of: how many processes there are.

    Example:
        >>> [share("abcde", number, 2) for number in (0, 1)]
        ['ab', 'cde']
    """
    return blocks[len(blocks) * number // of : len(blocks) * (number + 1) // of]
