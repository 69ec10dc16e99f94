"""Streaming inference against MONAI's sliding window, side by side in one run.

    python -m tests.benchmarks.streaming --case planes --tuned

Each way runs in a process of its own, which says its own peak memory; the ways take turns, round after round, and
medians are given. A way infers a scan on disk, or, for MONAI's, the same scan as a tensor in memory: reading it is part
of the time of all. "forward" is the network on the tiles or windows of the way above it, with nothing around it.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

CASES: dict[str, dict[str, Any]] = {
    "planes": {"size": 2048, "planes": 4, "network": "two poolings", "roi": [512, 512], "spatial_dim": 0},
    "planes, four poolings": {
        "size": 2048, "planes": 2, "network": "four poolings", "roi": [512, 512], "spatial_dim": 0,
    },
    "volume": {"size": 256, "planes": 96, "network": "3-D", "roi": [96, 96, 96], "spatial_dim": None},
    "small": {"size": 96, "planes": 17, "network": "two poolings", "roi": [48, 48], "spatial_dim": 0},
}  # fmt: skip
WAYS = (
    "exact", "exact forward", "gaussian", "gaussian forward", "constant",
    "MONAI 0.25", "MONAI 0.25 gaussian", "MONAI 0.5", "PatchInferer + ZarrAvgMerger",
)  # fmt: skip


def make_network(kind: str) -> Any:
    import torch
    from monai.networks.nets import BasicUNet, UNet

    from bonemonai.networks import LacunaUNet

    torch.manual_seed(0)
    if kind == "two poolings":
        return LacunaUNet(width=16).eval()
    if kind == "four poolings":
        features = (16, 16, 32, 64, 128, 16)
        return BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=features, norm="batch").eval()
    return UNet(3, 1, 2, channels=(16, 32, 64), strides=(2, 2), norm="batch", num_res_units=1).eval()


def write_scan(path: Path, planes: int, size: int) -> None:
    import numpy as np
    import tifffile

    scan = tifffile.memmap(path, shape=(planes, size, size), dtype="float32", photometric="minisblack")
    for plane in range(planes):
        scan[plane] = np.random.default_rng(plane).normal(size=(size, size))
    scan.flush()


def run_way(way: str, case: dict[str, Any], scan: Path, *, tuned: bool, budget: float) -> dict[str, float]:
    """Time one way in this process; returns seconds, CPU seconds, peak memory and tile shares."""
    import torch

    from bonemonai.data import PreparedVolume, open_volume
    from bonemonai.inferers import StreamingInferer, tune_allocator

    if tuned:
        tune_allocator()
    network = make_network(case["network"])
    volume = open_volume(scan, voxel_size_um=1)
    mode = next((mode for mode in ("exact", "gaussian", "constant") if way.startswith(mode)), "constant")
    roi = None if mode == "exact" else case["roi"]
    inferer = StreamingInferer(roi, mode=mode, spatial_dim=case["spatial_dim"], memory_budget=budget)  # type: ignore[arg-type]
    source = PreparedVolume(volume)
    before = status("VmRSS")
    with torch.no_grad():
        # what happens once a run, and once a process, is not what is compared; its memory counts
        plan = inferer.plan(source, network, [])
        inferer.seconds_a_forward(source, network, plan, 1)
        work = prepare(way, case, network, source, inferer, plan)
        start, cpu = time.perf_counter(), time.process_time()
        work()
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"seconds": seconds, "cpu": cpu, "peak": status("VmHWM") - before, "passes": plan.passes}


def prepare(way: str, case: dict[str, Any], network: Any, source: Any, inferer: Any, plan: Any) -> Any:
    import torch
    from monai.inferers import PatchInferer, SliceInferer, SlidingWindowInferer, SlidingWindowSplitter, ZarrAvgMerger

    from bonemonai.inferers import LabelOutput, ResultWriter
    from bonemonai.inferers.slice_wise import SliceWise

    out = Path(tempfile.mkdtemp())
    if way in ("exact", "gaussian", "constant"):
        writer = ResultWriter(out, [LabelOutput("label.ome.zarr")])
        return lambda: inferer(source, network, writer=writer)
    if way.endswith("forward"):
        return lambda: pure_forward(network, source, inferer, plan)
    planar = case["spatial_dim"] is not None
    if way.startswith("MONAI"):
        overlap, mode = float(way.split()[1]), "gaussian" if way.endswith("gaussian") else "constant"
        if planar:
            monai: Any = SliceInferer(spatial_dim=0, roi_size=case["roi"], overlap=overlap, mode=mode)
        else:
            monai = SlidingWindowInferer(case["roi"], 1, overlap, mode)

        def in_memory() -> None:
            tensor = torch.from_numpy(source.volume.read())[None, None]
            output = monai(tensor, network)[0]
            (output[1] > output[0]).to(torch.uint8)

        return in_memory
    roi = (1, *case["roi"]) if planar else tuple(case["roi"])
    callable_network = SliceWise(network, 0) if planar else network

    def patches() -> None:
        tensor = torch.from_numpy(source.volume.read())[None, None]
        patch = PatchInferer(SlidingWindowSplitter(roi, 0.25), ZarrAvgMerger, store=str(out / "merged.zarr"))
        patch(tensor, callable_network)

    return patches


def pure_forward(network: Any, source: Any, inferer: Any, plan: Any) -> None:
    """The network on the very tiles or windows, cut from planes in memory, nothing kept."""
    import torch

    from bonemonai.inferers.receptive_field import pad_to_stride
    from bonemonai.inferers.slice_wise import SliceWise
    from bonemonai.inferers.tiling import exact_tiles

    run = network if inferer.spatial_dim is None else SliceWise(network, inferer.spatial_dim)
    volume = torch.from_numpy(source.volume.read())[None, None]
    if inferer.mode == "exact":
        field = inferer._field(network, 1, 3)
        for block in plan.blocks(source.shape):
            for tile in exact_tiles(block, source.shape, plan.core, field):
                run(pad_to_stride(volume[(slice(None), slice(None), *tile.read)], field.stride))
        return
    sweep = inferer._overlap_sweep(source.shape, network)
    for batch in sweep.batches(tuple(slice(0, n) for n in source.shape)):
        for start in batch:
            box = tuple(slice(low, low + size) for low, size in zip(start, sweep.grid.roi_size, strict=True))
            run(volume[(slice(None), slice(None), *box)])


def status(name: str) -> float:
    """A line of this process's record in the kernel, MB; nan where there is none."""
    path = Path("/proc/self/status")
    if not path.exists():
        return math.nan
    return int(next(line for line in path.read_text().splitlines() if name in line).split()[1]) / 1024


def compare(
    name: str, *, rounds: int, deeper: int, tuned: bool, budget: float, ways: list[str]
) -> list[dict[str, Any]]:
    """All ways of a case, taking turns; one row each, medians of the rounds."""
    case = {**CASES[name], "planes": CASES[name]["planes"] * deeper}
    measured: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        scan = Path(folder) / "scan.tif"
        write_scan(scan, case["planes"], case["size"])
        for _ in range(rounds):
            for way in ways:
                arguments = json.dumps({"way": way, "case": case, "scan": str(scan), "tuned": tuned, "budget": budget})
                command = [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.streaming", "--way", arguments]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    measured[way].append(json.loads(done.stdout.splitlines()[-1]))
    rows = []
    for way, results in measured.items():
        median = {key: statistics.median(r[key] for r in results) for key in results[0]} if results else {}
        rows.append({"case": name, "planes": case["planes"], "way": way, **median})
    reference = next((row for row in rows if row["way"] == "exact"), rows[0])
    for row in rows:
        row["times exact"] = row.get("seconds", math.nan) / reference.get("seconds", math.nan)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{'case':<24}{'planes':>7}  {'way':<30}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'/ exact':>9}{'passes':>8}"
    ]
    for row in rows:
        numbers = [row.get(key, math.nan) for key in ("seconds", "cpu", "peak", "times exact", "passes")]
        if row["way"].startswith(("MONAI", "Patch")):
            numbers[-1] = math.nan
        text = "".join(f"{n:>{w}.{d}f}" for n, w, d in zip(numbers, (9, 9, 9, 9, 8), (2, 2, 0, 2, 2), strict=True))
        lines.append(f"{row['case']:<24}{row['planes']:>7}  {row['way']:<30}{text}".replace("nan", "  -"))
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=CASES, help="default: all but small")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--deeper", type=int, action="append", help="multiples of the case's planes; default 1")
    parser.add_argument("--tuned", action="store_true", help="tune glibc's allocator, for all ways alike")
    parser.add_argument("--budget", type=float, default=2e9, help="memory budget of streaming, bytes")
    parser.add_argument("--ways", nargs="*", default=list(WAYS), choices=WAYS)
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.way:
        given = json.loads(options.way)
        result = run_way(given["way"], given["case"], Path(given["scan"]), tuned=given["tuned"], budget=given["budget"])
        print(json.dumps(result))
        return
    rows = []
    for name in options.case or [case for case in CASES if case != "small"]:
        for deeper in options.deeper or [1]:
            rows += compare(
                name, rounds=options.rounds, deeper=deeper, tuned=options.tuned, budget=options.budget,
                ways=options.ways,
            )  # fmt: skip
    print(table(rows))
    if options.csv:
        with open(options.csv, "w", newline="", encoding="utf-8") as stream:
            keys = dict.fromkeys(key for row in rows for key in row)
            writer = csv.DictWriter(stream, list(keys))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
