from __future__ import annotations

import re
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks import BoundaryPrediction, BoundaryUNet
from tests.networks.test_darknet53 import used
from tests.networks.torchvision_models import seeded


def test_scales_and_channels_are_the_papers() -> None:
    with torch.device("meta"):
        network = BoundaryUNet()
        shapes: list[tuple[int, ...]] = []
        for block in network.encoder:
            block.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape[1:3])))
        found = network(torch.zeros(1, 1, 224, 224))
    assert shapes == [(64, 224), (128, 112), (256, 56), (512, 28), (512, 14), (512, 7)]
    assert isinstance(found, BoundaryPrediction)
    assert found.mask.shape == found.boundary.shape == (1, 1, 224, 224)
    assert [tuple(maps.shape[1:]) for maps in found.features] == [
        (512, 56, 56), (1024, 28, 28), (1024, 14, 14), (512, 7, 7),
    ]  # fmt: skip
    assert network.feature_channels == (512, 1024, 1024, 512)


@pytest.mark.parametrize(("boundary", "count"), [(True, 52_840_386), (False, 33_570_881)])
def test_parameters_by_hand(boundary: bool, count: int) -> None:
    channels = [64, 128, 256, 512, 512, 512]
    encoder = sum(
        9 * given * made + 9 * made * made + 4 * made + (given * made + 2 * made if given != made else 0)
        for given, made in pairwise([1, *channels])
    )
    decoder = sum(
        4 * deep * made + 9 * 2 * made * made + 9 * made * made + 4 * made for deep, made in pairwise(channels[::-1])
    )
    heads = (128 + 1) + (64 + 1) if boundary else 64 + 1
    with torch.device("meta"):
        network = BoundaryUNet(boundary=boundary)
    found = sum(value.numel() for value in network.parameters())
    assert found == encoder + (1 + boundary) * decoder + heads == count


def test_equals_the_layers_one_by_one() -> None:
    with seeded():
        network, image = BoundaryUNet(2, width=2).double(), torch.rand(2, 2, 64, 32, dtype=torch.float64)
        used(network)
    state = network.state_dict()

    def norm(maps: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias, mean, variance = (
            state[f"{name}.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (maps - mean) / (variance + 1e-5).sqrt() * weight + bias

    def convolved(maps: torch.Tensor, name: str) -> torch.Tensor:
        kernel = state[f"{name}.conv.weight"]
        return F.conv2d(maps, kernel, padding=kernel.shape[-1] // 2)

    def two(maps: torch.Tensor, name: str) -> torch.Tensor:
        maps = norm(convolved(maps, f"{name}.conv1"), f"{name}.norm1").clamp(min=0)
        return norm(convolved(maps, f"{name}.conv2"), f"{name}.norm2")

    encoded: list[torch.Tensor] = []
    for number in range(6):
        given, name = F.max_pool2d(encoded[-1], 2) if encoded else image, f"encoder.{number}"
        short = (
            norm(convolved(given, f"{name}.conv3"), f"{name}.norm3") if f"{name}.conv3.conv.weight" in state else given
        )
        encoded.append((two(given, name) + short).clamp(min=0))
    decoded: dict[str, list[torch.Tensor]] = {}
    for decoder in ("mask", "boundary"):
        maps, decoded[decoder] = encoded[-1], []
        for number in range(5):
            name = f"{decoder}_decoder.{number}"
            up = F.conv_transpose2d(maps, state[f"{name}.transp_conv.conv.weight"], stride=2)
            maps = two(torch.cat([up, encoded[4 - number]], 1), f"{name}.conv_block").clamp(min=0)
            decoded[decoder].append(maps)
    masks, edges = decoded["mask"], decoded["boundary"]
    mask = F.conv2d(torch.cat([masks[4], edges[4]], 1), state["mask_head.weight"], state["mask_head.bias"])
    heat = 1 / (1 + (-F.conv2d(edges[4], state["boundary_head.weight"], state["boundary_head.bias"])).exp())
    with torch.no_grad():
        found = network(image)
    assert found.mask.std() > 0.03
    torch.testing.assert_close(found.mask, mask)
    torch.testing.assert_close(found.boundary, heat)
    joined = [torch.cat([masks[number], edges[number]], 1) for number in (2, 1, 0)]
    for one, other in zip(found.features, [*joined, encoded[-1]], strict=True):
        torch.testing.assert_close(one, other)


def test_without_the_boundary_branch() -> None:
    network = BoundaryUNet(width=2, boundary=False).eval()
    assert not any("boundary" in name for name in network.state_dict())
    found = network(torch.rand(1, 1, 64, 64))
    assert found.boundary is None
    assert tuple(maps.shape[1] for maps in found.features) == network.feature_channels == (8, 16, 16, 16)


def test_mask_loss_reaches_the_boundary_decoder_and_a_heat_map_is_0_to_1() -> None:
    with seeded():
        network, image = BoundaryUNet(width=2).train(), torch.rand(2, 1, 64, 64)
    found = network(image)
    assert found.boundary is not None
    assert found.boundary.min() >= 0
    assert found.boundary.max() <= 1
    found.mask.square().mean().backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert {name.split(".")[0] for name in still} == {"boundary_head"}


def test_learns_a_mask_and_its_boundary() -> None:
    with seeded():
        network = BoundaryUNet(width=4).train()
        masks = torch.zeros(4, 1, 64, 64)
        for number in range(4):
            masks[number, 0, 8 + 6 * number : 30 + 6 * number, 20:44] = 1
        heats = (F.max_pool2d(masks, 3, 1, 1) + F.max_pool2d(-masks, 3, 1, 1)).clamp(0, 1)
        images = 0.3 + 0.4 * masks + 0.05 * torch.randn(masks.shape)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(60):
            optimiser.zero_grad()
            mask, heat, _ = network(images)
            (F.binary_cross_entropy_with_logits(mask, masks) + F.mse_loss(heat, heats)).backward()
            optimiser.step()
        found = network(images)
    marked = found.mask > 0
    assert 2 * marked[masks > 0].sum() / (marked.sum() + masks.sum()) > 0.95
    assert F.mse_loss(found.boundary, heats) < 0.7 * heats.var()


def test_checkpointing_changes_nothing_but_memory() -> None:
    with seeded():
        network, image = BoundaryUNet(width=2), torch.rand(2, 1, 64, 64)
    gradients = {}
    for checkpointing in (False, True):
        network.zero_grad()
        network.checkpointing = checkpointing
        mask, heat, features = network(image)
        assert heat is not None
        (mask.square().mean() + heat.mean() + sum(maps.mean() for maps in features)).backward()
        gradients[checkpointing] = [mask, heat, *(value.grad.clone() for value in network.parameters())]  # type: ignore[union-attr]
    assert all(torch.equal(*pair) for pair in zip(gradients[False], gradients[True], strict=True))
    assert all(norm.num_batches_tracked == 2 for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))


def test_what_does_not_fit_is_refused() -> None:
    network = BoundaryUNet(width=1)
    for rows, columns in ((224, 220), (16, 32), (0, 32)):
        with pytest.raises(ValueError, match=rf"multiples of 32 x 32 pixels .*got {rows} x {columns}; crop"):
            network(torch.zeros(1, 1, rows, columns))
    for shape in ((1, 3, 32, 32), (1, 32, 32)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 1, H, W), got {shape}")):
            network(torch.zeros(shape))
    for options in ({"width": 0}, {"in_channels": 0}):
        with pytest.raises(ValueError, match="must be >= 1"):
            BoundaryUNet(**options)
