"""Any of MONAI's inferers on a scan that fits into memory, with the same outputs as streaming inference."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from monai.inferers.inferer import Inferer, SliceInferer
from torch import nn
from tqdm import tqdm

from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.inferers.block_sink import BlockSink
from bonemonai.inferers.forward import network_device
from bonemonai.inferers.plan import block_grid
from bonemonai.inferers.plane_stream import PlaneStream
from bonemonai.inferers.ranks import rank
from bonemonai.inferers.result_writer import ResultWriter
from bonemonai.inferers.run_fingerprint import run_fingerprint
from bonemonai.inferers.run_folder import RunFolder


def infer_whole_volume(
    inferer: Inferer, scan: PreparedVolume, network: Callable[..., Any], writer: ResultWriter
) -> dict[str, Any]:
    """Infer a scan with an inferer that knows tensors only.

    A 2-D network gets plane after plane, unless the inferer is a ``SliceInferer``, which makes its own slices of the
    whole volume. A 3-D network gets the whole volume: input, output and MONAI's accumulators are held in memory.

    Args:
        inferer: for instance MONAI's ``SlidingWindowInferer``.
        scan: the scan.
        network: the network.
        writer: takes the results.

    Returns:
        What was done, as ``run.json`` says it.
    """
    with writer.lock(scan.volume) as folder:
        folder.count_grey_values(scan)
        return _infer(inferer, scan, network, writer, folder)


def _infer(
    inferer: Inferer, scan: PreparedVolume, network: Callable[..., Any], writer: ResultWriter, folder: RunFolder
) -> dict[str, Any]:
    plane_by_plane = network_dims(network) == 2 and not isinstance(inferer, SliceInferer)
    blocks, chunk = block_grid(scan.shape)
    settings = {"name": type(inferer).__name__, **{k: str(v) for k, v in vars(inferer).items() if k[0] != "_"}}
    expected = run_fingerprint(scan, network, writer, inferer=settings, grid={"chunk": chunk})
    with torch.no_grad(), folder.run(expected, blocks, chunk) as run:
        run.about["inferer"] = settings["name"]
        if run.complete or not run.remaining:
            return dict(run.about, complete_before=run.complete)
        device = network_device(network)
        whole = (slice(0, scan.shape[0]), slice(0, scan.shape[1]), slice(0, scan.shape[2]))
        bar = tqdm(total=len(run.remaining), desc=f"inferring {scan.volume.path.name}", disable=rank() > 0)
        stream = PlaneStream(scan, whole[0], whole[1])
        with bar, ThreadPoolExecutor(1) as pool, stream:
            volume = None if plane_by_plane else inferer(stream.fetch(whole)[None].to(device), network)[0]
            for block in run.remaining:
                with BlockSink([block], writer.outputs, stream, run, pool, scan) as sink:
                    if volume is not None:
                        sink.put(block, volume[:, block[0]])
                        continue
                    for z in range(block[0].start, block[0].stop):
                        box = (slice(z, z + 1), *block[1:])
                        plane = stream.fetch(box)[:, 0].to(device)
                        sink.put(box, inferer(plane[None], network)[0][:, None])
                    stream.release(block[0].stop)
                bar.update()
        return dict(run.about, complete_before=False)


def network_dims(network: Callable[..., Any]) -> int:
    """2 or 3, by the weights of the first convolution; 3 where there is none."""
    if isinstance(network, nn.Module):
        for parameter in network.parameters():
            if parameter.ndim in (4, 5):
                return parameter.ndim - 2
    return 3
