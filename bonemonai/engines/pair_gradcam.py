"""Grad-CAM of paper 4's network: what in the crops of L1 and L2 speaks for a class."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from bonemonai.networks.multitask_network import MultitaskNetwork


def pair_gradcam(
    network: MultitaskNetwork, images: torch.Tensor, centres: torch.Tensor, labels: torch.Tensor | None = None
) -> torch.Tensor:
    """Weigh the last maps of the classifier by the class's gradient, vertebra by vertebra.

    MONAI's GradCAM takes networks that return logits only, and keeps hooks; the weights here are its own: the mean
    gradient of each channel over the map.

    Args:
        network: in evaluation.
        images: (B, 2, 1, H, W), see :class:`bonemonai.networks.MultitaskNetwork`.
        centres: (B, 2, 2), where crops are cut; NaN for a vertebra that is not there.
        labels: (B,) int64, the class of each case; the predicted one by default.

    Returns:
        (B, 2, crop_size, crop_size) float32, >= 0, not scaled; 0 where nothing speaks for the class and where there is
        no crop.

    Source:
        Selvaraju et al., arXiv:1610.02391; Zhang et al., Figs. 11 and 12.
    """
    kept: list[torch.Tensor] = []
    layer = dict(network.classifier.named_modules())[network.classifier.cam_layer]
    hook = layer.register_forward_hook(lambda module, given, made: kept.append(made))
    with torch.enable_grad():
        try:
            found = network(images, centres, parts=("segmenter", "classifier"))
        finally:
            hook.remove()
        maps = torch.zeros((len(images) * 2, *found.crops.shape[2:]), device=images.device)
        decided = found.found.any(dim=1)
        if bool(decided.any()):
            classes = found.logits.argmax(dim=1) if labels is None else labels
            chosen = found.logits[decided].gather(1, classes[decided][:, None]).sum()
            # of the maps only: the parameters' own gradients stay as they are
            (gradient,) = torch.autograd.grad(chosen, kept[:1])
            weighed = (gradient.mean(dim=(2, 3), keepdim=True) * kept[0]).sum(dim=1, keepdim=True).clamp(min=0)
            enlarged = F.interpolate(weighed.float(), size=maps.shape[1:], mode="bilinear", align_corners=False)
            maps[found.found.flatten()] = enlarged[:, 0].detach()
    pairs: torch.Tensor = maps.unflatten(0, (-1, 2))
    return pairs
