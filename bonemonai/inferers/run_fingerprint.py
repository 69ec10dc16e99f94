"""What the bytes of a result depend on, so that a run is continued only if nothing of it has changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from bonemonai.data.fingerprint import fingerprint, full_sha256
from bonemonai.data.prepared_volume import PreparedVolume
from bonemonai.inferers.code_digest import code_digest, code_digests
from bonemonai.inferers.forward import network_device
from bonemonai.inferers.result_writer import ResultWriter

_PACKAGES = ("bonemonai", "monai", "torch", "numpy", "scipy", "scikit-image", "scikit-learn", "zarr", "numcodecs")
# options that say where, not what; what lies there stands in the fingerprint by its content
_WHERE = frozenset({"output_dir", "overwrite", "dataset_dir", "checkpoint", "bundle_root"})


def run_fingerprint(
    scan: PreparedVolume,
    network: Callable[..., Any],
    writer: ResultWriter,
    *,
    inferer: Mapping[str, Any],
    grid: Mapping[str, Any],
    strict: bool = False,
) -> dict[str, Any]:
    """Describe a run before it starts.

    Args:
        scan: names, sizes and modification times of its files, and samples of their content, all as digests; the
            transforms of its planes.
        network: its structure and weights.
        writer: outputs, and the configs and options in its attributes.
        inferer: settings of the inferer.
        grid: blocks, tiles and batches.
        strict: read every byte of the scan.

    Returns:
        JSON values.
    """
    scanned = {**fingerprint(scan.volume.source), "modified": scan.snapshot.digest}
    if scan.volume.whole is not scan.volume:
        scanned["planes"] = list(scan.volume.plane_numbers)
    if strict:
        scanned["sha256"] = full_sha256(scan.volume.path)
    options = writer.attributes.get("options") or {}
    device = network_device(network).type
    return {
        "input": {**scanned, "voxel_size_um": scan.volume.voxel_size_um, "units": scan.volume.units},
        "preprocessing": code_digests(scan.transform),
        "network": code_digest(network),
        "weights": weights_sha256(network),
        "configs": writer.attributes.get("configs"),
        "options": {name: value for name, value in options.items() if name not in _WHERE},
        "outputs": [*(output.describe() for output in writer.outputs), *([writer.also] if writer.also else [])],
        "inferer": dict(inferer),
        "grid": dict(grid),
        "threads": torch.get_num_threads(),
        "device": device,
        "autocast": str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else None,
        "packages": {name: version(name) for name in _PACKAGES},
    }


def weights_sha256(network: Callable[..., Any]) -> str:
    """Digest of names, shapes, types and values of a network's weights and buffers; of nothing for what has none."""
    digest = hashlib.sha256()
    if isinstance(network, nn.Module):
        for name, value in network.state_dict().items():
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
