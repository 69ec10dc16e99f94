"""YOLOv3's three terms, apart: where, what, and whether (paper 4, 3.3 and eq. 19)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.errors import InputError

_PER_SCALE = 3
_LARGEST = 10.0  # exponent of a size when a box is drawn to be compared: e^10 anchors are beyond any image


class YoloTerms(NamedTuple):
    """Scalars.

    Attributes:
        box: squared error of centre and size.
        category: binary cross-entropy of the classes.
        confidence: binary cross-entropy of "here is an object".
    """

    box: torch.Tensor
    category: torch.Tensor
    confidence: torch.Tensor


class _Objects(NamedTuple):
    """Boxes of a batch, one a row: image, anchor of all, cell, and the box (n, 4) as centre and size, pixels."""

    image: torch.Tensor
    anchor: torch.Tensor
    row: torch.Tensor
    column: torch.Tensor
    box: torch.Tensor
    label: torch.Tensor


class YoloLoss(nn.Module):
    """Loss of raw outputs at three scales against boxes.

    A box belongs to one anchor, that of all nine whose shape overlaps most with its own, and to the cell of that
    anchor's grid that its centre lies in, at column c_x and row c_y. From the raw outputs

        b_x = (sigmoid(t_x) + c_x) stride,   b_w = a_w exp(t_w)   (b_y and b_h likewise),

    and, the wanted values being marked by a star, with means over the boxes of the batch:

        box = (sigmoid(t_x) - s_x*)^2 + (sigmoid(t_y) - s_y*)^2 + (t_w - t_w*)^2 + (t_h - t_h*)^2,
        category = sum over the classes of the binary cross-entropy,
        confidence = mean BCE where a box belongs + ``background`` x mean BCE where none does.

    Elsewhere predicted boxes that overlap a box by more than ``ignore`` (IoU) are left out of the confidence: they are
    not wrong. Without a box in the batch, box and category are 0, with a gradient of 0.

    Eq. (3) adds the anchor's centre to a sigmoid; the above is YOLOv3's own. The paper says nothing of the means and
    weights: ours. Of 16128 places at 512 x 512 one or two hold an object, and in a mean over the others a single false
    one would not be felt; hence ``background``.

    Args:
        anchors: (9, 2), width and height in pixels by rising area, see :func:`bonemonai.data.find_anchors`; the first
            three belong to the first output.
        strides: pixels a cell of each output.
        ignore: see above, 0 to 1.
        background: see above, 0 or more.

    Shape:
        outputs: one a stride, (B, 3, H, W, 5 + C): t_x, t_y, t_w, t_h, confidence and C class logits. boxes: (B, n, 4),
        x1, y1, x2, y2 in pixels. labels: (B, n) int64, 0 to C - 1; -1 where an image has fewer than n boxes.

    Raises:
        InputError: if a box has no area or its centre lies outside of the image, or a label is no class.
        ValueError: if shapes or options do not fit.

    Source:
        Redmon and Farhadi, YOLOv3, arXiv:1804.02767, section 2; Zhang et al., eqs. (3) and (19).
    """

    anchors: torch.Tensor

    def __init__(
        self,
        anchors: Sequence[Sequence[float]],
        strides: Sequence[int] = (8, 16, 32),
        *,
        ignore: float = 0.5,
        background: float = 100.0,
    ) -> None:
        super().__init__()
        table = torch.as_tensor(anchors, dtype=torch.float32)
        if table.shape != (_PER_SCALE * len(strides), 2) or not bool((table > 0).all()):
            raise ValueError(f"anchors must be ({_PER_SCALE * len(strides)}, 2) and > 0 (pixels), got {anchors}.")
        if not 0 <= ignore <= 1 or background < 0:
            raise ValueError(f"ignore must be in [0, 1] and background >= 0, got {ignore} and {background}.")
        self.register_buffer("anchors", table, persistent=False)
        self.strides, self.ignore, self.background = tuple(strides), ignore, background

    def forward(self, outputs: Sequence[torch.Tensor], boxes: torch.Tensor, labels: torch.Tensor) -> YoloTerms:
        """Return the terms."""
        self._check(outputs, boxes, labels)
        objects = self._assign(outputs, boxes, labels)
        positives, negatives, located, named = [], [], [], []
        for scale, output in enumerate(outputs):
            own = objects.anchor // _PER_SCALE == scale
            mine = _Objects(*(values[own] for values in objects))
            place = (mine.image, mine.anchor % _PER_SCALE, mine.row, mine.column)
            found = output[place]
            located.append(self._box_errors(found[:, :4], mine, self.strides[scale]))
            classes = F.one_hot(mine.label, output.shape[-1] - 5).to(found.dtype)
            named.append(F.binary_cross_entropy_with_logits(found[:, 5:], classes, reduction="none").sum(dim=1))
            here = torch.zeros(output.shape[:-1], dtype=torch.bool, device=output.device)
            here[place] = True
            positives.append(output[..., 4][here])
            negatives.append(output[..., 4][~here & ~self._overlapping(scale, output, objects)])
        confidence = -F.logsigmoid(torch.cat(positives)), -F.logsigmoid(-torch.cat(negatives))
        return YoloTerms(
            _mean(torch.cat(located)),
            _mean(torch.cat(named)),
            _mean(confidence[0]) + self.background * _mean(confidence[1]),
        )

    def _assign(self, outputs: Sequence[torch.Tensor], boxes: torch.Tensor, labels: torch.Tensor) -> _Objects:
        """The cell and anchor of each box."""
        image, number = torch.nonzero(labels >= 0, as_tuple=True)
        corners = boxes[image, number].to(outputs[0].dtype)
        box = torch.cat([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]], dim=1)
        height, width = (size * self.strides[0] for size in outputs[0].shape[2:4])
        inside = (box[:, 2:] > 0).all(1) & (box[:, :2] >= 0).all(1) & (box[:, 0] < width) & (box[:, 1] < height)
        if not bool(inside.all()):
            found = [round(float(value), 2) for value in corners[~inside][0]]
            cause = f"hold {found}; a box is x1 < x2, y1 < y2, with its centre in the {height} x {width} pixels."
            raise InputError("boxes", cause)
        shared = torch.minimum(box[:, None, 2:], self.anchors[None].to(box.dtype)).prod(-1)
        union = box[:, 2:].prod(-1)[:, None] + self.anchors.to(box.dtype).prod(-1)[None] - shared
        anchor = (shared / union).argmax(dim=1)
        stride = torch.tensor(self.strides, device=box.device, dtype=box.dtype)[anchor // _PER_SCALE]
        column, row = (box[:, 0] / stride).long(), (box[:, 1] / stride).long()
        return _Objects(image, anchor, row, column, box, labels[image, number].long())

    def _box_errors(self, found: torch.Tensor, mine: _Objects, stride: int) -> torch.Tensor:
        """Squared errors of each box of a scale."""
        cell = torch.stack([mine.column, mine.row], dim=1)
        offset = mine.box[:, :2] / stride - cell
        size = torch.log(mine.box[:, 2:] / self.anchors[mine.anchor].to(mine.box.dtype))
        return ((found[:, :2].sigmoid() - offset) ** 2 + (found[:, 2:] - size) ** 2).sum(dim=1)

    @torch.no_grad()
    def _overlapping(self, scale: int, output: torch.Tensor, objects: _Objects) -> torch.Tensor:
        """Where a predicted box overlaps one of its image's by more than ``ignore``; (B, 3, H, W)."""
        stride, own = self.strides[scale], self.anchors[_PER_SCALE * scale : _PER_SCALE * (scale + 1)]
        rows, columns = (torch.arange(size, device=output.device) for size in output.shape[2:4])
        cell = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
        centre = (output[..., :2].sigmoid() + cell) * stride
        size = own[None, :, None, None].to(output.dtype) * output[..., 2:4].clamp(max=_LARGEST).exp()
        low, high = centre - size / 2, centre + size / 2
        found = torch.zeros(output.shape[:-1], dtype=torch.bool, device=output.device)
        for image, box in zip(objects.image.tolist(), objects.box, strict=True):
            corner, other = box[:2] - box[2:] / 2, box[:2] + box[2:] / 2
            shared = (torch.minimum(high[image], other) - torch.maximum(low[image], corner)).clamp(min=0).prod(-1)
            found[image] |= shared > self.ignore * (size[image].prod(-1) + box[2:].prod() - shared)
        return found

    def _check(self, outputs: Sequence[torch.Tensor], boxes: torch.Tensor, labels: torch.Tensor) -> None:
        shapes = [tuple(output.shape) for output in outputs]
        batch, sizes = (
            len(boxes),
            [tuple(n * s for n in shape[2:4]) for shape, s in zip(shapes, self.strides, strict=False)],
        )
        fit = all(len(shape) == 5 and shape[:2] == (batch, _PER_SCALE) and shape[4] > 5 for shape in shapes)
        if len(shapes) != len(self.strides) or not fit or len(set(sizes)) != 1:
            wanted = f"{len(self.strides)} of (B, 3, H, W, 5 + C), of one image size at strides {self.strides}"
            raise ValueError(f"outputs must be {wanted}, got {shapes} for {batch} images.")
        if boxes.shape != (*labels.shape, 4) or labels.ndim != 2:
            raise ValueError(f"boxes must be (B, n, 4) and labels (B, n), got {boxes.shape} and {labels.shape}.")
        classes = shapes[0][4] - 5
        if labels.numel() and not -1 <= int(labels.min()) <= int(labels.max()) < classes:
            found = f"{int(labels.min())} to {int(labels.max())}"
            raise InputError("labels", f"hold {found}; they are 0 to {classes - 1}, or -1 for no box.")


def _mean(values: torch.Tensor) -> torch.Tensor:
    """Of nothing 0, which still has a gradient."""
    return values.sum() / max(len(values), 1)
