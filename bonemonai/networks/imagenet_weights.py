"""ImageNet weights from a file on this machine: never a download, never a silent random start."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from monai.networks.nets import DenseNet
from torch import nn

from bonemonai.errors import InputError
from bonemonai.networks.state_dict import read_state_dict

# torchvision's files of IMAGENET1K_V1; the digits begin their sha256
_FILES = {
    "vgg16": "vgg16-397923af.pth",
    "vgg19": "vgg19-dcbb9e9d.pth",
    "alexnet": "alexnet-owt-7be5be79.pth",
    "googlenet": "googlenet-1378be20.pth",
    "resnet50": "resnet50-0676ba61.pth",
    "resnet101": "resnet101-63fe2227.pth",
    "densenet121": "densenet121-a639ec97.pth",
    "shufflenet": "shufflenetv2_x1-5666bf0f80.pth",
    "efficientnet": "efficientnet_b0_rwightman-7f5810bc.pth",
}
# the file of DenseNet is older than torchvision's names and says norm.1 for norm1
_OLD_NAMES = (re.compile(r"(\.denselayer\d+)\.(norm|conv)\.([12])\."), r"\1.\2\3.")
# torchvision's names -> MONAI's
_MONAI_NAMES = (
    (re.compile(r"(\.denselayer\d+)\.(norm|conv)([12])\."), r"\1.layers.\2\3."),
    (re.compile(r"^classifier\."), "class_layers.out."),
)


def with_imagenet_weights(
    network: nn.Module, architecture: str, pretrained: bool | str | Path, *, head: str = ""
) -> nn.Module:
    """Fill a network with ImageNet weights, or leave it as it is.

    What the network has besides, such as attention or a decoder, and ``head``, whose classes are not ImageNet's, keep
    their initial values; parts of the file that the network does not have, such as VGG16's classifier for a
    segmentation network, are left out. Everything else must fit.

    Args:
        network: with torchvision's names; DenseNet-121 with torchvision's or, where it is MONAI's, with MONAI's.
        architecture: "vgg16", "vgg19", "alexnet", "googlenet", "resnet50", "resnet101", "densenet121", "shufflenet"
            (V2, x1.0) or "efficientnet" (B0).
        pretrained: False leaves the network as it is; True takes torchvision's file from PyTorch's cache
            (``torch.hub.get_dir()/checkpoints``), where torchvision puts it; else the path of such a file.
        head: name of the last layer, such as "classifier.6".

    Raises:
        InputError: if the file is missing, cannot be read, or does not fit.
    """
    if architecture not in _FILES:
        raise InputError("architecture", f"must be one of {', '.join(_FILES)}, got {architecture!r}.")
    if pretrained is False:
        return network
    path = Path(torch.hub.get_dir(), "checkpoints", _FILES[architecture]) if pretrained is True else Path(pretrained)
    renames = {"densenet121": (_OLD_NAMES, *(_MONAI_NAMES if isinstance(network, DenseNet) else ()))}
    state = {
        name: value
        for name, value in _read(path, renames.get(architecture, ())).items()
        if not head or not name.startswith(f"{head}.")
    }
    own = network.state_dict()
    parts = {name.split(".")[0] for name in own}
    state = {name: value for name, value in state.items() if name.split(".")[0] in parts}
    missing = [
        name for name in own
        if name.split(".")[0] in {key.split(".")[0] for key in state}
        and name not in state and not (head and name.startswith(f"{head}."))
        # a counter that batch normalisation's older files lack
        and not name.endswith(".num_batches_tracked")
    ]  # fmt: skip
    wrong = [name for name, value in state.items() if name not in own or own[name].shape != value.shape]
    if not state or missing or wrong:
        named = next(iter([*missing, *wrong]), "every layer")
        raise InputError(path, f"does not fit the network: {named} differs; a width other than the paper's, perhaps.")
    network.load_state_dict(state, strict=False)
    return network


def _read(path: Path, renames: Iterable[tuple[re.Pattern[str], str]]) -> Mapping[str, torch.Tensor]:
    if not path.is_file():
        raise InputError(
            path,
            "no such ImageNet weights: put torchvision's file there, say --pretrained FILE, or --pretrained False to "
            "start from random weights.",
        )
    state = read_state_dict(path)
    for pattern, replacement in renames:
        state = {pattern.sub(replacement, name): value for name, value in state.items()}
    return state
