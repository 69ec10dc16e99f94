from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.blocks import ChannelSELayer
from monai.networks.nets import BasicUNet, SegResNet, UNet
from torch import nn
from torch.nn import functional as F

from bonemonai.errors import InputError
from bonemonai.inferers import ReceptiveField, check_tiles, probe_receptive_field
from bonemonai.inferers.receptive_field import pad_to_stride
from bonemonai.networks import LacunaUNet


@pytest.fixture(autouse=True)
def _same_weights_every_time() -> Iterator[None]:
    """And one thread: for inputs this small, threads that wait for each other take a hundred times as long."""
    torch.manual_seed(0)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def lacuna() -> nn.Module:
    return LacunaUNet(width=2).eval()


def monai_unet(dims: int = 2, norm: str = "batch") -> nn.Module:
    network = UNet(dims, 1, 2, channels=(2, 4, 4), strides=(2, 2), num_res_units=1, norm=norm)
    return with_statistics(network).eval()


def basic_unet(dims: int = 2, **more: object) -> nn.Module:
    return with_statistics(BasicUNet(dims, 1, 2, features=(2, 2, 4, 4, 4, 2), **more)).eval()  # type: ignore[arg-type]


def with_statistics(network: nn.Module) -> nn.Module:
    """Batch norm that does something, and convolutions whose farthest tap is not lost in rounding."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            nn.init.uniform_(module.weight, 0.2, 0.5)
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            for values in (module.running_mean, module.running_var, module.weight, module.bias):
                assert values is not None
                nn.init.uniform_(values, 0.5, 1.5)
    return network


class Function(nn.Module):
    """A convolution, and something around it."""

    def __init__(self, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.function = function

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.function(image, self.conv(image))


def tiled(network: nn.Module, image: torch.Tensor, field: ReceptiveField, axis: int, core: int) -> torch.Tensor:
    """Cores along one axis, their halos and nothing else, put together again."""
    size, halo = image.shape[axis + 2], field.halo[axis]
    parts = []
    for low in range(0, size, core):
        first, stop = max(low - halo, 0), min(low + core + halo, size)
        part = image.narrow(axis + 2, first, stop - first)
        output = network(pad_to_stride(part, field.stride))
        parts.append(output.narrow(axis + 2, low - first, min(core, size - low)))
    whole = torch.cat(parts, axis + 2)
    return whole[(..., *(slice(0, n) for n in image.shape[2:]))]


def assert_tiles_are_the_whole(network: nn.Module, field: ReceptiveField, more: Sequence[int]) -> None:
    """In float64, with cores of one and of three strides, on an image that is no multiple of the stride."""
    double = copy.deepcopy(network).double()
    for axis in range(len(more)):
        size = [s + 1 for s in field.stride]
        size[axis] = 2 * field.halo[axis] + 4 * field.stride[axis] + more[axis]
        image = torch.randn(1, 1, *size, dtype=torch.float64)
        with torch.no_grad():
            whole = double(pad_to_stride(image, field.stride))[(..., *(slice(0, n) for n in size))]
            for cores in (1, 3):
                cut = tiled(double, image, field, axis, cores * field.stride[axis])
                torch.testing.assert_close(cut, whole, rtol=0, atol=1e-12 * float(whole.abs().max()))


LOCAL = {"LacunaUNet": lacuna, "UNet": monai_unet, "BasicUNet": lambda: basic_unet(norm="batch")}


@pytest.mark.parametrize(
    ("name", "stride", "deepest"), [("LacunaUNet", 4, 28), ("UNet", 4, 28), ("BasicUNet", 16, 128)]
)
def test_tiles_of_a_local_network_are_the_whole(name: str, stride: int, deepest: int) -> None:
    network = LOCAL[name]()
    field = probe_receptive_field(network, 1, 2)
    assert field.stride == (stride, stride)
    assert stride < field.halo[0] <= deepest
    assert field.halo[0] % stride == 0
    assert field.error < 1e-12
    assert_tiles_are_the_whole(network, field, (1, 3))


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_halo_that_is_one_stride_less_is_refused(name: str, axis: int) -> None:
    network = LOCAL[name]()
    field = probe_receptive_field(network, 1, 2)
    halo = list(field.halo)
    halo[axis] -= field.stride[axis]
    with pytest.raises(InputError, match="tiles differ from the whole by"):
        check_tiles(network, 1, ReceptiveField(tuple(halo), field.stride))


def test_given_values_that_hold_are_proved() -> None:
    assert 0 <= check_tiles(lacuna(), 1, ReceptiveField((28, 32), (4, 8))) < 1e-12


@pytest.mark.parametrize("stride", [(2, 4), (4, 1)])
def test_a_stride_that_is_too_small_is_refused(stride: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="tiles differ from the whole by"):
        check_tiles(lacuna(), 1, ReceptiveField((28, 28), stride))


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (5, 1), (3, 4), (5, 9), (3, 31)])
def test_halo_of_one_convolution_by_hand(kernel: int, dilation: int) -> None:
    reach = (kernel - 1) // 2 * dilation
    network = nn.Conv2d(1, 1, kernel, padding=reach, dilation=dilation).eval()
    field = probe_receptive_field(network, 1, 2)
    assert (field.halo, field.stride) == ((reach, reach), (1, 1))


def test_a_network_without_weights_that_sees_one_voxel_needs_no_halo() -> None:
    field = probe_receptive_field(nn.Identity().eval(), 3, 3)
    assert (field.halo, field.stride, field.error) == ((0, 0, 0), (1, 1, 1), 0.0)


def test_a_halo_of_nothing_is_enough_where_only_cells_of_the_stride_are_mixed() -> None:
    """Pooling mixes a voxel with its cell; tiles that start at multiples of the stride keep cells whole."""
    network = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4)).eval()
    field = probe_receptive_field(network, 1, 2)
    assert (field.halo, field.stride) == ((0, 0), (4, 4))


def test_the_halo_covers_the_longer_side_of_a_lopsided_network() -> None:
    before = probe_receptive_field(nn.Sequential(nn.ZeroPad2d((5, 0, 0, 2)), nn.Conv2d(1, 1, (3, 6))).eval(), 1, 2)
    after = probe_receptive_field(nn.Sequential(nn.ZeroPad2d((0, 5, 2, 0)), nn.Conv2d(1, 1, (3, 6))).eval(), 1, 2)
    assert before.halo == after.halo == (2, 5)


def test_halo_and_stride_of_each_axis() -> None:
    network = nn.Sequential(
        nn.MaxPool3d((1, 2, 8)), nn.Conv3d(1, 1, (3, 1, 3), padding=(1, 0, 1)), nn.Upsample(scale_factor=(1, 2, 8))
    ).eval()
    field = probe_receptive_field(network, 1, 3)
    assert (field.halo, field.stride) == ((1, 0, 8), (1, 2, 8))
    assert_tiles_are_the_whole(network, field, (0, 1, 5))


@st.composite
def local_networks(draw: st.DrawFn) -> nn.Module:
    """Convolutions of any reach, some of them at half or a third of the size."""
    layers: list[nn.Module] = []
    for _ in range(draw(st.integers(1, 3))):
        kernel, dilation = draw(st.sampled_from([(1, 1), (3, 1), (3, 2), (5, 1), (3, 5)]))
        conv = nn.Conv2d(1, 1, kernel, padding=(kernel - 1) // 2 * dilation, dilation=dilation)
        factor = draw(st.sampled_from([1, 1, 2, 3]))
        pool = draw(st.sampled_from([nn.MaxPool2d, nn.AvgPool2d]))
        mode = draw(st.sampled_from(["nearest", "bilinear"]))
        if factor == 1:
            layers += [conv, nn.LeakyReLU()]
        else:
            layers += [pool(factor), conv, nn.LeakyReLU(), nn.Upsample(scale_factor=factor, mode=mode)]
    return nn.Sequential(*layers).eval()


@settings(max_examples=15)
@given(local_networks(), st.tuples(st.integers(0, 5), st.integers(0, 5)))
def test_tiles_of_any_local_network_are_the_whole(network: nn.Module, more: tuple[int, int]) -> None:
    assert_tiles_are_the_whole(network, probe_receptive_field(network, 1, 2), more)


def test_strides_that_are_no_power_of_two() -> None:
    network = nn.Sequential(nn.AvgPool2d((3, 2)), nn.Conv2d(1, 1, 3, padding=1), nn.Upsample(scale_factor=(3, 2)))
    field = probe_receptive_field(network.eval(), 1, 2)
    assert (field.halo, field.stride) == ((3, 2), (3, 2))


def test_networks_in_three_dimensions() -> None:
    network = monai_unet(3)
    field = probe_receptive_field(network, 1, 3)
    assert field.stride == (4, 4, 4)
    assert_tiles_are_the_whole(network, field, (1, 0, 3))


def test_input_of_several_channels() -> None:
    assert probe_receptive_field(LacunaUNet(3, 5, width=1).eval(), 3, 2).stride == (4, 4)
    with pytest.raises(InputError, match=r"LacunaUNet: fails on an input of shape \(1, 2, "):
        probe_receptive_field(LacunaUNet(3, 5, width=1).eval(), 2, 2)


class MultiplesOf(nn.Module):
    """Refuses sizes, though it is but a convolution."""

    def __init__(self, *units: int) -> None:
        super().__init__()
        self.conv, self.units = nn.Conv2d(1, 1, 3, padding=1), units

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if any(size % unit for size, unit in zip(image.shape[2:], self.units, strict=True)):
            raise ValueError(f"size must be a multiple of {self.units}")
        return self.conv(image)


@pytest.mark.parametrize("units", [(8, 8), (8, 1), (2, 16), (6, 4)])
def test_sizes_that_the_network_takes_are_the_stride(units: tuple[int, int]) -> None:
    field = probe_receptive_field(MultiplesOf(*units).eval(), 1, 2)
    assert field.stride == units
    assert field.halo == units  # one voxel, rounded up


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: monai_unet(norm="instance"), r"layer model\.0\..*\.N \(InstanceNorm2d\)"),
        (
            lambda: UNet(2, 1, 2, channels=(2, 4, 4), strides=(2, 2)).eval(),
            r"layer model\.0\.adn\.N \(InstanceNorm2d\)",
        ),
        (basic_unet, r"layer conv_0\.conv_0\.adn\.N \(InstanceNorm2d\)"),
        (lambda: SegResNet(2, 8).eval(), r"layer down_layers\.0\.1\.norm1 \(GroupNorm\)"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2, track_running_stats=False)).eval(),
            r"layer 1 \(BatchNorm2d\)",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 2, 1), ChannelSELayer(2, 2, r=1)).eval(),
            r"layer 1\.avg_pool \(AdaptiveAvgPool2d\)",
        ),
    ],
    ids=["UNet with residual units", "UNet", "BasicUNet", "SegResNet", "batch statistics", "squeeze and excitation"],
)
def test_a_layer_that_sees_the_whole_is_named(make: Callable[[], nn.Module], layer: str) -> None:
    with pytest.raises(InputError, match=layer + " normalises or pools over the whole of axis 0 .*use mode gaussian"):
        probe_receptive_field(make(), 1, 2)


def test_a_global_layer_in_three_dimensions_is_named() -> None:
    network = nn.Sequential(nn.Conv3d(1, 2, 3, padding=1), nn.InstanceNorm3d(2)).eval()
    with pytest.raises(InputError, match=r"layer 1 \(InstanceNorm3d\)"):
        probe_receptive_field(network, 1, 3)


def test_a_mean_over_space_outside_of_any_layer_is_refused() -> None:
    network = Function(lambda _, features: features * features.mean((2, 3), keepdim=True).sigmoid())
    with pytest.raises(InputError, match="Function: cannot be tiled exactly: it normalises or pools over the whole"):
        probe_receptive_field(network.eval(), 1, 2)


def test_a_mean_along_one_axis_is_refused_for_that_axis() -> None:
    network = Function(lambda _, features: features - features.mean(3, keepdim=True))
    with pytest.raises(InputError, match="over the whole of axis 1 "):
        probe_receptive_field(network.eval(), 1, 2)


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (
            lambda: basic_unet(norm="batch", upsample="nontrainable"),
            r"layer upcat_4\..*upsample_non_trainable \(Upsample\)",
        ),
        (
            lambda: nn.Sequential(
                nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
            ).eval(),
            r"layer 1 \(Upsample\)",
        ),
    ],
    ids=["BasicUNet", "Upsample"],
)
def test_a_layer_that_aligns_corners_is_named(make: Callable[[], nn.Module], layer: str) -> None:
    with pytest.raises(InputError, match=layer + " aligns corners, which depends on the size of the whole"):
        probe_receptive_field(make(), 1, 2)


def test_interpolation_that_does_not_align_corners_is_taken() -> None:
    network = nn.Sequential(nn.MaxPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)).eval()
    field = probe_receptive_field(network, 1, 2)
    assert (field.halo, field.stride) == ((2, 2), (2, 2))


def test_a_size_that_the_network_resizes_to_is_refused() -> None:
    """To 10 pixels and back, whatever the size: each ratio is another."""
    network = Function(
        lambda image, features: F.interpolate(F.interpolate(features, size=(10, 10)), size=image.shape[2:])
    )
    with pytest.raises(InputError, match="Function: "):
        probe_receptive_field(network.eval(), 1, 2)


def test_a_size_that_is_twice_as_large_is_taken() -> None:
    network = Function(lambda image, features: F.interpolate(F.max_pool2d(features, 2), size=image.shape[2:]))
    field = probe_receptive_field(network.eval(), 1, 2)
    assert (field.halo, field.stride) == ((2, 2), (2, 2))


HIDDEN: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "share above zero": lambda image, features: features * (image > 0).double().mean().to(image.dtype),
    "where the mean is positive": lambda image, features: torch.where(image.mean() > 0, features, -features),
    "a neighbour's sign": lambda image, features: features + (F.pad(image, (4, 0))[..., :-4] > 0),
    "NaN replaced": lambda image, features: features + F.pad(image.nan_to_num(0.0), (0, 0, 3, 0))[..., :-3, :],
    "position": lambda image, features: features * torch.arange(image.shape[-1]),
    "size": lambda image, features: features / image.shape[-2],
}


@pytest.mark.parametrize("name", HIDDEN)
def test_what_a_nan_does_not_show_is_found_by_the_tiles(name: str) -> None:
    network = Function(HIDDEN[name]).eval()
    with pytest.raises(InputError, match="tiles differ from the whole by"):
        probe_receptive_field(network, 1, 2)


def test_a_network_that_wraps_around_is_refused() -> None:
    """A NaN in the middle does not reach the ends; the first tile needs the last all the same."""
    with pytest.raises(InputError, match="tiles differ from the whole by"):
        probe_receptive_field(nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular").eval(), 1, 2)


def test_nan_that_only_tiles_have_is_refused() -> None:
    network = Function(lambda image, features: features if image.shape[-1] > 6 else features * math.nan)
    with pytest.raises(InputError, match="by inf of the largest output"):
        check_tiles(network.eval(), 1, ReceptiveField((1, 1), (1, 1)))


def test_borders_that_repeat_the_image_are_taken() -> None:
    network = nn.Conv2d(1, 1, 5, padding=2, padding_mode="replicate").eval()
    field = probe_receptive_field(network, 1, 2)
    assert (field.halo, field.stride) == ((2, 2), (1, 1))


def test_training_mode_is_refused() -> None:
    with pytest.raises(InputError, match="LacunaUNet: is in training mode; call its eval"):
        probe_receptive_field(LacunaUNet(width=1), 1, 2)
    with pytest.raises(InputError, match="LacunaUNet: is in training mode"):
        check_tiles(LacunaUNet(width=1), 1, ReceptiveField((28, 28), (4, 4)))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"function: is not a torch\.nn\.Module"):
        probe_receptive_field(lambda image: image, 1, 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (nn.Conv2d(1, 1, 3), "Conv2d: does not return the size it is given"),
        (nn.MaxPool2d(2), "MaxPool2d: does not return the size it is given"),
        (nn.MaxPool2d(1, return_indices=True), "MaxPool2d: returns a tuple; mode exact needs one tensor"),
        (nn.Linear(3, 3), r"Linear: fails on an input of shape \(1, 1, 64, 64\): "),
    ],
)
def test_outputs_of_another_kind_are_refused(network: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe_receptive_field(network.eval(), 1, 2)


def test_wrapped_networks_are_looked_into() -> None:
    network = lacuna()
    assert probe_receptive_field(nn.DataParallel(network), 1, 2) == probe_receptive_field(network, 1, 2)
    with pytest.raises(InputError, match=r"layer model\.0\.adn\.N \(InstanceNorm2d\)"):
        probe_receptive_field(nn.DataParallel(UNet(2, 1, 2, channels=(2, 4), strides=(2,)).eval()), 1, 2)


def test_weights_of_half_precision_are_taken() -> None:
    network = lacuna().to(torch.bfloat16)
    assert probe_receptive_field(network, 1, 2).halo == (28, 28)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}


def test_the_network_and_the_random_numbers_are_left_as_they_were() -> None:
    network = basic_unet(norm="batch")
    before, random = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    probe_receptive_field(network, 1, 2)
    after = network.state_dict()
    assert all(torch.equal(values, after[name]) for name, values in before.items())
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in network.modules())
    assert torch.equal(torch.get_rng_state(), random)


def test_probing_gives_the_same_every_time() -> None:
    network = monai_unet()
    assert probe_receptive_field(network, 1, 2) == probe_receptive_field(network, 1, 2)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 9)), min_size=2, max_size=3))
def test_padding_reaches_the_next_multiple_at_the_far_end(axes: list[tuple[int, int]]) -> None:
    sizes, stride = zip(*axes, strict=True)
    image = torch.ones(2, 1, *sizes)
    padded = pad_to_stride(image, stride)
    assert [n % s for n, s in zip(padded.shape[2:], stride, strict=True)] == [0] * len(axes)
    assert all(n <= p < n + s for n, p, s in zip(sizes, padded.shape[2:], stride, strict=True))
    assert torch.equal(padded[(..., *(slice(0, n) for n in sizes))], image)
    assert padded.sum() == image.sum()


@pytest.mark.parametrize("dilation", [33, 40, 100, 500])
def test_tap_that_jumps_over_a_short_probe_is_seen(dilation: int) -> None:
    network = nn.Conv2d(1, 1, 3, padding=dilation, dilation=dilation).eval()
    assert probe_receptive_field(network, 1, 2).halo == (dilation, dilation)


@pytest.mark.parametrize("distance", [4, 8, 9, 12, 60])
def test_dependency_hidden_behind_a_comparison_is_caught_at_any_distance(distance: int) -> None:
    class Hiding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 3, padding=1)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            if image.shape[-1] <= distance:
                return self.conv(image)
            return self.conv(image) + (nn.functional.pad(image, (distance, 0))[..., :-distance] > 0)

    with pytest.raises(InputError, match="tiles differ from the whole"):
        probe_receptive_field(Hiding().eval(), 1, 2)


def test_padding_by_reflection_is_tiled() -> None:
    network = nn.Conv2d(1, 1, 5, padding=2, padding_mode="reflect").eval()
    assert probe_receptive_field(network, 1, 2).halo == (2, 2)
