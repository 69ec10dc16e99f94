"""Networks of bundles as other programs take them, and how they are compared."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser, ckpt_export, onnx_export
from torch import nn
from torch.utils._pytree import tree_leaves

from bonemonai.engines.weights import sha256
from tests.bundle_case import BundleCase, Network

TOLERANCE = 1e-5


def weights_of(case: BundleCase, network: Network, folder: Path) -> Path:
    """Return the weights that the bundle ships, or small random ones with a card, made in a folder."""
    if network.weights is not None:
        return case.folder / network.weights
    path = folder / f"{network.name}.pt"
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        small = defined_by(case, network, path, network.options).train()
        for _ in range(5):  # batch normalisation learns what it divides by
            small(torch.rand(4, *network.shape[1:]))
    torch.save(small.state_dict(), path)
    card = {"sha256": sha256(path), "options": dict(network.options)}
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return path


def loaded(case: BundleCase, network: Network, weights: Path) -> nn.Module:
    """Return the network that the configs define, with its weights, in evaluation."""
    defined = defined_by(case, network, weights)
    defined.load_state_dict(torch.load(weights, weights_only=True))
    return defined.eval()


def defined_by(
    case: BundleCase, network: Network, weights: Path, options: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the network as the configs define it, with random weights."""
    parser = ConfigParser()
    parser.read_config(case.files(network.configs))
    for name, value in {"bundle_root": str(case.folder), network.checkpoint: str(weights), **(options or {})}.items():
        parser[name] = value
    defined: nn.Module = parser.get_parsed_content(network.id)
    return defined


def inputs_of(shapes: Sequence[tuple[int, ...]]) -> list[torch.Tensor]:
    """Return an input of each shape, always the same."""
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(shape, generator=generator) for shape in shapes]


def exported(defined: nn.Module, network: Network) -> torch.export.ExportedProgram:
    """Export with H and W declared as multiples of the stride."""
    return torch.export.export(defined, (torch.rand(network.shape),), dynamic_shapes=sides_of(network))


def sides_of(network: Network) -> Any:
    """Return the dynamic shapes of H and W, multiples of the stride; None where both are fixed."""
    if network.stride is None:
        return None
    sides = {}
    for axis, name in ((-2, "rows"), (-1, "columns")):
        times = torch.export.Dim(name, min=network.least // network.stride, max=1 << 14)
        sides[axis + len(network.shape)] = times if network.stride == 1 else network.stride * times
    return (sides,)


def largest_difference(found: Any, expected: Any, *, scaled: bool = False) -> float:
    """Return the largest difference of all tensors; scaled, in units of a tensor's largest value if that is above one.

    ONNX adds in another order, and float32 has seven digits, whether a logit is 1 or 100.
    """
    most = 0.0
    for one, other in zip(_tensors(found), _tensors(expected), strict=True):
        assert torch.equal(one.isnan(), other.isnan())
        one, other = one.nan_to_num(), other.nan_to_num()
        unit = float(other.abs().max().clamp(min=1)) if scaled else 1.0
        most = max(most, float((one - other).abs().max()) / unit)
    return most


def _tensors(outputs: Any) -> list[torch.Tensor]:
    return [torch.as_tensor(leaf).double() for leaf in tree_leaves(outputs) if leaf is not None]


def run_onnx(path: Path, image: torch.Tensor) -> list[torch.Tensor]:
    """Run a file of ONNX on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return [torch.as_tensor(one) for one in session.run(None, {session.get_inputs()[0].name: image.numpy()})]


def sides_of_onnx(path: Path) -> list[int | str]:
    """Return the sides that an ONNX file says it takes: H and W."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    sides: list[int | str] = session.get_inputs()[0].shape[-2:]
    return sides


def run_documented(case: BundleCase) -> None:
    """Run the commands of the section Export of the bundle's docs, in this process and the working directory."""
    section = export_section(case)
    for line in re.findall(r"^python -m monai\.bundle (.*)$", section, flags=re.MULTILINE):
        command = shlex.split(line.replace("$B", str(case.folder)))
        fire.Fire({"ckpt_export": ckpt_export, "onnx_export": onnx_export}, command=command)


def export_section(case: BundleCase) -> str:
    """Return what the docs say of export."""
    readme = (case.folder / "docs" / "README.md").read_text(encoding="utf-8")
    return readme.partition("\n## Export\n")[2].partition("\n## ")[0]
