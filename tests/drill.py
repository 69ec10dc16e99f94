"""Streaming runs for fault drills: in this process, or in one that can be killed."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch
from torch import nn

from bonemonai.data import ScanDataset
from bonemonai.engines import StreamingEvaluator
from bonemonai.errors import find_bonemonai_error
from bonemonai.inferers import LabelOutput, ProbabilityOutput, ResultWriter, StreamingInferer, join_ranks
from bonemonai.inferers.block_store import BlockStore
from bonemonai.inferers.journal import Journal
from bonemonai.inferers.ranks import agree
from bonemonai.networks import LacunaUNet
from tests.conftest import ROOT

SHAPE = (80, 40, 44)  # five blocks of 16 planes
BLOCKS = 5
POINTS = ("before", "half chunk", "written", "half line", "done")


def write_scan(folder: Path) -> Path:
    path = folder / "scan.tif"
    values = np.random.default_rng(5).normal(size=SHAPE).astype(np.float32)
    tifffile.imwrite(path, values, resolution=(6250, 6250), resolutionunit=3)
    return path


class Slow(nn.Module):
    """A network that takes its time over the scan's planes, so that there is a time to be stopped in."""

    def __init__(self, inner: nn.Module, seconds: float) -> None:
        super().__init__()
        self.inner, self.seconds = inner, seconds

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if image.shape[-2:] == SHAPE[1:]:
            time.sleep(self.seconds)
        return self.inner(image)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return LacunaUNet(width=4).eval()


def infer(
    scan: Path, out: Path, *, seed: int = 0, slow: float = 0.0, net: nn.Module | None = None, **options: Any
) -> dict[str, Any]:
    """One streaming run, as a bundle's evaluator makes it."""
    writer_options = {name: options.pop(name) for name in ("overwrite", "attributes", "also") if name in options}
    outputs = [LabelOutput("label.ome.zarr"), ProbabilityOutput("probability.ome.zarr")]
    evaluator = StreamingEvaluator(
        torch.device("cpu"),
        ScanDataset(scan),
        Slow(net or network(seed), slow) if slow else (net or network(seed)),
        StreamingInferer(**{"spatial_dim": 0, "sw_batch_size": 4, **options}),
        ResultWriter(out, outputs, **writer_options),
    )
    evaluator.run()
    return dict(evaluator.state.output)


def content(out: Path) -> str:
    """Digest of all results."""
    digest = hashlib.sha256()
    for file in sorted(out.glob("*.ome.zarr/**/*")):
        if file.is_file():
            digest.update(f"{file.relative_to(out)}\n".encode() + file.read_bytes())
    return digest.hexdigest()


def kill_at(point: str, block: int) -> None:
    """Have this process die by SIGKILL at a point of the commit of its n-th block."""
    write, append = BlockStore.write, Journal.append
    written, recorded = iter(range(1000)), iter(range(1000))

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def dying_write(self: BlockStore, box: Any, values: Any) -> str:
        here = next(written) == block
        if here and point == "before":
            die()
        if here and point == "half chunk":
            (next(self.folder.glob("*.ome.zarr")) / "0" / "c.partial").write_bytes(b"half")
            die()
        digest = write(self, box, values)
        if here and point == "written":
            die()
        return digest

    def dying_append(self: Journal, key: Any, sha256: str) -> None:
        here = next(recorded) == block
        if here and point == "half line":
            self._stream.write(b'{"block": [0, 0], "sha')
            self._stream.flush()
            die()
        append(self, key, sha256)
        if here and point == "done":
            die()

    BlockStore.write, Journal.append = dying_write, dying_append


def agree_on_nothing() -> None:
    """A decision of the first process that ends in an error nobody expects."""
    agree(lambda: 1 // 0)


def start(target: Callable[..., Any], *arguments: Any, **options: Any) -> BaseProcess:
    """Run a function in a process of its own, forked from one that has imported everything."""
    os.environ["PYTHONPATH"] = str(ROOT)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.drill"])
    process = context.Process(target=_child, args=(target, arguments, options))
    process.start()
    return process


def _child(target: Callable[..., Any], arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    point, block = options.pop("kill", (None, 0))
    if point:
        kill_at(point, block)
    limit = options.pop("file_limit", None)
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    errors: Path | None = options.pop("errors", None)
    ranks = options.pop("ranks", None)
    if ranks:
        rank, world, port = ranks
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        join_ranks()
    try:
        target(*arguments, **options)
    except Exception as error:
        refusal = find_bonemonai_error(error)
        if refusal is None:
            raise
        if errors is not None:
            errors.write_text(str(refusal))
        os._exit(refusal.exit_code)


def finish(process: BaseProcess, seconds: float = 60) -> int:
    process.join(seconds)
    assert process.exitcode is not None, "the process hangs"
    return process.exitcode


def run(scan: Path, out: Path, **options: Any) -> int:
    """A run in a process of its own; its exit code."""
    return finish(start(infer, scan, out, **options))
