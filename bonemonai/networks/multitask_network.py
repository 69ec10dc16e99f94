"""The whole network of paper 4: find the vertebrae, outline them, classify the bone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

import torch
from torch import nn

from bonemonai.networks.bone_classifier import BoneClassifier
from bonemonai.networks.boundary_unet import BoundaryUNet
from bonemonai.networks.darknet53 import DarkNet53
from bonemonai.networks.vertebra_crop import crop_at, crop_corners
from bonemonai.networks.vertebra_fusion import VertebraFusion
from bonemonai.networks.yolo_v3 import YOLOv3

PARTS = ("locator", "segmenter", "classifier")
_EMPTY = -100.0  # the logit of a mask that is not there: sigmoid 0, and finite, for the losses
_ON_IT = 1 / 8  # of a crop's edge: a box that is found farther off the true centre is not the vertebra's


class MultitaskPrediction(NamedTuple):
    """What :class:`MultitaskNetwork` returns. A slice's number is 2 b for L1 and 2 b + 1 for L2 of case b.

    Attributes:
        outputs: of the locator, raw, of strides 8, 16 and 32; 2 B slices each. :meth:`YOLOv3.decode` and
            :meth:`YOLOv3.detect` read them. None where the locator was left out.
        corners: (2 B, 2), first row and column of each crop in its slice, int64; for :func:`crop_at`, to cut labels
            likewise. A vertebra that was not found has a crop outside the slice.
        crops: (2 B, C, crop_size, crop_size), what was cut out.
        mask: (2 B, 1, crop_size, crop_size), logits; -100 where no vertebra was found.
        boundary: (2 B, 1, crop_size, crop_size), heat map, 0 to 1; 0 where no vertebra was found, None without the
            boundary branch.
        logits: (B, num_classes); NaN where neither vertebra was found, and where the classifier was left out.
        weights: (B, 2), of L1 and L2 in the fusion; 0 where the classifier was left out.
        found: (B, 2), bool: whether there is a crop.
    """

    outputs: tuple[torch.Tensor, torch.Tensor, torch.Tensor] | None
    corners: torch.Tensor
    crops: torch.Tensor
    mask: torch.Tensor
    boundary: torch.Tensor | None
    logits: torch.Tensor
    weights: torch.Tensor
    found: torch.Tensor


class MultitaskNetwork(nn.Module):
    """Locator, segmentation, classifier and fusion in a row, trained together.

    The locator sees the whole slices; around the centre of each vertebra's best box a square is cut, by whole pixels
    and with zeros beyond the slice; it is outlined, and classified with the outline's features; both vertebrae give
    one class. No gradient passes through the place of a crop, so that the locator learns by its own losses only. Until
    it finds something, give the true centres.

    A vertebra that is not found is absent, never guessed: its crop does not enter the segmentation or the classifier
    (nor their batch statistics), and the other vertebra decides alone. Where neither is found the logits are NaN, to be
    left out of the loss (``found.any(dim=1)``) and reported as missing.

    Args:
        locator: with the classes L1 and L2, or one class for both: each slice shows one vertebra, whose level is known.
        segmenter: its ``feature_channels`` must be the classifier's ``segmentation_channels`` where this uses them.
        classifier: with ImageNet's weights, or not, by :func:`with_imagenet_weights`.
        fusion: of the classifier's ``channels``.
        crop_size: rows and columns of a crop, pixels, a multiple of 32, 64 or more; 224 in the paper.
        score_threshold: least objectness of a box that counts; ours, the paper prints none.
        checkpointing: recompute the large blocks in the backward pass instead of keeping their maps: less memory, more
            time, the same numbers.

    Shape:
        images: (B, 2, C, H, W) float32, grey in [0, 1], the central slices of L1 and L2; 512 x 512 with one channel in
        the paper. centres: (B, 2, 2), row and column, pixels (pixel k reaches from k to k + 1), NaN for a vertebra that
        is not there. Returns a :class:`MultitaskPrediction`.

    Raises:
        ValueError: if the parts do not fit each other, an argument is out of its range, or images or centres have other
            shapes.

    Source:
        Zhang et al., 3.1 to 3.6, Figures 1 and 2.

    Example:
        >>> segmenter = BoundaryUNet(width=1)
        >>> network = MultitaskNetwork(
        ...     YOLOv3(2, [(8 * n, 8 * n) for n in range(1, 10)], width=1), segmenter,
        ...     BoneClassifier(segmenter.feature_channels, layers=(1, 1, 1, 1), width=1), VertebraFusion(32),
        ...     crop_size=64,
        ... )
        >>> network.eval()(torch.zeros(1, 2, 1, 96, 96), torch.full((1, 2, 2), 48.0)).logits.shape
        torch.Size([1, 3])
    """

    def __init__(
        self,
        locator: YOLOv3,
        segmenter: BoundaryUNet,
        classifier: BoneClassifier,
        fusion: VertebraFusion,
        *,
        crop_size: int = 224,
        score_threshold: float = 0.5,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if locator.num_classes not in (1, 2):
            raise ValueError(
                f"locator must have 2 classes (L1 and L2) or 1 (either), got {locator.num_classes}; set num_classes."
            )
        if classifier.local_fusion and classifier.segmentation_channels != segmenter.feature_channels:
            raise ValueError(
                "classifier's segmentation_channels must be the segmenter's feature_channels "
                f"{segmenter.feature_channels}, got {classifier.segmentation_channels}."
            )
        if fusion.channels != classifier.channels:
            raise ValueError(
                f"fusion's channels must be the classifier's {classifier.channels}, got {fusion.channels}."
            )
        if crop_size < 64 or crop_size % 32:
            # of 32 the last map is one pixel, and batch normalisation of one crop has no variance
            raise ValueError(f"crop_size must be a multiple of 32 from 64 on (pixels), got {crop_size}.")
        if not 0 <= score_threshold <= 1:
            raise ValueError(f"score_threshold must be in [0, 1], got {score_threshold}.")
        self.locator, self.segmenter, self.classifier, self.fusion = locator, segmenter, classifier, fusion
        self.crop_size, self.score_threshold = crop_size, score_threshold
        for part in self.modules():
            if isinstance(part, DarkNet53 | BoundaryUNet | BoneClassifier):
                part.checkpointing = checkpointing

    def forward(
        self,
        images: torch.Tensor,
        centres: torch.Tensor | None = None,
        *,
        prefer_located: bool = False,
        parts: Collection[str] = PARTS,
    ) -> MultitaskPrediction:
        """Return boxes, crops, outlines and classes; crops are at ``centres``, or else where the locator finds them.

        Args:
            images: see the class.
            centres: see the class.
            prefer_located: where the locator finds a vertebra within an eighth of a crop of its true centre, cut there:
                what comes later is to meet crops as inference will give them.
            parts: which of "locator", "segmenter" and "classifier" are run, for trainings that begin with some of them.
                The classifier needs the segmenter; without centres all need the locator.
        """
        self._check(images, centres, parts)
        slices = images.flatten(0, 1)
        outputs = None
        if "locator" in parts or centres is None or prefer_located:
            outputs = self.locator(slices)
        points = self._points(outputs, centres, prefer_located=prefer_located)
        found = points.isfinite().all(dim=1)
        if "segmenter" not in parts:
            found = torch.zeros_like(found)
        corners = crop_corners(points.masked_fill(~found[:, None], torch.nan), self.crop_size)
        crops = crop_at(slices, corners, self.crop_size)
        if torch.compiler.is_compiling():  # exported, no size may depend on what is found: empty crops go along
            kept = torch.arange(len(slices), device=slices.device)
        else:
            kept = found.nonzero()[:, 0]
        pairs = found.unflatten(0, (-1, 2))
        mask = crops.new_full((len(slices), 1, *crops.shape[2:]), _EMPTY)
        boundary = torch.zeros_like(mask) if self.segmenter.boundary else None
        logits = crops.new_full((len(images), self.fusion.fc.out_features), torch.nan)
        weights = crops.new_zeros((len(images), 2))
        if "segmenter" in parts:
            segmented = self.segmenter(crops[kept])
            mask = _spread(segmented.mask, kept, found, _EMPTY)
            boundary = None if segmented.boundary is None else _spread(segmented.boundary, kept, found, 0)
        if "classifier" in parts:
            vectors = _spread(self.classifier(crops[kept], segmented.features), kept, found, 0)
            logits, weights = self.fusion(vectors.unflatten(0, (-1, 2)), pairs)
        return MultitaskPrediction(outputs, corners, crops, mask, boundary, logits, weights, pairs)

    def _check(self, images: torch.Tensor, centres: torch.Tensor | None, parts: Collection[str]) -> None:
        if images.ndim != 5 or images.shape[1] != 2:
            raise ValueError(f"images must be (B, 2, C, H, W), the slices of L1 and L2, got {tuple(images.shape)}.")
        if not set(parts) <= set(PARTS) or not parts or ("classifier" in parts and "segmenter" not in parts):
            raise ValueError(f"parts must be of {', '.join(PARTS)}, the classifier with the segmenter, got {parts}.")
        if centres is None:
            return
        if tuple(centres.shape) != (len(images), 2, 2):
            raise ValueError(
                f"centres must be {(len(images), 2, 2)} (case, vertebra, row and column), got {tuple(centres.shape)}."
            )
        if bool(((centres < 0) | (centres > centres.new_tensor(images.shape[3:]))).any()):
            raise ValueError(
                f"centres must lie in the slice, {' x '.join(map(str, images.shape[3:]))} pixels, got one outside; "
                "give NaN for a vertebra that is not there."
            )

    def _points(
        self, outputs: Sequence[torch.Tensor] | None, centres: torch.Tensor | None, *, prefer_located: bool
    ) -> torch.Tensor:
        """Where crops have their centres, (2 B, 2)."""
        if centres is None:
            return self.locate(outputs or ())
        points = centres.flatten(0, 1)
        if not prefer_located or outputs is None:
            return points
        located = self.locate(outputs)
        near = (located - points).norm(dim=1) <= _ON_IT * self.crop_size  # never of NaN
        return torch.where(near[:, None], located, points)

    @torch.no_grad()
    def locate(self, outputs: Sequence[torch.Tensor]) -> torch.Tensor:
        """Return the centre of the best box of each slice, whichever vertebra the locator takes it for.

        Seen from above L1 and L2 look alike, and whose slice it is, is known: a box that is surely a vertebra, and of
        which is not sure which, has been found all the same.

        Args:
            outputs: of the locator, for slices of L1 and L2 by turns.

        Returns:
            (2 B, 2), row and column, pixels; NaN where no box scores enough.
        """
        best = self.locator.best(outputs)
        centres = (best.boxes[:, [1, 0]] + best.boxes[:, [3, 2]]) / 2
        return centres.masked_fill(~(best.objectness >= self.score_threshold)[:, None], torch.nan)


def _spread(values: torch.Tensor, places: torch.Tensor, found: torch.Tensor, fill: float) -> torch.Tensor:
    """Put each value at its place among as many as there are slices, and nothing where nothing was found."""
    spread = values.new_full((len(found), *values.shape[1:]), fill).index_copy(0, places, values)
    return spread.masked_fill(~found.reshape(-1, *[1] * (values.ndim - 1)), fill)
