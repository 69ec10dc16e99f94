from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from monai.visualize import GradCAM
from torch import nn
from torch.nn import functional as F

from bonemonai.networks import BCCNet
from tests.networks.torchvision_models import seeded

PAPERS = [(1, 2, 4, 2), (1, 1, 2, 1), (2, 4, 6, 4)]


def with_used_norms(network: BCCNet) -> BCCNet:
    """As after training: batch normalisation whose means and variances are not 0 and 1."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for value, low, high in (
                (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2), (module.weight, 0.5, 1.5),
                (module.bias, -0.3, 0.3),
            ):  # fmt: skip
                nn.init.uniform_(value, low, high)  # type: ignore[arg-type]
    return network.eval()


def sequence(blocks: tuple[int, ...], dropout: bool) -> list[str]:
    """Layers of Table 1, in their order: each "conv" is conv-bn-relu, and dropout follows each but the first."""
    conv = ["Conv2d", "BatchNorm2d", "ReLU"]
    dropped = [*conv, "Dropout"] if dropout else conv
    order = [*conv, "MaxPool2d"]
    for number, layers in enumerate(blocks):
        order += layers * [*dropped, *dropped]
        if number < len(blocks) - 1:
            order += [*dropped, "AvgPool2d"]
    return [*order, "Linear"]


@pytest.mark.parametrize("blocks", PAPERS)
@pytest.mark.parametrize("dropout", [0.4, 0.0])
def test_each_convolution_is_followed_by_norm_and_relu(blocks: tuple[int, ...], dropout: float) -> None:
    network = BCCNet(blocks=blocks, dropout=dropout)
    leaves = [module for module in network.modules() if not list(module.children())]
    expected = sequence(blocks, dropout > 0)
    assert [type(leaf).__name__ for leaf in leaves] == expected
    assert all(leaf.p == 0.4 for leaf in leaves if isinstance(leaf, nn.Dropout))
    # as they run, each on what the one before it made
    ran: list[str] = []
    made: list[torch.Tensor] = []

    def hook(module: nn.Module, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ran.append(type(module).__name__)
        if ran[-1] in ("BatchNorm2d", "ReLU", "Dropout"):
            assert given[0] is made[-1]
        made.append(output)

    for leaf in leaves:
        leaf.register_forward_hook(hook)
    network(torch.rand(2, 1, 64, 64))
    assert ran == expected


def test_layers_and_sizes_are_table_1s() -> None:
    with torch.device("meta"):
        network = BCCNet()
        image = torch.zeros(2, 1, 224, 224)
    shapes: dict[str, tuple[int, ...]] = {}
    inputs: dict[str, tuple[int, ...]] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[torch.Tensor], output: torch.Tensor) -> None:
            inputs[name], shapes[name] = tuple(given[0].shape), tuple(output.shape)

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(remember(name))
    assert network(image).shape == (2, 3)
    # channels: 24 + 12, half, 18 + 24, half, 21 + 48, half, 34 + 24
    assert [shapes[f"features.{name}"][1:] for name, _ in network.features.named_children()] == [
        (24, 112, 112), (24, 56, 56),
        (36, 56, 56), (18, 28, 28),
        (42, 28, 28), (21, 14, 14),
        (69, 14, 14), (34, 7, 7),
        (58, 7, 7),
    ]  # fmt: skip
    for number, size in ((1, 56), (2, 28), (3, 14)):
        # the transition's convolution keeps the size, its pooling halves it
        assert shapes[f"features.transition{number}.conv"][2:] == (size, size)
    assert inputs["classifier"] == (2, 58)
    kernels = {
        name: (m.kernel_size[0], m.stride[0], m.out_channels)
        for name, m in network.named_modules() if isinstance(m, nn.Conv2d)
    }  # fmt: skip
    assert kernels.pop("features.stem.conv") == (7, 2, 24)
    assert [kernels.pop(f"features.transition{number}.conv") for number in (1, 2, 3)] == [
        (1, 1, 18),
        (1, 1, 21),
        (1, 1, 34),
    ]
    assert list(kernels.values()) == [(1, 1, 48), (3, 1, 12)] * 9
    pools = [m for m in network.modules() if isinstance(m, nn.MaxPool2d | nn.AvgPool2d)]
    assert [(m.kernel_size, m.stride, m.padding) for m in pools] == [(3, 2, 1), *[(2, 2, 0)] * 3]


@pytest.mark.parametrize(("blocks", "count"), list(zip(PAPERS, [67_943, 34_727, 139_977], strict=True)))
def test_parameter_count_of_the_layers_by_hand(blocks: tuple[int, ...], count: int) -> None:
    def conv(given: int, made: int, kernel: int) -> int:
        return given * made * kernel**2 + 2 * made

    expected, channels = conv(1, 24, 7), 24
    for number, layers in enumerate(blocks):
        for _ in range(layers):
            expected += conv(channels, 48, 1) + conv(48, 12, 3)
            channels += 12
        if number < len(blocks) - 1:
            expected += conv(channels, channels // 2, 1)
            channels //= 2
    expected += 3 * channels + 3
    assert sum(value.numel() for value in BCCNet(blocks=blocks).parameters()) == expected == count


def test_equals_the_layers_one_by_one() -> None:
    torch.manual_seed(0)
    network = with_used_norms(BCCNet(3, 2, growth_rate=3, blocks=(1, 2), stem=4, bottleneck=5, compression=0.8))
    image, state = torch.rand(2, 3, 37, 64), network.state_dict()

    def conv(maps: torch.Tensor, name: str, stride: int = 1) -> torch.Tensor:
        kernel = state[f"features.{name}.conv.weight"]
        maps = F.conv2d(maps, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        weight, bias, mean, variance = (
            state[f"features.{name}.norm.{part}"][:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return ((maps - mean) / (variance + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def grow(maps: torch.Tensor, name: str) -> torch.Tensor:
        return torch.cat([maps, conv(conv(maps, f"{name}.reduce"), f"{name}.grow")], 1)

    maps = F.max_pool2d(conv(image, "stem", 2), 3, 2, 1)
    maps = F.avg_pool2d(conv(grow(maps, "block1.layer1"), "transition1"), 2)
    maps = grow(grow(maps, "block2.layer1"), "block2.layer2")
    expected = maps.mean((2, 3)) @ state["classifier.weight"].T + state["classifier.bias"]
    with torch.no_grad():
        assert maps.shape == (2, 5 + 6, 5, 8)
        torch.testing.assert_close(network(image), expected)


def test_images_of_a_batch_do_not_meet_in_evaluation() -> None:
    torch.manual_seed(0)
    network, images = with_used_norms(BCCNet()), torch.rand(3, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network(images), torch.cat([network(one[None]) for one in images]))
        assert torch.equal(network(images), network(images))
        network.train()
        assert not torch.equal(network(images), network(images))


def test_every_parameter_learns() -> None:
    torch.manual_seed(0)
    network = BCCNet()
    F.cross_entropy(network(torch.rand(3, 1, 64, 64)), torch.tensor([0, 1, 2])).backward()
    still = [name for name, value in network.named_parameters() if value.grad is None or not value.grad.any()]
    assert still == []


def test_starts_as_densenet_does_and_the_same_with_the_same_seed() -> None:
    with seeded(1):
        network = BCCNet()
    with seeded(1):
        again = BCCNet()
    state = network.state_dict()
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in state.items())
    for name, value in state.items():
        if name.endswith("conv.weight"):
            spread = (2 / value[0].numel()) ** 0.5
            assert float(value.std()) == pytest.approx(spread, rel=0.15), name
    assert not state["classifier.bias"].any()


@pytest.mark.parametrize("blocks", PAPERS)
def test_layer_for_gradcam_is_what_is_averaged(blocks: tuple[int, ...]) -> None:
    """Behind it are an average and a dense layer, so that Grad-CAM is the dense layer's weights times the maps."""
    torch.manual_seed(0)
    network = with_used_norms(BCCNet(blocks=blocks))
    assert network.cam_layer == "features.block4"
    maps: list[torch.Tensor] = []
    network.get_submodule(network.cam_layer).register_forward_hook(lambda *given: maps.append(given[2].detach()))
    image = torch.rand(2, 1, 64, 96)
    for number in range(3):
        found = GradCAM(network, network.cam_layer).compute_map(image, class_idx=number)
        weight = network.classifier.weight.detach()[number][:, None, None]
        assert maps[-1].shape[2:] == (2, 3)
        assert maps[-1].min() >= 0
        torch.testing.assert_close(found, (weight * maps[-1]).sum(1, keepdim=True).clamp(min=0) / 6)


def test_other_images_are_refused() -> None:
    for shape in ((1, 3, 64, 64), (1, 64, 64)):
        with pytest.raises(ValueError, match=re.escape(f"(B, 1, H, W), got {list(shape)}")):
            BCCNet()(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"at least 32 x 32 pixels .*got 64 x 31; resize it") as caught:
        BCCNet()(torch.zeros(1, 1, 64, 31))
    assert "\n" not in str(caught.value)
    assert BCCNet().eval()(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"in_channels": 0}, "in_channels must be >= 1"),
        ({"num_classes": 0}, "num_classes must be >= 1"),
        ({"growth_rate": 0}, "growth_rate must be >= 1"),
        ({"stem": 0}, "stem must be >= 1"),
        ({"bottleneck": 0}, "bottleneck must be >= 1"),
        ({"blocks": ()}, "blocks must be >= 1"),
        ({"blocks": (1, 0)}, "blocks must be >= 1 .* got 0"),
        ({"compression": 0}, "compression must be in"),
        ({"compression": 1.1}, "compression must be in .* got 1.1"),
        ({"dropout": -0.1}, "dropout must be in"),
        ({"dropout": 1}, "dropout must be in .* got 1"),
    ],
)
def test_arguments_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BCCNet(**options)
