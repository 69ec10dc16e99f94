"""What is kept of a prediction: labels, probabilities, or an entry of the pre-processing, reduced while it streams."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch

from bonemonai.errors import InputError

Items = dict[str, torch.Tensor]


class Output(ABC):
    """One volume of results, made from a prediction part by part.

    Args:
        name: of the result, ending in ``.ome.zarr``.
    """

    dtype: np.dtype[np.uint8] | np.dtype[np.float16] | np.dtype[np.float32] | np.dtype[np.int16]
    kind: Literal["label", "image"]
    keys: tuple[str, ...] = ()
    has_scan_units = False  # whether values are in the units of the scan, which then stand beside them
    derived_from: str = ""  # name of the output that this one is made of, plane by plane, instead of the prediction

    def __init__(self, name: str) -> None:
        if not name.endswith(".ome.zarr") or "/" in name:
            raise ValueError(f"name must end in .ome.zarr and name no folder, got {name!r}.")
        self.name = name

    @abstractmethod
    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """Reduce a part of a prediction.

        Args:
            prediction: (C, planes, rows, columns) float, the network's output.
            items: entries of :attr:`keys` for the same voxels, (c, planes, rows, columns), on the same device.

        Returns:
            (planes, rows, columns) in :attr:`dtype`.
        """

    def skip(self, shape: Sequence[int], items: Items) -> torch.Tensor:
        """Result of a part that the network did not see because a mask calls it empty: zeros."""
        return torch.zeros(tuple(shape), dtype=torch.from_numpy(np.empty(0, self.dtype)).dtype)

    def derive(self, labels: torch.Tensor, items: Items, plane: int) -> torch.Tensor:
        """Make a plane of this output from that of another, where :attr:`derived_from` names one.

        Args:
            labels: (rows, columns), the whole plane of the other output.
            items: entries of :attr:`keys`, (c, rows, columns).
            plane: its number in the scan.

        Returns:
            (rows, columns) in :attr:`dtype`.
        """
        raise NotImplementedError

    def working_bytes(self) -> int:
        """Memory that deriving a plane takes."""
        return 0

    def describe(self) -> dict[str, object]:
        """What defines the values, for the record."""
        return {"output": type(self).__name__, **{k: v for k, v in vars(self).items() if not k.startswith("_")}}


class LabelOutput(Output):
    """The class with the largest value, as uint8; the first of them where several are equal.

    Args:
        name: of the result.
        mask_key: entry of the pre-processing outside of which the label is 0.

    Example:
        >>> output = LabelOutput("label.ome.zarr")
        >>> output.reduce(torch.tensor([0.1, 0.7, 0.2]).reshape(3, 1, 1, 1), {}).item()
        1
    """

    dtype, kind = np.dtype(np.uint8), "label"

    def __init__(self, name: str, mask_key: str | None = None) -> None:
        super().__init__(name)
        self.mask_key = mask_key
        self.keys = (mask_key,) if mask_key else ()

    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """See :meth:`Output.reduce`."""
        if len(prediction) > 256:
            raise ValueError(f"labels are uint8: at most 256 classes, got {len(prediction)}.")
        # two classes: 158 times as fast as argmax
        label = (
            (prediction[1] > prediction[0]).to(torch.uint8) if len(prediction) == 2 else _running_maximum(prediction)
        )
        return label * (items[self.mask_key][0] != 0) if self.mask_key else label


class ProbabilityOutput(Output):
    """Probability of one class, as uint8 (0 to 255 stand for 0 to 1) or float16.

    Args:
        name: of the result.
        channel: class.
        dtype: "uint8" or "float16".
        activation: "softmax" over the classes, "sigmoid" of the channel, or "none" where the network ends in one.
        mask_key: entry of the pre-processing outside of which the probability is 0.
    """

    kind = "image"

    def __init__(
        self,
        name: str,
        channel: int = 1,
        dtype: Literal["uint8", "float16"] = "uint8",
        activation: Literal["softmax", "sigmoid", "none"] = "softmax",
        mask_key: str | None = None,
    ) -> None:
        super().__init__(name)
        if dtype not in ("uint8", "float16"):
            raise ValueError(f"dtype must be uint8 or float16, got {dtype}.")
        if activation not in ("softmax", "sigmoid", "none"):
            raise ValueError(f"activation must be softmax, sigmoid or none, got {activation}.")
        self.channel, self.dtype, self.activation, self.mask_key = channel, np.dtype(dtype), activation, mask_key
        self.keys = (mask_key,) if mask_key else ()

    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """See :meth:`Output.reduce`."""
        if not 0 <= self.channel < len(prediction):
            raise ValueError(f"channel {self.channel} is not within the {len(prediction)} of the network.")
        value = prediction[self.channel]
        if self.activation == "softmax":
            value = torch.exp(value - torch.logsumexp(prediction, dim=0))
        elif self.activation == "sigmoid":
            value = torch.sigmoid(value)
        if self.mask_key:
            value = value * (items[self.mask_key][0] != 0)
        if self.dtype == np.float16:
            return value.to(torch.float16)
        return (value * 255.0).round().clamp(0, 255).to(torch.uint8)

    def describe(self) -> dict[str, object]:
        """See :meth:`Output.describe`."""
        return {**super().describe(), "dtype": self.dtype.name}


class ValueOutput(Output):
    """Grey values that a network predicts, in the units of the scan: ``prediction * scale + offset``.

    Args:
        name: of the result.
        scale: from the network's values to grey values.
        offset: likewise.
        channel: of the prediction.
        activation: "sigmoid" of the channel, or "none" where the network ends in one.
        dtype: "float32", or "int16": rounded, and cut off at its ends.

    Example:
        >>> output = ValueOutput("high.ome.zarr", 2000.0, -500.0, activation="none", dtype="int16")
        >>> output.reduce(torch.tensor([0.5, 1.0]).reshape(1, 1, 1, 2), {}).tolist()
        [[[500, 1500]]]
    """

    kind, has_scan_units = "image", True

    def __init__(
        self,
        name: str,
        scale: float = 1.0,
        offset: float = 0.0,
        *,
        channel: int = 0,
        activation: Literal["sigmoid", "none"] = "sigmoid",
        dtype: Literal["float32", "int16"] = "float32",
    ) -> None:
        super().__init__(name)
        if dtype not in ("float32", "int16"):
            raise ValueError(f"dtype must be float32 or int16, got {dtype}.")
        if activation not in ("sigmoid", "none"):
            raise ValueError(f"activation must be sigmoid or none, got {activation}.")
        self.scale, self.offset, self.channel, self.activation = float(scale), float(offset), channel, activation
        self.dtype = np.dtype(dtype)

    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """See :meth:`Output.reduce`."""
        if not 0 <= self.channel < len(prediction):
            raise ValueError(f"channel {self.channel} is not within the {len(prediction)} of the network.")
        value = prediction[self.channel].float()
        value = (torch.sigmoid(value) if self.activation == "sigmoid" else value) * self.scale + self.offset
        if self.dtype == np.float32:
            return value
        ends = np.iinfo(np.int16)
        return value.round().clamp(ends.min, ends.max).to(torch.int16)

    def describe(self) -> dict[str, object]:
        """See :meth:`Output.describe`."""
        return {**super().describe(), "dtype": self.dtype.name}


class ItemOutput(Output):
    """An entry of the pre-processing, for instance the bone mask, as uint8.

    Args:
        name: of the result.
        key: the entry.
    """

    dtype, kind = np.dtype(np.uint8), "label"

    def __init__(self, name: str, key: str) -> None:
        super().__init__(name)
        self.key, self.keys = key, (key,)

    def reduce(self, prediction: torch.Tensor, items: Items) -> torch.Tensor:
        """See :meth:`Output.reduce`."""
        return self.skip((), items)

    def skip(self, shape: Sequence[int], items: Items) -> torch.Tensor:
        """The entry itself: it does not depend on the network."""
        item = items[self.key][0]
        if not torch.equal(item.to(torch.uint8).to(item.dtype), item):
            raise InputError("preprocessing", f"{self.key!r} holds values that are no uint8: fractions, or beyond 255.")
        return item.to(torch.uint8)


def _running_maximum(prediction: torch.Tensor) -> torch.Tensor:
    best = prediction[0].clone()
    label = torch.zeros_like(best, dtype=torch.uint8)
    for channel in range(1, len(prediction)):
        larger = prediction[channel] > best
        label[larger] = channel
        best = torch.where(larger, prediction[channel], best)
    return label
