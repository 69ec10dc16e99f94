"""ResNet-50 for transfer learning in paper 2: ImageNet's features as they are, or tuned, and a new dense layer."""

from __future__ import annotations

import torch
from monai.networks.nets import ResNet
from torch import nn

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class TransferResNet50(ResNet):
    """ResNet-50 without its top, global average pooling, and a dense layer, the head.

    MONAI's ResNet-50 with torchvision's strides: names and output are torchvision's, so that its ImageNet weights fit.
    They come from outside, as for every network here, and never by chance: :func:`with_imagenet_weights` with
    ``architecture="resnet50"`` and ``head="fc"`` fills the backbone, and refuses where they are not found. Without it
    (or with ``pretrained=False``) the backbone is random: right for training from scratch with ``frozen=False``;
    features of a frozen random one mean nothing.

    ``frozen`` is transfer learning: the backbone's parameters take no gradient, and its batch normalisation goes by the
    stored means and variances and never updates them, whatever calls :meth:`train`; only the head learns.
    ``frozen=False`` is fine-tuning: everything learns, and batches are normalised by their own statistics. A
    ``state_dict`` is the same either way, and either network, in evaluation, gives the same output with it.

    Mean and standard deviation of ImageNet are taken off inside, as :class:`PatchClassifier` does for paper 1; the
    caller gives grey values in [0, 1] and does not normalise them. The head starts as Keras's Dense does (Glorot
    uniform, zero bias), since the paper trained in Keras.

    Args:
        num_classes: outputs.
        frozen: keep the backbone as it is.
        width: channels of the first convolution, 64 in ResNet-50; others are for CPUs and tests, and ImageNet's weights
            do not fit them.

    Attributes:
        cam_layer: name of the layer for Grad-CAM: the last one with a spatial map.

    Shape:
        image: (B, 1, H, W), repeated to three channels, or (B, 3, H, W), float32 in [0, 1]; the last map is H / 32 x
        W / 32, rounded up. Returns (B, num_classes) float32 logits.

    Raises:
        ValueError: if an argument is out of its range, or an image has other channels.

    Source:
        Shen et al., 2.6 and 3.5: 23,561,152 parameters with running means and variances, without the head; 4,098
        trainable. He et al., arXiv:1512.03385; ``torchvision.models.resnet50``.

    Example:
        >>> TransferResNet50(width=1).eval()(torch.zeros(1, 1, 64, 64)).shape
        torch.Size([1, 2])
    """

    def __init__(self, num_classes: int = 2, *, frozen: bool = True, width: int = 64) -> None:
        for name, value, unit in (("num_classes", num_classes, "classes"), ("width", width, "channels")):
            if value < 1:
                raise ValueError(f"{name} must be >= 1 ({unit}), got {value}.")
        super().__init__(
            "bottleneck",
            [3, 4, 6, 3],
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=2,
            n_input_channels=3,
            conv1_t_stride=2,
            bias_downsample=False,
            num_classes=num_classes,
        )
        self.fc: nn.Linear = nn.Linear(32 * width, num_classes)
        nn.init.xavier_uniform_(self.fc.weight)
        nn.init.zeros_(self.fc.bias)
        self.mean = nn.Buffer(torch.tensor(_IMAGENET_MEAN).reshape(1, 3, 1, 1), persistent=False)
        self.std = nn.Buffer(torch.tensor(_IMAGENET_STD).reshape(1, 3, 1, 1), persistent=False)
        self.frozen, self.cam_layer = frozen, "layer4"
        if frozen:
            self.requires_grad_(False)
            self.fc.requires_grad_(True)
        self.train(self.training)

    def train(self, mode: bool = True) -> TransferResNet50:
        """Set training mode; a frozen backbone stays in evaluation, or batch normalisation would learn."""
        super().train(mode)
        if self.frozen:
            for name, part in self.named_children():
                if name != "fc":
                    part.eval()
        return self

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits."""
        if image.ndim != 4 or image.shape[1] not in (1, 3):
            raise ValueError(f"image must be (B, 1, H, W) or (B, 3, H, W), got {list(image.shape)}.")
        # MONAI's forward, spelled out: TorchScript knows no super()
        maps = self.maxpool(self.act(self.bn1(self.conv1((image - self.mean) / self.std))))
        maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        logits: torch.Tensor = self.fc(self.avgpool(maps).flatten(1))
        return logits
