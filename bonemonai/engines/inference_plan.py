"""What an inference would take, said before anything starts."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle.scripts import create_workflow

from bonemonai.data.scan_dataset import ScanDataset
from bonemonai.engines.run_check import check_overrides
from bonemonai.errors import InputError, find_bonemonai_error
from bonemonai.inferers.allocator import allocator_is_tuned, tune_allocator
from bonemonai.inferers.plan import StreamPlan
from bonemonai.inferers.streaming_inferer import StreamingInferer


def plan_inference(
    path: Path, configs: Sequence[Path], options: Mapping[str, Any], *, windows: int = 3
) -> dict[str, str]:
    """Describe the streaming inference of a scan, or of a manifest's first scan.

    Args:
        path: scan or manifest; the config's ``dataset_dir``.
        configs: of a bundle's inference, with overlays.
        options: of the config.
        windows: forward passes to time; 0 times none and gives no estimate.

    Returns:
        Label to text, one line each.

    Raises:
        InputError: if the config does not stream, or its own checks refuse.
    """
    for config in configs:
        if not config.is_file():
            raise InputError(config, "no such config (--config).")
    files = [str(config) for config in configs]
    check_overrides(options, ConfigParser.load_config_files(files))
    # MONAI logs what it was given, before every run
    logging.disable(logging.WARNING)
    try:
        workflow = create_workflow(config_file=files, logging_file=False, dataset_dir=str(path), **options)
        parser = workflow.parser
        dataset, inferer = (parser.get_parsed_content(name) for name in ("dataset", "inferer"))
        if not isinstance(inferer, StreamingInferer) or not isinstance(dataset, ScanDataset):
            raise InputError(configs[0], "does not stream: its inferer is no StreamingInferer.")
        if parser.get("tune_allocator") and parser.get_parsed_content("tune_allocator"):
            tune_allocator()
        network, outputs = (parser.get_parsed_content(name) for name in ("network", "outputs"))
    except Exception as error:
        refusal = find_bonemonai_error(error)
        if refusal is None:
            raise
        raise refusal from error
    finally:
        logging.disable(logging.NOTSET)
    scan = dataset[0].open()
    network.eval()
    plan = inferer.plan(scan, network, outputs)
    lines = {
        "scan": f"{' x '.join(map(str, scan.shape))} {scan.volume.dtype}, {_gigabytes(scan_bytes(scan))}"
        + (f", the first of {len(dataset)}" if len(dataset) > 1 else ""),
        "mode": inferer.mode + (", allocator tuned" if allocator_is_tuned() else ""),
        **describe_plan(plan, scan.shape, inferer.mode),
        "disk": f"at most {_gigabytes(sum(o.dtype.itemsize for o in outputs) * math.prod(scan.shape) * 8 / 7)} of "
        "results before compression, smaller levels included",
    }
    if windows:
        seconds = inferer.seconds_a_forward(scan, network, plan, windows)
        lines["time"] = (
            f"about {_duration(seconds * plan.forwards)} a scan: {plan.forwards} forward passes of {seconds:.3g} s, "
            f"{torch.get_num_threads()} threads; reading and writing not counted"
        )
        if inferer.mode == "exact":
            lines |= _other_mode(inferer, scan, network, outputs, seconds * plan.forwards, windows)
    return lines


def describe_plan(plan: StreamPlan, shape: Sequence[int], mode: str) -> dict[str, str]:
    """The lines that a plan alone gives.

    Args:
        plan: of a scan.
        shape: of the scan.
        mode: of the inferer.
    """
    what = "core" if mode == "exact" else "window"
    return {
        "memory": f"{_gigabytes(plan.memory)} besides the network and the libraries",
        "blocks": f"{len(plan.blocks(shape))} of {plan.block[0]} planes x {plan.block[1]} rows, {plan.bands} band(s)",
        "reads": f"every plane {plan.reads} time(s), {plan.together} together, and once for its grey values",
        what: f"{' x '.join(map(str, plan.core))}, {plan.batch} a forward pass",
        "forward passes": f"{plan.forwards}; the network sees each voxel {plan.passes:.2f} times",
    }


def _other_mode(
    inferer: StreamingInferer, scan: Any, network: Any, outputs: Any, exact_seconds: float, windows: int
) -> dict[str, str]:
    """Say so where overlapping windows would be faster than halos."""
    other = StreamingInferer(
        mode="gaussian",
        spatial_dim=inferer.spatial_dim,
        memory_budget=inferer.memory_budget,
        sw_batch_size=inferer.sw_batch_size,
    )
    try:
        plan = other.plan(scan, network, outputs)
    except InputError:
        return {}
    seconds = other.seconds_a_forward(scan, network, plan, windows) * plan.forwards
    text = f"gaussian windows of {' x '.join(map(str, plan.core))} at overlap 0.25 would take {_duration(seconds)}"
    ratio = seconds / exact_seconds
    return {"instead": f"{text}: {ratio:.2f} of that"}


def scan_bytes(scan: Any) -> int:
    """Size of a scan, decoded."""
    return int(math.prod(scan.shape) * scan.volume.dtype.itemsize)


def _gigabytes(number: float) -> str:
    return f"{number / 1e9:.2f} GB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
