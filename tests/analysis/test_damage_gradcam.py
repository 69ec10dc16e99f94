from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from bonemonai.analysis import gradcam_maps, summarise_damage_gradcam, write_damage_gradcam
from bonemonai.errors import InputError
from bonemonai.networks import DamageCNN, TransferResNet50

CLASSES = ["pristine", "failed"]


class Window(nn.Module):
    """Lets through what lies in the first two rows."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        seen = torch.zeros_like(image)
        seen[:, :, :2] = 1
        return image * seen


class LooksAtOnePlace(nn.Module):
    """Failed if something is in the first two rows; its Grad-CAM is the image there, by construction."""

    def __init__(self) -> None:
        super().__init__()
        self.window = Window()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        found = self.window(image).mean((1, 2, 3))
        return torch.stack([0.01 - found, found], dim=1)


def item(image: torch.Tensor, load_state: int, **masks: torch.Tensor) -> dict[str, Any]:
    return {"image": image, "subject": "CB12", "load_state": load_state, "plane": "XZ", "index": 150, **masks}


def mask(*rows: int) -> torch.Tensor:
    inside = torch.zeros(1, 8, 6)
    inside[0, list(rows)] = 255
    return inside


@pytest.fixture
def items() -> list[dict[str, Any]]:
    bright, uneven, empty = torch.ones(1, 8, 6), torch.ones(1, 8, 6), torch.zeros(1, 8, 6)
    uneven[0, 0] = 0.25
    return [
        item(bright, 1, crack=mask(0, 1), ring=mask(6)),
        item(bright, 2, crack=mask(1, 2), ring=mask()),
        item(uneven, 3, crack=mask(0), ring=mask(1)),
        item(empty, 4, crack=mask(0), ring=mask(0)),
        item(bright, 5),
    ]


def test_shares_are_those_of_the_place_it_looks_at(items: list[dict[str, Any]], tmp_path: Path) -> None:
    table = write_damage_gradcam(LooksAtOnePlace(), "window", items, CLASSES, tmp_path, batch_size=2)  # type: ignore[arg-type]
    assert list(table) == [
        "subject", "load_state", "plane", "index", "decision", "crack_share", "crack_area", "ring_share", "ring_area",
    ]  # fmt: skip
    assert table["load_state"].tolist() == [1, 2, 3, 4, 5]
    assert table["decision"].tolist() == ["failed", "failed", "failed", "pristine", "failed"]
    # nothing speaks for the decision in an empty image; the last slice has no masks
    np.testing.assert_allclose(table["crack_share"], [1, 0.5, 0.2, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["crack_area"], [0.25, 0.25, 0.125, 0.125, np.nan])
    np.testing.assert_allclose(table["ring_share"], [0, 0, 0.8, np.nan, np.nan], rtol=1e-6)
    np.testing.assert_allclose(table["ring_area"], [0.125, 0, 0.125, 0.125, np.nan])
    stored = pd.read_csv(tmp_path / "gradcam.csv")
    pd.testing.assert_frame_equal(stored, table, check_dtype=False, rtol=1e-5)
    assert (tmp_path / "gradcam.csv").read_text().splitlines()[-1] == "CB12,5,XZ,150,failed,,,,"
    assert {path.name for path in tmp_path.iterdir()} == {"gradcam.csv", "gradcam_states.npz", "gradcam.json"}


def test_file_for_the_figure(items: list[dict[str, Any]], tmp_path: Path) -> None:
    write_damage_gradcam(LooksAtOnePlace(), "window", items, CLASSES, tmp_path, batch_size=3)  # type: ignore[arg-type]
    with np.load(tmp_path / "gradcam_states.npz") as stored:
        states = dict(stored)
    assert {name: (value.shape, value.dtype.kind) for name, value in states.items()} == {
        "image": ((5, 8, 6), "f"), "map": ((5, 8, 6), "f"), "crack": ((5, 8, 6), "b"), "subject": ((5,), "U"),
        "load_state": ((5,), "i"), "plane": ((5,), "U"), "index": ((5,), "i"), "decision": ((5,), "U"),
    }  # fmt: skip
    assert states["image"].dtype == states["map"].dtype == np.float16
    assert states["map"].max((1, 2)).tolist() == [1, 1, 1, 0, 1]
    assert states["map"][2, :, 0].tolist() == [0.25, 1, 0, 0, 0, 0, 0, 0]
    assert states["crack"].sum((1, 2)).tolist() == [12, 12, 6, 6, 0]
    np.testing.assert_array_equal(states["image"], np.stack([entry["image"][0] for entry in items]))
    assert states["decision"].tolist() == ["failed", "failed", "failed", "pristine", "failed"]


def test_a_data_set_without_masks_has_maps(tmp_path: Path) -> None:
    items = [item(torch.ones(1, 8, 6), state) for state in range(3)]
    table = write_damage_gradcam(LooksAtOnePlace(), "window", items, CLASSES, tmp_path)  # type: ignore[arg-type]
    assert table[["crack_share", "crack_area", "ring_share", "ring_area"]].isna().all(axis=None)
    for given in (table, pd.read_csv(tmp_path / "gradcam.csv")):
        summary = summarise_damage_gradcam(given)
        assert summary["crack_slices"] == summary["ring_slices"] == 0
        assert all(np.isnan(summary[f"{name}_{key}"]) for name in ("crack", "ring")
                   for key in ("share", "area", "enrichment"))  # fmt: skip


def test_summary_counts_slices_with_a_mask_and_a_map() -> None:
    table = pd.DataFrame({
        "crack_share": [0.5, 0.3, np.nan, 0.0, np.nan, 0.9], "crack_area": [0.1, 0.1, 0.3, 0.0, np.nan, 0.1],
        "ring_share": [0.1, np.nan, np.nan, np.nan, np.nan, 0.9], "ring_area": [0.2, np.nan, 0.2, 0.0, np.nan, 0.2],
        "decision": ["failed"] * 5 + ["pristine"],  # a map of what speaks for pristine is none of damage
    })  # fmt: skip
    assert summarise_damage_gradcam(table) == pytest.approx({
        "crack_share": 0.4, "crack_area": 0.1, "crack_enrichment": 4.0, "crack_slices": 2,
        "crack_slices_without_map": 1,
        "ring_share": 0.1, "ring_area": 0.2, "ring_enrichment": 0.5, "ring_slices": 1, "ring_slices_without_map": 1,
    })  # fmt: skip


@pytest.mark.parametrize("make", [
    lambda: DamageCNN(layers=2, image_size=32, width=8), lambda: TransferResNet50(width=8),
    lambda: TransferResNet50(frozen=False, width=8),
], ids=["cnn", "frozen", "tuned"])  # fmt: skip
def test_networks_name_their_layer(make: Callable[[], DamageCNN | TransferResNet50], tmp_path: Path) -> None:
    """A frozen backbone, too, has gradients to its maps."""
    torch.manual_seed(0)
    network = make()
    with torch.no_grad():
        # features are >= 0, so that something speaks for either class
        for weight in network.fc.parameters() if isinstance(network, TransferResNet50) else network.parameters():
            weight.abs_()
    images = torch.rand(6, 1, 32, 32)
    items = [item(image, state, crack=torch.ones(1, 32, 32)) for state, image in enumerate(images)]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    table = write_damage_gradcam(network, network.cam_layer, items, CLASSES, tmp_path, batch_size=4)  # type: ignore[arg-type]
    maps, decisions = gradcam_maps(network, network.cam_layer, images)
    assert table["decision"].tolist() == [CLASSES[number] for number in decisions]
    assert maps.any()
    np.testing.assert_allclose(table["crack_share"], np.where(maps.any((1, 2)), 1, np.nan))
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    network, image = LooksAtOnePlace(), torch.ones(1, 8, 6)
    for items, message in (
        ([item(image, 1, crack=torch.ones(1, 4, 6))], r"load_state 1.*crack must be \(1, 8, 6\).*got \(1, 4, 6\)"),
        ([item(image, 1), item(torch.ones(1, 8, 8), 2)], r"load_state 2.*image must be \(1, 8, 6\)"),
        ([item(image, 1, ring=torch.ones(8, 6))], r"ring must be \(1, 8, 6\)"),
        ([], "is empty"),
    ):
        for batch_size in (1, 2):
            with pytest.raises(InputError, match=message):
                write_damage_gradcam(network, "window", items, CLASSES, tmp_path, batch_size=batch_size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="layer must be one of the network's, got 'layer9'"):
        write_damage_gradcam(network, "layer9", [item(image, 1)], CLASSES, tmp_path)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
