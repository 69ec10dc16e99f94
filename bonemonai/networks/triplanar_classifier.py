"""A classifier of slices applied to blocks: what the slices through each voxel say, in three directions."""

from __future__ import annotations

import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms import Resize
from torch import nn


class TriplanarClassifier(nn.Module):
    """Classify every XY, XZ and YZ slice of a block; a voxel gets the mean of the three slices through it.

    A slice's probability holds for all its voxels, so the map is as fine as the block is small: run over a scan in
    overlapping windows, such as those of :class:`bonemonai.inferers.StreamingInferer` in mode "constant", windows whose
    edge is that of the slices the classifier was trained on.

    Args:
        classifier: takes (B, 1, image_size, image_size), gives (B, classes) logits.
        image_size: rows and columns that slices are resized to, as in training, by MONAI's ``Resize``.
        channel: class whose probability is mapped.
        batch_size: slices at once.

    Shape:
        block: (B, 1, D, H, W) float32 in [0, 1]. Returns (B, 4, D, H, W) float32 probabilities in [0, 1]: the mean of
        the three directions, and XY, XZ, YZ.

    Source:
        Shen et al. classify slices of the three directions, 2.1; the map is ours.
    """

    def __init__(self, classifier: nn.Module, image_size: int, *, channel: int = 1, batch_size: int = 20) -> None:
        super().__init__()
        if image_size < 1 or batch_size < 1:
            raise ValueError(f"image_size and batch_size must be >= 1, got {image_size} and {batch_size}.")
        self.classifier, self.image_size = classifier, image_size
        self.channel, self.batch_size = channel, batch_size
        self._resize = Resize((image_size, image_size), mode="bilinear", anti_aliasing=True)

    def forward(self, block: torch.Tensor) -> torch.Tensor:
        """Return the probabilities."""
        if block.ndim != 5 or block.shape[1] != 1:
            raise ValueError(f"block must be (B, 1, D, H, W), got {tuple(block.shape)}.")
        maps = []
        for axis in (2, 3, 4):
            shape = [1] * 5
            shape[0], shape[axis] = block.shape[0], block.shape[axis]
            maps.append(self._slices(block.movedim(axis, 1).flatten(0, 1)).reshape(shape).expand_as(block))
        directions = torch.cat(maps, dim=1)
        return torch.cat([directions.mean(dim=1, keepdim=True), directions], dim=1)

    def _slices(self, slices: torch.Tensor) -> torch.Tensor:
        """(N,) probabilities of (N, 1, rows, columns)."""
        found = []
        for some in slices.split(self.batch_size):
            # slices as channels of one image: the very transform of training
            resized = self._resize(some[:, 0])
            resized = (resized.as_tensor() if isinstance(resized, MetaTensor) else resized)[:, None]
            found.append(self.classifier(resized).softmax(dim=1)[:, self.channel])
        return torch.cat(found)
