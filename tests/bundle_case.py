"""What is special to a bundle, as data: all that the checks of every bundle are told about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Workflow:
    """A run at small scale.

    Attributes:
        configs: names, overlays last.
        options: what makes it small. In texts {study} stands for the folder of data, {scan} for one scan in it, {work}
            for the folder that takes weights and results.
        kind: of a stand-alone config: MONAI's properties of such a workflow are checked.
    """

    configs: tuple[str, ...]
    options: Mapping[str, Any]
    kind: Literal["train", "inference"] | None = None


@dataclass(frozen=True, eq=False)
class Network:
    """A network that has weights of its own, and is exported.

    Attributes:
        name: of the exported files in the bundle's docs, without an ending.
        shape: of an input, (B, C, H, W) or (B, ..., H, W).
        channels: of the output.
        id: of the network in the configs.
        configs: that define it.
        weights: that the bundle ships; where it ships none, random ones are made with ``options``.
        options: of the small network that is made then; configs find them in the weights' card.
        checkpoint: id of the option that names its weights.
        stride: H and W may be any multiples of it; None where only those of ``shape`` go.
        least: smallest H and W that ``torch.export`` takes: it goes by other rules where a map has one row.
        traced_since: what ``torch.jit.script`` refuses it with, if it does: a pattern. It is traced then.
    """

    name: str
    shape: tuple[int, ...]
    channels: int
    id: str = "network_def"
    configs: tuple[str, ...] = ("inference",)
    weights: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str = "checkpoint"
    stride: int | None = None
    least: int = 32
    traced_since: str | None = None

    def declared(self) -> list[str | int]:
        """H and W as ONNX declares them."""
        if self.stride is None:
            return list(self.shape[-2:])
        times = "" if self.stride == 1 else f"{self.stride}*"
        return [f"{times}rows", f"{times}columns"]

    def shapes(self) -> list[tuple[int, ...]]:
        """Of the input that it is exported with, and of others."""
        if self.stride is None:
            return [self.shape]
        rows, columns = self.shape[-2:]
        others = [(rows + self.stride, columns + 2 * self.stride), (self.least, self.least + self.stride)]
        return [self.shape, *((*self.shape[:-2], *other) for other in others)]

    def script_shapes(self) -> list[tuple[int, ...]]:
        """The same, and if it was not traced a batch, and the smallest, too: TorchScript takes both."""
        if self.traced_since is not None:
            return self.shapes()
        side = max(self.stride or 0, 32)
        smallest = [] if self.stride is None else [(*self.shape[:-2], side, side)]
        return [*self.shapes(), (3, *self.shape[1:]), *smallest]


@dataclass(frozen=True)
class BundleCase:
    """A bundle.

    Attributes:
        folder: of the bundle.
        study: fixture that gives a folder of data small enough to train on in seconds.
        scan: pattern of a scan in it.
        workflows: in the order in which they can be run; among them every stand-alone one that trains or infers.
        networks: every one that has weights.
        verified: what MONAI's ``verify_net_in_out`` is given besides the files: ``net_id``, sides, small sizes.
        beyond_export: networks that cannot be exported; docs/README.md says why.
    """

    folder: Path
    study: str
    scan: str
    workflows: tuple[Workflow, ...]
    networks: tuple[Network, ...]
    verified: Mapping[str, Any]
    beyond_export: tuple[Network, ...] = ()

    def config(self, name: str) -> Path:
        """Path of a config."""
        return self.folder / "configs" / f"{name}.json"

    def files(self, names: tuple[str, ...]) -> list[str]:
        """Paths of configs."""
        return [str(self.config(name)) for name in names]
