from __future__ import annotations

import pytest
import torch
from monai.inferers import SliceInferer
from torch import nn

from bonemonai.inferers.slice_wise import SliceWise


@pytest.fixture
def network() -> nn.Module:
    """Across and along differ, so that a transposed slice is seen."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, (3, 5), padding=(1, 2)), nn.LeakyReLU(), nn.Conv2d(4, 2, (1, 3), padding=(0, 1))
    )


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_each_slice_is_what_the_network_makes_of_it_alone(network: nn.Module, axis: int) -> None:
    block = torch.randn(2, 3, 4, 6, 5)
    with torch.no_grad():
        found = SliceWise(network, axis)(block)
        slices = [network(part) for part in block.unbind(axis + 2)]
    assert found.shape == (2, 2, 4, 6, 5)
    torch.testing.assert_close(found, torch.stack(slices, axis + 2), rtol=0, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_block_is_what_monais_slice_inferer_makes_of_it(network: nn.Module, axis: int) -> None:
    block = torch.randn(1, 3, 4, 6, 5)
    roi = [size for other, size in enumerate(block.shape[2:]) if other != axis]
    with torch.no_grad():
        monais = SliceInferer(roi_size=roi, spatial_dim=axis, sw_batch_size=block.shape[axis + 2])(block, network)
        found = SliceWise(network, axis)(block)
    assert torch.equal(found, monais)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_network_sees_all_slices_of_all_elements_as_one_batch(axis: int) -> None:
    shapes = []

    def network(slices: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(slices.shape))
        return slices

    block = torch.randn(2, 3, 4, 6, 5)
    assert torch.equal(SliceWise(network, axis)(block), block)
    rest = [size for other, size in enumerate((4, 6, 5)) if other != axis]
    assert shapes == [(2 * block.shape[axis + 2], 3, *rest)]


def test_blocks_in_any_layout_are_taken(network: nn.Module) -> None:
    block = torch.randn(2, 3, 4, 6, 5)
    sliced = SliceWise(network, 1)
    with torch.no_grad():
        strided = block.contiguous(memory_format=torch.channels_last_3d)
        torch.testing.assert_close(sliced(strided), sliced(block), rtol=0, atol=1e-6)
        flipped = block.transpose(2, 4).contiguous().transpose(2, 4)
        torch.testing.assert_close(sliced(flipped), sliced(block), rtol=0, atol=1e-6)


def test_arguments_are_passed_on() -> None:
    def network(slices: torch.Tensor, factor: float, *, plus: float) -> torch.Tensor:
        return slices * factor + plus

    assert SliceWise(network, 2)(torch.ones(1, 1, 2, 2, 2), 3.0, plus=0.5).unique().tolist() == [3.5]


@pytest.mark.parametrize("axis", [-1, 3])
def test_axes_that_a_volume_does_not_have_are_refused(axis: int) -> None:
    with pytest.raises(ValueError, match=f"spatial_dim must be 0, 1 or 2, got {axis}"):
        SliceWise(nn.Identity(), axis)
