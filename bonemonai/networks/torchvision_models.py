"""Classifiers of torchvision, an extra: the baselines of paper 4."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from bonemonai.errors import InputError
from bonemonai.networks.imagenet_weights import with_imagenet_weights

# torchvision's function, its last layer, arguments; ImageNet's GoogLeNet saw images that were normalised otherwise,
# which transform_input makes up for: always, since weights do not say whether they began as ImageNet's
_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "alexnet": ("alexnet", "classifier.6", {}),
    "vgg19": ("vgg19", "classifier.6", {}),
    "googlenet": ("googlenet", "fc", {"aux_logits": False, "init_weights": True, "transform_input": True}),
    "resnet50": ("resnet50", "fc", {}),
    "resnet101": ("resnet101", "fc", {}),
    "densenet121": ("densenet121", "classifier", {}),
    "shufflenet": ("shufflenet_v2_x1_0", "fc", {}),
    "efficientnet": ("efficientnet_b0", "classifier.1", {}),
}
_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_LIBRARIES: list[Any] = []  # an operator lives as long as the library that defined it


def torchvision_classifier(architecture: str, num_classes: int, *, pretrained: bool | str | Path = False) -> nn.Module:
    """Build one of torchvision's classifiers, its last layer for other classes than ImageNet's.

    Args:
        architecture: "alexnet", "vgg19", "googlenet", "resnet50", "resnet101", "densenet121", "shufflenet" (V2, x1.0)
            or "efficientnet" (B0).
        num_classes: outputs.
        pretrained: False starts from random weights; True and a path from ImageNet's but for the last layer, see
            :func:`with_imagenet_weights`.

    Returns:
        The network, (B, 3, H, W) float32 -> (B, num_classes) logits. The caller normalises images as ImageNet's are:
        :class:`PairClassifier` does. GoogLeNet has no auxiliary classifiers.

    Raises:
        InputError: if the architecture is another, torchvision is not installed, or ImageNet's weights are missing,
            cannot be read or do not fit.
        ValueError: if ``num_classes`` is below 1.

    Source:
        Zhang et al., 4.3.2, which names "ShuffleNet" and "EfficientNet" without a version; ``torchvision.models``.

    Example:
        >>> network = torchvision_classifier("shufflenet", 3).eval()
        >>> network(torch.zeros(1, 3, 64, 64)).shape
        torch.Size([1, 3])
    """
    if architecture not in _MODELS:
        raise InputError("architecture", f"must be one of {', '.join(_MODELS)}, got {architecture!r}.")
    if num_classes < 1:
        raise ValueError(f"num_classes must be >= 1 (classes), got {num_classes}.")
    name, head, arguments = _MODELS[architecture]
    network: nn.Module = getattr(import_torchvision_models(), name)(weights=None, num_classes=num_classes, **arguments)
    return with_imagenet_weights(network, architecture, pretrained, head=head)


def import_torchvision_models() -> ModuleType:
    """Import ``torchvision.models``.

    Beside another build of PyTorch than it was made for, torchvision's compiled operators do not load, and it does not
    import without them. Its models need none: they are declared then, and fail only where they are called.

    Raises:
        InputError: if torchvision is not installed, or cannot be imported for another reason.
    """
    try:
        return importlib.import_module("torchvision.models")
    except ImportError as error:
        raise _refusal(error) from error
    except (RuntimeError, AttributeError) as error:
        # an AttributeError where MONAI has tried before, and a part of an older torchvision is left
        if not re.search("torchvision::|partially initialized module 'torchvision'", str(error)):
            raise _refusal(error) from error
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    library = torch.library.Library("torchvision", "DEF")
    for name in _OPERATORS:
        library.define(f"{name}{_SIGNATURE}")
    _LIBRARIES.append(library)
    try:
        return importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError) as error:
        raise _refusal(error) from error


def _refusal(error: Exception) -> InputError:
    cure = "this network needs the extra comparators: pip install 'bonemonai[comparators]'."
    return InputError("torchvision", f"cannot be imported ({error}); {cure}")
