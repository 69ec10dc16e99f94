from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from bonemonai.engines import in_parallel, join_training
from bonemonai.engines.parallel_training import share_buffers
from tests import drill
from tests.bundle_runs import BundleRuns

RUNS = BundleRuns("bone_srmct_damage_classification")


def test_one_process_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Linear(1, 1)
    join_training()
    assert in_parallel(network) is network
    monkeypatch.setenv("WORLD_SIZE", "2")
    join_training(False)
    assert not torch.distributed.is_initialized()


def share(rank: int, folder: Path) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    network = torch.nn.BatchNorm1d(2)
    network(torch.full((4, 2), float(rank + 1)))
    share_buffers(network)
    torch.save(network.state_dict(), folder / f"{rank}.pt")
    torch.distributed.destroy_process_group()


def test_buffers_are_the_first_processs(tmp_path: Path) -> None:
    processes = [drill.start(share, rank, tmp_path) for rank in range(2)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first["running_mean"].tolist() == second["running_mean"].tolist() == pytest.approx([0.1, 0.1])


def test_two_processes_are_one_with_a_batch_as_large_as_both(loaded_bone: Path, tmp_path: Path) -> None:
    """torchrun and gloo on CPUs, with random augmentation, against one process: weights, losses and scores."""
    manifest = str(loaded_bone / "slices.csv")
    options = {"width": 2, "image_size": 24, "layers": 2, "max_epochs": 3, "learning_rate": 0.01}
    alone, both = tmp_path / "alone.pt", tmp_path / "both.pt"
    RUNS.workflow("train", manifest_path=manifest, checkpoint=str(alone), batch_size=6, **options).run()
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "monai.bundle",
        "run", "--config_file", *RUNS.files("train"), "--manifest_path", manifest, "--checkpoint", str(both),
        "--batch_size", "3",
    ]  # fmt: skip
    command += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
    assert run.returncode == 0, run.stderr[-3000:]
    first, second = (torch.load(path, weights_only=True) for path in (alone, both))
    assert list(second) == list(first)
    untrained = RUNS.workflow("train", manifest_path=manifest, checkpoint=str(tmp_path / "new.pt"), **options)
    untrained.initialize()
    fresh = untrained.parser.get_parsed_content("network_def").state_dict()
    assert max(float((first[name] - fresh[name]).abs().max()) for name in first) > 0.01
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=1e-5)
    curves = [pd.read_csv(path.with_suffix(".curve.csv")) for path in (alone, both)]
    assert curves[1]["accuracy"].tolist() == curves[0]["accuracy"].tolist()
    assert curves[1]["loss"].tolist() == pytest.approx(curves[0]["loss"].tolist(), abs=1e-5)
