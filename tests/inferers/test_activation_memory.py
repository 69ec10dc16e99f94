from __future__ import annotations

import pytest
import torch
from torch import nn

from bonemonai.inferers.activation_memory import ActivationMemory, measure_activations
from bonemonai.networks import LacunaUNet

IMAGE = torch.zeros(1, 1, 8, 8)


def conv(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 3, padding=1)


def test_two_convolutions_by_hand() -> None:
    """4 and 2 channels of 4 bytes; both are alive while the second is computed."""
    network = nn.Sequential(conv(1, 4), conv(4, 2))
    assert measure_activations(network, IMAGE) == ActivationMemory(peak=16 + 8, largest=16, channels=2)


def test_what_is_freed_is_not_counted_again() -> None:
    network = nn.Sequential(conv(1, 4), conv(4, 2), conv(2, 3), conv(3, 1))
    assert measure_activations(network, IMAGE) == ActivationMemory(peak=16 + 8, largest=16, channels=1)


def test_what_a_skip_connection_keeps_is_counted() -> None:
    first, second, third = conv(1, 4), conv(4, 2), conv(2, 2)

    def network(image: torch.Tensor) -> torch.Tensor:
        skip = first(image)
        return torch.cat([skip, third(second(skip))], dim=1)

    # the skip, the third's output and their concatenation; the second's is gone
    assert measure_activations(network, IMAGE) == ActivationMemory(peak=16 + 8 + 24, largest=24, channels=6)


def test_views_are_no_memory() -> None:
    network = conv(1, 4)

    def viewed(image: torch.Tensor) -> torch.Tensor:
        image = image.flatten(2).unflatten(2, (8, 8))[:, :1]
        return network(image)[:, 1:].transpose(2, 3)[..., ::2]

    assert measure_activations(viewed, IMAGE) == ActivationMemory(peak=16, largest=16, channels=3)


def test_changes_in_place_are_no_memory_and_others_are() -> None:
    inplace = nn.Sequential(conv(1, 4), nn.ReLU(inplace=True))
    assert measure_activations(inplace, IMAGE).peak == 16
    assert measure_activations(nn.Sequential(conv(1, 4), nn.ReLU()), IMAGE).peak == 32


def test_a_view_keeps_all_of_what_it_is_a_view_of() -> None:
    first, second = conv(1, 4), conv(1, 1)

    def network(image: torch.Tensor) -> torch.Tensor:
        one = first(image)[:, :1]
        return second(one)

    assert measure_activations(network, IMAGE).peak == 16 + 4


def test_smaller_tensors_count_less() -> None:
    network = nn.Sequential(conv(1, 4), nn.AvgPool2d(2), nn.Upsample(scale_factor=2))
    # after the convolution's 16: a quarter of it, and then the quarter with the result
    assert measure_activations(network, IMAGE) == ActivationMemory(peak=20, largest=16, channels=4)


def test_weights_and_input_are_left_out() -> None:
    assert measure_activations(nn.Identity(), IMAGE).peak == 0
    heavy = nn.Sequential(nn.Conv2d(1, 1, 7, padding=3), nn.Conv2d(1, 1, 7, padding=3))
    assert measure_activations(heavy, torch.zeros(1, 1, 4, 4)).peak == 8


@pytest.mark.parametrize("shape", [(1, 1, 16, 24), (3, 1, 8, 8), (2, 1, 32, 8)])
def test_bytes_are_those_of_a_voxel_whatever_the_size_and_the_batch(shape: tuple[int, ...]) -> None:
    network = nn.Sequential(conv(1, 4), nn.MaxPool2d(4), conv(4, 8), nn.Upsample(scale_factor=4), conv(8, 2))
    assert measure_activations(network, torch.zeros(shape)) == measure_activations(network, IMAGE)


def test_counts_less_than_keeping_everything_and_more_than_the_largest() -> None:
    """A network of the package, against the outputs of all its layers."""
    network, everything = LacunaUNet(width=4).eval(), []
    for layer in network.modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda *seen: everything.append(seen[-1].numel() * 4))
    found = measure_activations(network, torch.zeros(1, 1, 64, 64))
    assert found.largest * 64 * 64 >= max(everything)
    assert 1.5 * found.largest < found.peak < sum(everything) / (64 * 64)


def test_voxels_are_counted_once_whatever_the_channels() -> None:
    assert measure_activations(conv(3, 5), torch.zeros(2, 3, 8, 8)) == ActivationMemory(20, 20, 5)


def test_wider_types_count_more() -> None:
    network = nn.Sequential(conv(1, 4), conv(4, 2))
    assert measure_activations(network.double(), IMAGE.double()).peak == 48


def test_three_dimensions() -> None:
    network = nn.Conv3d(1, 2, 3, padding=1)
    assert measure_activations(network, torch.zeros(1, 1, 4, 4, 4)) == ActivationMemory(8, 8, 2)


def test_nothing_is_recorded_for_a_backward_pass() -> None:
    seen: list[bool] = []

    def network(image: torch.Tensor) -> torch.Tensor:
        seen.append((image * torch.ones(1, requires_grad=True)).requires_grad)
        return image + 1

    measure_activations(network, IMAGE)
    assert seen == [False]
    assert torch.is_grad_enabled()


def test_outputs_that_are_no_tensor_have_one_channel() -> None:
    assert measure_activations(lambda image: (image + 1, image + 2), IMAGE) == ActivationMemory(8, 4, 1)
