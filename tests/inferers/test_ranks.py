from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bonemonai.errors import InputError
from bonemonai.inferers.ranks import agree, join_ranks, local_device, meet, rank, share, world_size


@given(blocks=st.integers(0, 50), of=st.integers(1, 9))
def test_shares_hold_every_block_once_and_differ_by_one_at_most(blocks: int, of: int) -> None:
    shares = [list(share(range(blocks), number, of)) for number in range(of)]
    assert [block for part in shares for block in part] == list(range(blocks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_alone_nothing_is_joined_or_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    # a batch script's own shell is a task of several, but no step
    monkeypatch.setenv("SLURM_NTASKS", "4")
    join_ranks()
    assert not torch.distributed.is_initialized()
    assert (rank(), world_size()) == (0, 1)
    assert agree(lambda: 42) == 42
    meet(None)
    with pytest.raises(InputError, match="scan: bad"):
        meet(InputError("scan", "bad"))


def test_device_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert local_device() == torch.device("cpu")
