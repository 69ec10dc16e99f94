from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from bonemonai.networks import MSNet
from tests.networks.torchvision_models import seeded


def with_used_norms(network: MSNet) -> MSNet:
    """As after training: batch normalisation whose means and variances are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.running_mean, -0.1, 0.1), (module.running_var, 0.05, 0.5), (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):  # fmt: skip
                nn.init.uniform_(value, low, high)  # type: ignore[arg-type]
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def test_layers_are_the_papers() -> None:
    with torch.device("meta"):
        network = MSNet()
    encoder = [m for m in network.encoder.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    decoder = [m for m in [*network.decoder.modules(), *network.output.modules()] if isinstance(m, nn.ConvTranspose2d)]
    for layer in [*encoder, *decoder]:
        assert (layer.kernel_size, layer.stride, layer.padding) == ((4, 4), (2, 2), (1, 1))
        assert (layer.output_padding, layer.dilation, layer.groups) == ((0, 0), (1, 1), 1)
    assert all(type(layer) is nn.Conv2d for layer in encoder)
    assert [(layer.in_channels, layer.out_channels) for layer in encoder] == [
        (1, 64), (64, 128), (128, 256), (256, 512), *[(512, 512)] * 5,
    ]  # fmt: skip
    # eight, and the output's; what goes in is the layer before and the encoder's map of the same size
    assert [(layer.in_channels, layer.out_channels) for layer in decoder] == [
        (512, 512), *[(1024, 512)] * 4, (1024, 256), (512, 128), (256, 64), (128, 1),
    ]  # fmt: skip
    assert sum(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in network.modules()) == 18


def test_norms_and_activations_are_pix2pixs() -> None:
    with torch.device("meta"):
        network = MSNet()
    plain, normed = ["conv", "activation"], ["conv", "norm", "activation"]
    blocks = [*network.encoder, *network.decoder, network.output]
    found = [[name for name, _ in block.named_children()] for block in blocks]
    assert found == [plain, *[normed] * 7, plain, *[normed] * 8, plain]
    activations = [str(block.activation) for block in blocks]
    assert activations == [*["LeakyReLU(negative_slope=0.2)"] * 9, *["ReLU()"] * 8, "Sigmoid()"]
    for block in blocks:
        assert (block.conv.bias is None) == ("norm" in dict(block.named_children()))


def test_slice_becomes_one_pixel_and_a_slice_again() -> None:
    network, shapes = MSNet(width=1), []
    for block in [*network.encoder, *network.decoder]:
        block.register_forward_hook(lambda *given: shapes.append(tuple(given[2].shape)))
    with torch.no_grad():
        mark = network.eval()(torch.rand(1, 1, 512, 512))
    channels = [1, 2, 4, 8, 8, 8, 8, 8, 8]
    down = [(1, filters, 256 >> number, 256 >> number) for number, filters in enumerate(channels)]
    assert down[-1] == (1, 8, 1, 1)
    assert shapes == [*down, *reversed(down[:-1])]
    assert mark.shape == (1, 1, 512, 512)


@pytest.mark.parametrize(("width", "count"), [(64, 66_993_345), (16, 4_190_001)])
def test_parameter_count_of_the_layers_by_hand(width: int, count: int) -> None:
    channels = [width * n for n in (1, 2, 4, 8, 8, 8, 8, 8, 8)]
    kernels = channels[0] + sum(given * made for given, made in pairwise(channels))
    kernels += sum((1 + (number > 0)) * deep * made for number, (deep, made) in enumerate(pairwise(channels[::-1])))
    kernels += 2 * width
    biases = channels[0] + channels[-1] + 1
    scales_and_shifts = 2 * (sum(channels[1:-1]) + sum(channels[:-1]))
    with torch.device("meta"):
        network = MSNet(width=width)
    found = sum(value.numel() for value in network.parameters() if value.requires_grad)
    assert found == 16 * kernels + biases + scales_and_shifts == count


def test_equals_the_layers_one_by_one() -> None:
    torch.manual_seed(0)
    network = with_used_norms(MSNet(2, 3, width=2, layers=4))
    for value in network.parameters():
        value.data.mul_(2)  # or the deep layers hardly count in the output
    image, state = torch.rand(2, 2, 32, 48), network.state_dict()

    def norm(maps: torch.Tensor, name: str) -> torch.Tensor:
        if f"{name}.norm.weight" not in state:
            return maps
        weight, bias, mean, variance = (
            state[f"{name}.norm.{part}"][:, None, None] for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (maps - mean) / (variance + 1e-5).sqrt() * weight + bias

    def down(maps: torch.Tensor, name: str) -> torch.Tensor:
        maps = F.conv2d(maps, state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias"), stride=2, padding=1)
        maps = norm(maps, name)
        return torch.where(maps > 0, maps, 0.2 * maps)

    def up(maps: torch.Tensor, name: str) -> torch.Tensor:
        weight, bias = state[f"{name}.conv.weight"], state.get(f"{name}.conv.bias")
        return norm(F.conv_transpose2d(maps, weight, bias, stride=2, padding=1), name)

    map1 = down(image, "encoder.0")
    map2 = down(map1, "encoder.1")
    map3 = down(map2, "encoder.2")
    bottom = down(map3, "encoder.3")
    up3 = torch.cat([up(bottom, "decoder.0").clamp(min=0), map3], 1)
    up2 = torch.cat([up(up3, "decoder.1").clamp(min=0), map2], 1)
    up1 = torch.cat([up(up2, "decoder.2").clamp(min=0), map1], 1)
    expected = 1 / (1 + (-up(up1, "output")).exp())
    with torch.no_grad():
        found = network(image)
    assert found.shape == (2, 3, 32, 48)
    assert found.std() > 0.05
    torch.testing.assert_close(found, expected)


def test_slices_of_a_batch_do_not_meet_in_evaluation() -> None:
    torch.manual_seed(0)
    network, images = with_used_norms(MSNet(width=2, layers=4)), torch.rand(3, 1, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.cat([network(one[None]) for one in images]))
        changed = images.clone()
        changed[1:] = 0
        torch.testing.assert_close(network(changed)[0], network(images)[0])


def test_trains_with_one_slice_of_one_pixel_at_the_bottom() -> None:
    torch.manual_seed(0)
    network = MSNet(width=4, layers=5).train()
    mark = network(torch.rand(1, 1, 32, 32))
    assert mark.min() >= 0
    assert mark.max() <= 1
    F.l1_loss(mark, (torch.rand(1, 1, 32, 32) > 0.5).float()).backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_learns_to_mark_the_little_there_is() -> None:
    """3 % of the image: the loss of an empty mark is 0.03, too, and with other initial weights it ends there."""
    with seeded():
        network = MSNet(width=8, layers=6)
        marks = torch.zeros(8, 1, 64, 64)
        for mark, row, column in zip(marks, torch.randint(53, (8,)), torch.randint(53, (8,)), strict=True):
            mark[:, row : row + 11, column : column + 11] = 1
        images = 0.3 + 0.4 * marks + 0.1 * torch.randn(marks.shape)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.002)
        for _ in range(100):
            optimiser.zero_grad()
            F.l1_loss(network(images), marks).backward()
            optimiser.step()
        with torch.no_grad():
            found = network(images) > 0.5
    assert 2 * found[marks > 0].sum() / (found.sum() + marks.sum()) > 0.9


def test_starts_the_same_with_the_same_seed() -> None:
    states = []
    for seed in (1, 1, 2):
        with seeded(seed):
            states.append(MSNet(width=2).state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["encoder.4.conv.weight"], states[2]["encoder.4.conv.weight"])


def test_other_images_are_refused() -> None:
    network = MSNet(width=1)
    for rows, columns in ((500, 512), (512, 768), (256, 256), (0, 512)):
        with pytest.raises(
            ValueError, match=rf"multiples of 512 x 512 pixels .*got {rows} x {columns}; resize"
        ) as caught:
            network(torch.zeros(1, 1, rows, columns))
        assert "\n" not in str(caught.value)
    for shape in ((1, 2, 512, 512), (1, 512, 512)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 1, H, W), got {list(shape)}")):
            network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width must be >= 1"),
        ({"layers": 1}, "layers must be >= 2 .* got 1"),
        ({"in_channels": 0}, "in_channels must be >= 1"),
        ({"out_channels": 0}, "out_channels must be >= 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MSNet(**options)
