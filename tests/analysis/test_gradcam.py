from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.analysis import gradcam_maps, share_on_mask, summarise_gradcam, write_gradcam
from bonemonai.networks import VGG16, MaskGuidedVGG16, PatchClassifier


def by_hand(network: nn.Module, features: nn.Module, head: nn.Module, image: torch.Tensor) -> np.ndarray:
    maps = features(image).detach().requires_grad_()
    logits = head(maps)
    logits[0, int(logits.argmax())].backward()
    weights = maps.grad.mean((2, 3), keepdim=True)  # type: ignore[union-attr]
    cam = F.relu((weights * maps).sum(1, keepdim=True))
    return F.interpolate(cam, image.shape[2:], mode="bilinear", align_corners=False)[0, 0].detach().numpy()


def test_equals_the_formula() -> None:
    torch.manual_seed(0)
    network = VGG16(3, width=2).eval()
    image = torch.rand(4, 3, 64, 64)

    def head(maps: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = network.classifier(network.avgpool(maps).flatten(1))
        return out

    expected = [by_hand(network, network.features, head, image[i : i + 1]) for i in range(4)]  # type: ignore[arg-type]
    maps, predicted = gradcam_maps(network, "features", image)
    with torch.no_grad():
        assert predicted.tolist() == network(image).argmax(1).tolist()
    np.testing.assert_allclose(maps, expected, rtol=1e-4, atol=1e-7)
    # once more, by the same hooks
    np.testing.assert_array_equal(gradcam_maps(network, "features", image)[0], maps)


def test_a_guided_network_is_seen_where_the_mask_is() -> None:
    """A mask that weights the features draws the map to itself, and the features before it tell by how much."""
    torch.manual_seed(0)
    network = PatchClassifier(MaskGuidedVGG16(width=4), 224).eval()
    patches = torch.rand(24, 2, 55, 55)
    patches[:, 1] = 0
    patches[:, 1, :, :20] = 1
    shares = {}
    for layer in ("network.weighted", "network.features"):
        maps, _ = gradcam_maps(network, layer, patches)
        assert maps.shape == (24, 55, 55)
        share, area = share_on_mask(maps, patches[:, 1].numpy())
        assert area == pytest.approx(20 / 55)
        shares[layer] = float(np.nanmean(share))
    assert shares["network.weighted"] > 1.1 * shares["network.features"]


def test_share() -> None:
    maps = np.zeros((3, 4, 4))
    maps[0, 0], maps[1, 0, :2] = 1, [3, 1]
    masks = np.zeros((3, 4, 4))
    masks[:, :, 0] = 255
    share, area = share_on_mask(maps, masks)
    np.testing.assert_array_equal(share, [0.25, 0.75, np.nan])
    np.testing.assert_array_equal(area, [0.25] * 3)


def test_unknown_layer_is_refused() -> None:
    with pytest.raises(ValueError, match="layer must be one of the network's, got 'layer9'"):
        gradcam_maps(VGG16(width=1), "layer9", torch.zeros(1, 3, 32, 32))


def test_files(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = PatchClassifier(VGG16(width=2), 64)
    items = []
    for index in range(7):
        image = torch.rand(2, 55, 55)
        image[1] = 0
        image[1, :index] = 1
        diagnosis = "healthy" if index % 2 else "osteoporotic"
        items.append({"image": image, "diagnosis": diagnosis, "subject": f"subject_{index % 3:02d}", "plane": index,
                      "patch_row": 55, "patch_column": 0})  # fmt: skip
    table = write_gradcam(network, "network.features", items, ["healthy", "osteoporotic"], tmp_path,  # type: ignore[arg-type]
                          batch_size=3, examples=2)  # fmt: skip
    stored = pd.read_csv(tmp_path / "gradcam.csv")
    assert stored["plane"].tolist() == list(range(7))
    np.testing.assert_allclose(stored["share"], table["share"], rtol=1e-5)
    np.testing.assert_allclose(stored["area"], [index / 55 for index in range(7)], rtol=1e-5)
    with np.load(tmp_path / "gradcam_examples.npz") as examples:
        assert examples["diagnosis"].tolist() == ["healthy"] * 2 + ["osteoporotic"] * 2
        assert examples["mask"].sum((1, 2)).tolist() == [5 * 55, 3 * 55, 6 * 55, 4 * 55]
        assert examples["image"].shape == examples["map"].shape == (4, 55, 55)
        assert set(examples["map"].max((1, 2)).tolist()) <= {0.0, 1.0}


def test_summary_counts_patches_with_lacunae_and_a_map() -> None:
    table = pd.DataFrame({"share": [0.5, np.nan, 0.2, 0.9], "area": [0.25, 0.1, 0.1, 0.0]})
    found = summarise_gradcam(table.assign(share_features=table["share"] / 2))
    assert found == pytest.approx({
        "share": 0.35, "share_features": 0.175, "area": 0.175, "enrichment": 2.0, "enrichment_features": 1.0,
        "patches": 2, "patches_without_map": 1,
    })  # fmt: skip
