"""The segmentation network of paper 4: one encoder, a decoder for the vertebra and one for its boundary."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from monai.networks.blocks.dynunet_block import UnetResBlock, UnetUpBlock
from torch import nn

from bonemonai.networks.checkpointing import run_checkpointed

_SCALES = 5


class BoundaryPrediction(NamedTuple):
    """What :class:`BoundaryUNet` returns.

    Attributes:
        mask: (B, 1, H, W), logits of the vertebra.
        boundary: (B, 1, H, W), heat map of its boundary, 0 to 1; None without the boundary branch.
        features: for the classifier, at 1 / 4, 1 / 8, 1 / 16 and 1 / 32 of the image's sides (56, 28, 14, 7): the mask
            decoder's map and the boundary decoder's, joined along the channels, the mask decoder's first. At 1 / 32
            both decoders start from the encoder's last map, which stands there once.
    """

    mask: torch.Tensor
    boundary: torch.Tensor | None
    features: tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


class BoundaryUNet(nn.Module):
    """U-Net with residual blocks in the encoder, a mask decoder and a boundary decoder.

    The last map of the boundary decoder, before its head, is joined to the mask decoder's; the mask's head sees both.

    The paper prints no numbers of channels and no details. Inferred: five down-samplings, since the classifier takes
    decoder maps of 56, 28, 14 and 7. Ours, from U-Net, which the paper changes: 2 x 2 max-pooling, 2 x 2
    up-convolution, the encoder's map of the same size joined, two 3 x 3 convolutions; and channels that double three
    times and then stay (64, 128, 256, 512, 512, 512). The blocks are MONAI's, with batch normalisation and ReLU; a
    residual block's input goes through a 1 x 1 convolution where the channels change. Heads are 1 x 1 convolutions.

    Args:
        in_channels: of the image.
        width: channels of the first block; 64 in U-Net, smaller ones are for CPUs and tests.
        boundary: with the boundary branch; False leaves a residual U-Net, for comparison.

    Attributes:
        feature_channels: of the four maps for the classifier, finest first.
        checkpointing: recompute the blocks in the backward pass instead of keeping their maps; off.

    Shape:
        image: (B, in_channels, H, W) float32, grey in [0, 1], H and W multiples of 32, 224 x 224 in the paper. Returns
        a :class:`BoundaryPrediction`.

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or sides.

    Source:
        Zhang et al., 3.4 and Figure 2; Ronneberger et al., arXiv:1505.04597.

    Example:
        >>> prediction = BoundaryUNet(width=1).eval()(torch.zeros(1, 1, 64, 64))
        >>> prediction.mask.shape, [maps.shape[-1] for maps in prediction.features]
        (torch.Size([1, 1, 64, 64]), [16, 8, 4, 2])
    """

    def __init__(self, in_channels: int = 1, *, width: int = 64, boundary: bool = True) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be >= 1 (channels), got {value}.")
        self.in_channels, self.boundary, self.checkpointing = in_channels, boundary, False
        channels = [width * min(2**number, 8) for number in range(_SCALES + 1)]
        decoders = 1 + boundary
        self.feature_channels = (*(decoders * made for made in channels[2:_SCALES]), channels[-1])
        self.encoder = nn.ModuleList(
            UnetResBlock(2, given, made, kernel_size=3, stride=1, norm_name="batch", act_name="relu")
            for given, made in pairwise([in_channels, *channels])
        )
        self.pool = nn.MaxPool2d(2)
        self.mask_decoder = _decoder(channels)
        self.mask_head = nn.Conv2d(decoders * width, 1, 1)
        if boundary:
            self.boundary_decoder = _decoder(channels)
            self.boundary_head = nn.Conv2d(width, 1, 1)

    def forward(self, image: torch.Tensor) -> BoundaryPrediction:
        """Return mask, boundary and the features for the classifier."""
        if image.ndim != 4 or image.shape[1] != self.in_channels:
            raise ValueError(f"image must be (B, {self.in_channels}, H, W), got {tuple(image.shape)}.")
        rows, columns = image.shape[2:]
        if rows < 1 or columns < 1 or rows % 2**_SCALES or columns % 2**_SCALES:
            raise ValueError(
                f"image must have multiples of 32 x 32 pixels (five poolings halve it), got {rows} x {columns}; crop "
                "or pad it."
            )
        maps = [self._run(self.encoder[0], image)]
        for block in self.encoder[1:]:
            maps.append(self._run(block, self.pool(maps[-1])))
        decoded = [self._decode(self.mask_decoder, maps)]
        heat = None
        if self.boundary:
            decoded.append(self._decode(self.boundary_decoder, maps))
            heat = self.boundary_head(decoded[1][0]).sigmoid()
        joined = [torch.cat(same, dim=1) for same in zip(*decoded, strict=True)]
        return BoundaryPrediction(self.mask_head(joined[0]), heat, (joined[2], joined[3], joined[4], maps[-1]))

    def _decode(self, decoder: nn.ModuleList, maps: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return the decoder's maps, finest first."""
        features, decoded = maps[-1], []
        for block, skipped in zip(decoder, reversed(maps[:-1]), strict=True):
            features = self._run(block, features, skipped)
            decoded.append(features)
        return decoded[::-1]

    def _run(self, block: nn.Module, *inputs: torch.Tensor) -> Any:
        return run_checkpointed(block, *inputs) if self.checkpointing else block(*inputs)


def _decoder(channels: Sequence[int]) -> nn.ModuleList:
    return nn.ModuleList(
        UnetUpBlock(2, deep, made, kernel_size=3, stride=1, upsample_kernel_size=2, norm_name="batch", act_name="relu")
        for deep, made in pairwise(reversed(channels))
    )
