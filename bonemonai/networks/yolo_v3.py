"""YOLOv3, which finds the box of a vertebra in a CT slice (paper 4's locator)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks.darknet53 import DarkNet53, darknet_convolution
from bonemonai.networks.yolo_detections import Detections, select_detections

_STRIDES = (8, 16, 32)
_LARGEST = 8.0  # of t_w and t_h: exp(8) = 2981 anchors; more would be infinite soon, and then NaN


class DecodedBoxes(NamedTuple):
    """What YOLOv3 says of each of its N anchors: of strides 8, 16, 32, then by anchor, row and column.

    Attributes:
        boxes: (B, N, 4), x of the left side, y of the upper, x of the right, y of the lower, in pixels (pixel k reaches
            from k to k + 1); x goes with columns, y with rows.
        objectness: (B, N), 0 to 1.
        probabilities: (B, N, C), 0 to 1 each; classes do not exclude each other.
    """

    boxes: torch.Tensor
    objectness: torch.Tensor
    probabilities: torch.Tensor


class YOLOv3(nn.Module):
    """DarkNet-53, a feature pyramid, and at each of three scales three anchors a cell.

    An output (t_x, t_y, t_w, t_h, objectness, classes) at column c_x of a map means a box whose centre is at x =
    (sigmoid(t_x) + c_x) * stride and whose width is the anchor's times exp(t_w). The paper's equation (3) adds the
    anchor's centre, in no unit, instead of the cell's; this is what YOLOv3 does. All weights start at random
    (PyTorch's).

    Args:
        num_classes: 2 in the paper (L1 and L2).
        anchors: nine pairs of width and height, pixels, the areas ascending: the first three go with stride 8, the
            last with 32. They belong to the weights and are stored with them.
        width: channels of DarkNet-53's first convolution; 32 in YOLOv3, others are for CPUs and tests.
        in_channels: of the first convolution; 3 in the paper (512 x 512 x 3).

    Attributes:
        strides: 8, 16 and 32, pixels.

    Shape:
        image: (B, 1, H, W) or (B, in_channels, H, W) float32, grey in [0, 1], H and W multiples of 32, 512 in the
        paper; one channel is repeated to in_channels. Returns one raw map a stride: (B, 3, H / stride, W / stride,
        5 + num_classes).

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or sides.

    Source:
        Zhang et al., 3.3 and equation (3), corrected; Redmon and Farhadi, arXiv:1804.02767.

    Example:
        >>> anchors = [(8 * n, 8 * n) for n in range(1, 10)]
        >>> outputs = YOLOv3(2, anchors, width=1).eval()(torch.zeros(1, 1, 64, 64))
        >>> [tuple(output.shape) for output in outputs]
        [(1, 3, 8, 8, 7), (1, 3, 4, 4, 7), (1, 3, 2, 2, 7)]
    """

    def __init__(
        self, num_classes: int, anchors: Sequence[Sequence[float]], *, width: int = 32, in_channels: int = 3
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes must be >= 1 (classes), got {num_classes}.")
        self.num_classes, self.in_channels, self.strides = num_classes, in_channels, _STRIDES
        self.anchors = nn.Buffer(_checked(anchors))
        self.backbone = DarkNet53(in_channels, width)
        inner = [channels // 2 for channels in self.backbone.channels]  # 4, 8, 16 widths
        # of the map, and of what comes up from the coarser one
        given = [inner[0] * 2 + inner[0], inner[1] * 2 + inner[1], inner[2] * 2]
        self.necks = nn.ModuleList(_neck(channels, made) for channels, made in zip(given, inner, strict=True))
        self.lifts = nn.ModuleList(darknet_convolution(coarse, fine, 1) for fine, coarse in pairwise(inner))
        self.heads = nn.ModuleList(
            nn.Sequential(
                darknet_convolution(channels, 2 * channels, 3), nn.Conv2d(2 * channels, 3 * (5 + num_classes), 1)
            )
            for channels in inner
        )

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the raw outputs of strides 8, 16 and 32."""
        if image.ndim != 4 or image.shape[1] not in (1, self.in_channels):
            raise ValueError(f"image must be (B, 1, H, W) or (B, {self.in_channels}, H, W), got {tuple(image.shape)}.")
        fine, middle, coarse = self.backbone(image.expand(-1, self.in_channels, -1, -1))
        coarse = self.necks[2](coarse)
        middle = self.necks[1](torch.cat([F.interpolate(self.lifts[1](coarse), scale_factor=2), middle], dim=1))
        fine = self.necks[0](torch.cat([F.interpolate(self.lifts[0](middle), scale_factor=2), fine], dim=1))
        raw = [head(features) for head, features in zip(self.heads, (fine, middle, coarse), strict=True)]
        # channels are anchor by anchor
        raw = [maps.unflatten(1, (3, 5 + self.num_classes)).permute(0, 1, 3, 4, 2) for maps in raw]
        return raw[0], raw[1], raw[2]

    def decode(self, outputs: Sequence[torch.Tensor]) -> DecodedBoxes:
        """Turn raw outputs into boxes, objectness and class probabilities, in float32 whatever the outputs are.

        Args:
            outputs: of :meth:`forward`.

        Returns:
            One box an anchor and cell, not clipped to the image. exp(t_w) ends at exp(8), 2981 anchors.
        """
        boxes, rest = [], []
        for output, stride, anchors in zip(outputs, self.strides, self.anchors, strict=True):
            raw = output.float()
            rows, columns = raw.shape[2:4]
            y, x = torch.meshgrid(
                torch.arange(rows, device=raw.device), torch.arange(columns, device=raw.device), indexing="ij"
            )
            centres = (raw[..., :2].sigmoid() + torch.stack([x, y], dim=-1)) * stride
            halves = anchors[:, None, None] * raw[..., 2:4].clamp(max=_LARGEST).exp() / 2
            boxes.append(torch.cat([centres - halves, centres + halves], dim=-1).flatten(1, 3))
            rest.append(raw[..., 4:].sigmoid().flatten(1, 3))
        joined = torch.cat(rest, dim=1)
        return DecodedBoxes(torch.cat(boxes, dim=1), joined[..., 0], joined[..., 1:])

    def best(self, outputs: Sequence[torch.Tensor]) -> DecodedBoxes:
        """Return the box of each image that is most surely an object, of whatever class.

        Args:
            outputs: of :meth:`forward`.

        Returns:
            One box an image: (B, 4), (B,) and (B, C).
        """
        decoded = self.decode(outputs)
        images = torch.arange(len(decoded.objectness), device=decoded.objectness.device)
        first = decoded.objectness.argmax(dim=1)
        return DecodedBoxes(*(values[images, first] for values in decoded))

    def encode(self, boxes: torch.Tensor, places: torch.Tensor, *, eps: float = 1e-6) -> torch.Tensor:
        """Find the (t_x, t_y, t_w, t_h) that :meth:`decode` turns into these boxes: its inverse.

        Args:
            boxes: (N, 4), sides as in :class:`DecodedBoxes`, pixels.
            places: (N, 4) integers: scale (0 to 2, for strides 8, 16, 32), anchor (0 to 2), row and column of the cell.
            eps: a centre nearer to a side of the cell than this, in cells, is moved there, since t is infinite on it.

        Returns:
            (N, 4) float32.

        Raises:
            ValueError: if a box is empty or its centre lies in another cell.
        """
        boxes, places = boxes.float(), places.long()
        sizes = boxes[:, 2:] - boxes[:, :2]
        if not bool((sizes > 0).all()):
            raise ValueError("boxes must have positive widths and heights (pixels), got an empty one; leave it out.")
        strides = torch.tensor(self.strides, device=boxes.device)[places[:, 0], None]
        offsets = (boxes[:, :2] + boxes[:, 2:]) / 2 / strides - places[:, [3, 2]]
        if not bool(((offsets >= 0) & (offsets <= 1)).all()):
            raise ValueError("places must be the cells that hold the centres of the boxes, got another cell.")
        return torch.cat([offsets.logit(eps), (sizes / self.anchors[places[:, 0], places[:, 1]]).log()], dim=1)

    @torch.no_grad()
    def detect(
        self,
        outputs: Sequence[torch.Tensor],
        *,
        score_threshold: float = 0.5,
        iou_threshold: float = 0.45,
        max_candidates: int = 1000,
    ) -> list[Detections]:
        """Return what is found in each image: :meth:`decode`, then :func:`select_detections` with these arguments.

        Source:
            The thresholds are ours; the paper prints none.
        """
        decoded = self.decode(outputs)
        return [
            select_detections(
                boxes,
                objectness[:, None] * probabilities,
                score_threshold=score_threshold,
                iou_threshold=iou_threshold,
                max_candidates=max_candidates,
            )
            for boxes, objectness, probabilities in zip(*decoded, strict=True)
        ]


def _checked(anchors: Sequence[Sequence[float]]) -> torch.Tensor:
    """Return the anchors as (3, 3, 2): scale, anchor, width and height."""
    if len(anchors) != 9 or any(len(pair) != 2 or min(pair) <= 0 for pair in anchors):
        raise ValueError(f"anchors must be nine pairs of positive width and height (pixels), got {anchors}.")
    areas = [pair[0] * pair[1] for pair in anchors]
    if areas != sorted(areas):
        raise ValueError(
            f"anchors must ascend in area (the first three go with the finest map), got {anchors}; sort them."
        )
    return torch.tensor([[float(side) for side in pair] for pair in anchors]).reshape(3, 3, 2)


def _neck(in_channels: int, channels: int) -> nn.Sequential:
    """Make the five convolutions, 1 x 1 and 3 x 3 by turns, before a head."""
    sizes = [in_channels, channels, 2 * channels, channels, 2 * channels, channels]
    return nn.Sequential(
        *(
            darknet_convolution(given, made, 1 if number % 2 == 0 else 3)
            for number, (given, made) in enumerate(pairwise(sizes))
        )
    )
