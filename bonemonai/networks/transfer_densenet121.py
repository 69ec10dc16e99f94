"""DenseNet-121 for transfer learning, paper 3's comparator: ImageNet's weights to start from, three outputs."""

from __future__ import annotations

import torch
from monai.networks.nets import DenseNet121
from torch import nn

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TransferDenseNet121(DenseNet121):
    """DenseNet-121 with another number of outputs, all of whose weights learn.

    MONAI's DenseNet-121, whose output is torchvision's. ImageNet's weights come from outside, as for every network
    here, and never by chance: :func:`with_imagenet_weights` with ``architecture="densenet121"`` and
    ``head="class_layers.out"`` fills everything but the last layer, and refuses where they are not found. Without it
    (or with ``pretrained=False``) all weights are random, which is not the paper's comparator.

    Mean and standard deviation of ImageNet are taken off inside, as :class:`TransferResNet50` does; the caller gives
    grey values in [0, 1] and does not normalise them.

    Args:
        num_classes: outputs.
        growth_rate: channels that a dense layer adds, 32 in DenseNet-121; the first convolution has twice as many.
            Others are for CPUs and tests, and ImageNet's weights do not fit them.

    Attributes:
        cam_layer: name of the layer for Grad-CAM: the ReLU behind the last map.

    Shape:
        image: (B, 1, H, W), repeated to three channels, or (B, 3, H, W), float32 in [0, 1], at least 32 x 32, 224 x 224
        in the paper; the last map is H / 32 x W / 32. Returns (B, num_classes) float32 logits.

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels or is too small.

    Source:
        Tang et al., 3.5 and Table 5; Huang et al., CVPR 2017; ``torchvision.models.densenet121``.

    Example:
        >>> TransferDenseNet121(growth_rate=1).eval()(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 3])
    """

    def __init__(self, num_classes: int = 3, *, growth_rate: int = 32) -> None:
        for name, value, unit in (("num_classes", num_classes, "classes"), ("growth_rate", growth_rate, "channels")):
            if value < 1:
                raise ValueError(f"{name} must be >= 1 ({unit}), got {value}.")
        super().__init__(
            spatial_dims=2,
            in_channels=3,
            out_channels=num_classes,
            init_features=2 * growth_rate,
            growth_rate=growth_rate,
        )
        self.mean = nn.Buffer(torch.tensor(_IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(_IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)
        self.cam_layer = "class_layers.relu"

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"image must be (B, 1, H, W) or (B, 3, H, W), got {list(image.shape)}.")
        if min(image.shape[2:]) < 32:
            rows, columns = image.shape[2:]
            raise ValueError(
                f"image must have at least 32 x 32 pixels (pooling leaves nothing of fewer), got {rows} x {columns}; "
                "resize it."
            )
        # MONAI's forward, spelled out: TorchScript knows no super()
        logits: torch.Tensor = self.class_layers(self.features((image - self.mean) / self.std))
        return logits
