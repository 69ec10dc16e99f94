"""Where a classifier looks: Grad-CAM of patches, and the share of it that lies on lacunae."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from monai.data import DataLoader
from monai.visualize import GradCAM
from numpy.typing import NDArray
from torch import nn
from torch.utils.data import Dataset

from bonemonai.data.atomic import atomic_path
from bonemonai.transforms.bone_patches import PATCH_PLACE

logger = logging.getLogger(__name__)


def gradcam_maps(network: nn.Module, layer: str, patches: torch.Tensor) -> tuple[NDArray[Any], NDArray[Any]]:
    """Grad-CAM of the predicted class, up-sampled to the patch.

    Args:
        network: gives (B, classes) logits in evaluation.
        layer: name of the layer whose output is weighted: the last one with a spatial map.
        patches: (B, C, H, W) float32, on the network's device.

    Returns:
        Maps (B, H, W) float32, >= 0, not scaled, 0 everywhere where nothing speaks for the class; and the predicted
        classes (B,).

    Raises:
        ValueError: if there is no such layer.

    Source:
        Selvaraju et al., arXiv:1610.02391; ``monai.visualize.GradCAM``.
    """
    if layer not in dict(network.named_modules()):
        raise ValueError(f"layer must be one of the network's, got {layer!r}.")
    with torch.no_grad(), _evaluating(network):
        logits = network(patches)
    predicted = logits.argmax(1)
    # MONAI's own normaliser turns maps upside down and hides how much there is; its hooks cannot be removed, so that
    # one network is visualised by one object
    visualise = network.__dict__.setdefault("_gradcam", {})
    if layer not in visualise:
        visualise[layer] = GradCAM(network, layer, postprocessing=_unchanged)
    maps = torch.zeros(len(patches), *patches.shape[2:])
    for number in range(logits.shape[1]):
        chosen = predicted == number
        if chosen.any():
            # a layer right behind the image has a gradient only if the image has
            image = patches[chosen].detach().requires_grad_()
            maps[chosen.cpu()] = visualise[layer](image, class_idx=number)[:, 0].detach().float().cpu()
    network.zero_grad(set_to_none=True)
    return maps.numpy(), predicted.cpu().numpy()


def share_on_mask(maps: NDArray[Any], masks: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of each map's mass that lies on its mask, and share of the area, which is what chance would give.

    Args:
        maps: (B, H, W), >= 0.
        masks: (B, H, W), non-zero inside.

    Returns:
        Two arrays (B,) in [0, 1]; the first is NaN where a map is 0 everywhere.
    """
    inside = masks != 0
    mass = maps.astype(np.float64).sum((1, 2))
    on = np.where(inside, maps, 0).astype(np.float64).sum((1, 2))
    return np.divide(on, mass, out=np.full(len(maps), np.nan), where=mass > 0), inside.mean((1, 2))


def write_gradcam(
    network: nn.Module,
    layer: str,
    dataset: Dataset[Any],
    classes: Sequence[str],
    output_dir: str | Path,
    *,
    features_layer: str = "",
    class_key: str = "diagnosis",
    device: torch.device | str = "cpu",
    batch_size: int = 30,
    examples: int = 4,
) -> pd.DataFrame:
    """Write ``gradcam.csv``, a row a patch, and ``gradcam_examples.npz``, the maps of a few patches of each class.

    Columns: ``subject``, ``diagnosis``, ``plane``, ``row``, ``column``, ``decision``, ``share`` (of the map's mass on
    lacunae; empty where nothing speaks for the decision), ``share_features`` (the same at the features before a mask
    weights them: attention puts some of the share there by construction, whatever it has learned) and ``area`` (of
    the patch that is lacuna: what chance would give). The examples are the patches of each class with most lacunae:
    ``image``, ``mask`` and ``map`` (n, H, W), each map's highest value being 1, ``diagnosis``, ``decision`` and
    ``subject`` (n,).

    Args:
        network: a :class:`bonemonai.networks.PatchClassifier`.
        layer: see :func:`gradcam_maps`.
        dataset: items with ``image`` (2, H, W): grey, lacunae.
        classes: names, in the order of the network's outputs.
        output_dir: of both files.
        features_layer: of the features that no mask has weighted; ``layer`` by default.
        class_key: entry that holds the true class.
        device: of the network.
        batch_size: patches at once.
        examples: of each class.
    """
    tables, images, maps = [], [], []
    for batch in DataLoader(dataset, batch_size=batch_size):
        patches = torch.as_tensor(batch["image"]).to(device)
        found, decisions = gradcam_maps(network, layer, patches)
        masks = patches[:, 1].cpu().numpy()
        share, area = share_on_mask(found, masks)
        plain = share_on_mask(gradcam_maps(network, features_layer, patches)[0], masks)[0] if features_layer else share
        columns: dict[str, Any] = {"subject": list(batch["subject"]), "diagnosis": list(batch[class_key])}
        columns |= {name: torch.as_tensor(batch[key]).tolist() for key, name in PATCH_PLACE.items()}
        columns |= {"decision": [classes[number] for number in decisions], "share": share}
        columns |= {"share_features": plain, "area": area}
        tables.append(pd.DataFrame(columns))
        images.append(patches.cpu().numpy().astype(np.float16))
        # of each its own highest value is 1: half precision holds no map of 1e-8
        peak = found.max(axis=(1, 2), keepdims=True)
        maps.append((found / np.where(peak > 0, peak, 1)).astype(np.float16))
    table = pd.concat(tables, ignore_index=True)
    chosen = _examples(table, examples)
    kept = np.concatenate(images)[chosen], np.concatenate(maps)[chosen]
    with atomic_path(Path(output_dir) / "gradcam.csv") as partial:
        table.to_csv(partial, index=False, float_format="%.6g")
    names: dict[str, Any] = {}
    names |= {name: table[name].to_numpy(dtype=str)[chosen] for name in ("subject", "diagnosis", "decision")}
    with atomic_path(Path(output_dir) / "gradcam_examples.npz") as partial, open(partial, "wb") as stream:
        np.savez_compressed(stream, image=kept[0][:, 0], mask=kept[0][:, 1] != 0, map=kept[1], **names)
    logger.info("Grad-CAM: %d of %d patches show nothing that speaks for the decision.",
                int(table["share"].isna().sum()), len(table))  # fmt: skip
    return table


def summarise_gradcam(table: pd.DataFrame) -> dict[str, float]:
    """Mean share of Grad-CAM mass on lacunae, over patches that have lacunae and a map.

    Args:
        table: as :func:`write_gradcam` returns it.

    Returns:
        ``share``; ``share_features``, before a mask weights the features; ``area``, what chance would give;
        ``enrichment`` and ``enrichment_features``, these over that (1 is chance); ``patches`` that count;
        ``patches_without_map``. NaN where no patch counts.
    """
    with_lacunae = table[table["area"] > 0]
    counted = with_lacunae.dropna(subset=["share"])
    share, plain, area = (float(counted[name].mean()) for name in ("share", "share_features", "area"))
    return {
        "share": share, "share_features": plain, "area": area,
        "enrichment": share / area, "enrichment_features": plain / area,
        "patches": len(counted), "patches_without_map": len(with_lacunae) - len(counted),
    }  # fmt: skip


def _examples(table: pd.DataFrame, number: int) -> list[int]:
    """Positions of the patches with most lacunae of each class, those first that are of different patients."""
    order = table.sort_values("area", ascending=False, kind="stable")
    rank = order.groupby(["diagnosis", "subject"], sort=False).cumcount()
    order = order.assign(turn=rank).sort_values("turn", kind="stable")
    return [int(index) for _, rows in order.groupby("diagnosis") for index in rows.index[:number]]


def _unchanged(maps: torch.Tensor) -> torch.Tensor:
    return maps


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Any:
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)
