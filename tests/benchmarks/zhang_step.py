"""Memory and time of one training step of paper 4's network at the paper's scale, each setting a process of its own.

``python -m tests.benchmarks.zhang_step`` prints what bundles/lumbar_ct_osteoporosis_multitask/docs/README.md quotes:
peak resident memory (VmHWM) less that before the step, and seconds a step (median of ``--repeats``), with and without
gradient checkpointing and bfloat16. Memory holds the network's weights, gradients and momenta as well as its maps.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import click

SETTINGS = {
    "float32": {}, "float32, checkpointing": {"checkpointing": True}, "bfloat16": {"amp": True},
    "bfloat16, checkpointing": {"checkpointing": True, "amp": True},
}  # fmt: skip


def resident_gb(field: str) -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(field)).split()[1]) / 1024**2


def measure(batch: int, repeats: int, checkpointing: bool, amp: bool) -> dict[str, float]:
    """One setting, in this process."""
    import torch

    from bonemonai.engines import MultitaskCriterion
    from bonemonai.losses import MultitaskLoss
    from bonemonai.networks import BoneClassifier, BoundaryUNet, MultitaskNetwork, VertebraFusion, YOLOv3

    torch.manual_seed(0)
    before = resident_gb("VmRSS")
    anchors = [(40 + 4 * n, 30 + 3 * n) for n in range(9)]
    segmenter = BoundaryUNet()
    network = MultitaskNetwork(
        YOLOv3(2, anchors), segmenter, BoneClassifier(segmenter.feature_channels), VertebraFusion(),
        checkpointing=checkpointing,
    ).train()  # fmt: skip
    criterion = MultitaskCriterion(MultitaskLoss(anchors))
    optimizer = torch.optim.SGD([*network.parameters(), *criterion.parameters()], lr=1e-3, momentum=0.9)
    images = torch.rand(batch, 2, 1, 512, 512)
    boxes = torch.tensor([230.0, 230.0, 285.0, 270.0]).expand(batch, 2, 4)
    mask = torch.zeros(batch, 2, 512, 512)
    mask[:, :, 230:270, 230:285] = 1
    targets = {
        "boxes": boxes, "present": torch.ones(batch, 2, dtype=torch.bool), "mask": mask, "boundary": mask / 2,
        "class": torch.zeros(batch, dtype=torch.int64),
    }  # fmt: skip
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=amp):
            loss = criterion(network(images, torch.full((batch, 2, 2), 250.0)), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - start)
    parameters = sum(value.numel() for value in network.parameters())
    return {"gb": resident_gb("VmHWM") - before, "seconds": statistics.median(seconds), "parameters": parameters}


@click.command()
@click.option("--batch", default=1, show_default=True, help="Subjects; two slices each.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--one", default=None, hidden=True)
def main(batch: int, repeats: int, one: str | None) -> None:
    """Run it."""
    warnings.simplefilter("ignore")
    if one is not None:
        options = {"checkpointing": False, "amp": False, **json.loads(one)}
        click.echo(json.dumps(measure(batch, repeats, **options)))
        return
    for name, options in SETTINGS.items():
        command = [sys.executable, "-m", "tests.benchmarks.zhang_step", "--batch", str(batch)]
        command += ["--repeats", str(repeats), "--one", json.dumps(options)]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(run.stdout.splitlines()[-1])
        click.echo(f"{name}, {batch} subjects: {found['gb']:.1f} GB, {found['seconds']:.1f} s a step "
                   f"({found['parameters']:,.0f} parameters)")  # fmt: skip


if __name__ == "__main__":
    main()
