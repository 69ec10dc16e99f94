"""The feature extractor of paper 4: ResNet-101, guided by a segmentation's features and gated channel by channel."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.nets import ResNet
from torch import nn

from bonemonai.networks.checkpointing import run_checkpointed
from bonemonai.networks.gated_channels import GatedChannels

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class BoneClassifier(ResNet):
    """ResNet-101 up to its global average pooling: one vector a vertebra, for :class:`VertebraFusion`.

    ``local_fusion`` (the paper's LF) joins the segmentation's features of equal scale to what each of conv2_x to
    conv5_x returns; a 1 x 1 convolution brings it back to the stage's channels. It starts as the identity on the
    stage's own channels, or ImageNet's features would be mixed at random before the next stage (ours); its weights on
    the segmentation's channels start as PyTorch's do. ``gates`` (GC) puts a gated channel transformation before the
    first block of each stage; it starts as the identity. Either only adds parameters, ``fusions`` and ``gates``.

    MONAI's ResNet with torchvision's strides: names and output are torchvision's, so that its ImageNet weights fit.
    They come from outside, as for every network here, and never by chance: :func:`with_imagenet_weights` with
    ``architecture="resnet101"`` fills the backbone, and refuses where they are not found. Mean and standard deviation
    of ImageNet are taken off inside, as :class:`TransferResNet50` does; the caller gives grey values in [0, 1].

    Args:
        segmentation_channels: of the four features that ``local_fusion`` joins, finest first:
            :attr:`BoundaryUNet.feature_channels`; the default is its default's. Not looked at without it.
        local_fusion: the switch LF.
        gates: the switch GC.
        layers: bottlenecks of each stage, 3, 4, 23 and 3 in ResNet-101.
        width: channels of the first convolution, 64 in ResNet-101; others are for CPUs and tests, and ImageNet's
            weights do not fit them.

    Attributes:
        channels: of the vector, 32 widths, 2048 in ResNet-101.
        cam_layer: name of the layer for Grad-CAM: the last one with a spatial map.
        checkpointing: recompute the stages in the backward pass instead of keeping their maps; off.

    Shape:
        image: (B, 1, H, W), repeated to three channels, or (B, 3, H, W), float32 in [0, 1], 224 x 224 in the paper;
        features: (B, segmentation_channels, H / 4, W / 4) and so on to H / 32 x W / 32. Returns (B, channels) float32.

    Raises:
        ValueError: if an argument is out of its range, an image has other channels, or features are missing or of other
            sizes.

    Source:
        Zhang et al., 3.5, equation (16), Figures 4 and 5; He et al., arXiv:1512.03385;
        ``torchvision.models.resnet101``.

    Example:
        >>> network = BoneClassifier(local_fusion=False, layers=(1, 1, 1, 1), width=1).eval()
        >>> network(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 32])
    """

    def __init__(
        self,
        segmentation_channels: Sequence[int] = (512, 1024, 1024, 512),
        *,
        local_fusion: bool = True,
        gates: bool = True,
        layers: Sequence[int] = (3, 4, 23, 3),
        width: int = 64,
    ) -> None:
        for name, values, unit in (
            ("segmentation_channels", segmentation_channels, "channels"), ("layers", layers, "bottlenecks")
        ):  # fmt: skip
            if len(values) != 4 or min(values) < 1:
                raise ValueError(f"{name} must be four numbers >= 1 ({unit} of each stage), got {tuple(values)}.")
        if width < 1:
            raise ValueError(f"width must be >= 1 (channels), got {width}.")
        super().__init__(
            "bottleneck",
            list(layers),
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            bias_downsample=False,
            feed_forward=False,
        )
        self.channels, self.checkpointing, self.local_fusion = 32 * width, False, local_fusion
        self.segmentation_channels = tuple(segmentation_channels)
        made = [4 * width * 2**stage for stage in range(4)]
        self.gates = nn.ModuleList(GatedChannels(given) if gates else nn.Identity() for given in [width, *made[:3]])
        self.fusions = nn.ModuleList(
            _fusion(own, joined) for own, joined in zip(made, segmentation_channels, strict=True) if local_fusion
        )
        self.cam_layer = "fusions.3" if local_fusion else "layer4"
        self.mean = nn.Buffer(torch.tensor(_IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(_IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)

    def forward(self, image: torch.Tensor, features: Sequence[torch.Tensor] | None = None) -> torch.Tensor:
        """Return the vectors; ``features`` are a segmentation's, needed with and ignored without ``local_fusion``."""
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"image must be (B, 1, H, W) or (B, 3, H, W), got {tuple(image.shape)}.")
        if self.local_fusion and (features is None or len(features) != 4):
            given = "none" if features is None else len(features)
            raise ValueError(f"features must be the segmentation's four (local_fusion joins them), got {given}.")
        maps: torch.Tensor = self.maxpool(self.act(self.bn1(self.conv1((image - self.mean) / self.std))))
        for number, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            maps = self.gates[number](maps)
            maps = run_checkpointed(stage, maps) if self.checkpointing else stage(maps)
            if self.local_fusion and features is not None:
                maps = self._fused(number, maps, features[number])
        vectors: torch.Tensor = self.avgpool(maps).flatten(1)
        return vectors

    def _fused(self, number: int, maps: torch.Tensor, feature: torch.Tensor) -> torch.Tensor:
        wanted = (len(maps), self.segmentation_channels[number], *maps.shape[2:])
        if tuple(feature.shape) != wanted:
            raise ValueError(
                f"features[{number}] must be {wanted} (as many sides as the stage's map), got {tuple(feature.shape)}."
            )
        fused: torch.Tensor = self.fusions[number](torch.cat([maps, feature], dim=1))
        return fused


def _fusion(channels: int, joined: int) -> nn.Conv2d:
    """Make the 1 x 1 convolution that starts as the identity on the first channels, with the others' part added."""
    convolution = nn.Conv2d(channels + joined, channels, 1)
    with torch.no_grad():
        convolution.weight[:, :channels] = torch.eye(channels, device=convolution.weight.device)[:, :, None, None]
    nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
    return convolution
