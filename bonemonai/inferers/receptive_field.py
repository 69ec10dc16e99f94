"""How far a network sees: halo and stride, found by NaN impulses and proved by tiles against the whole."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from bonemonai.errors import InputError, NumericalError

_LONGEST = {1: 4096, 2: 2048, 3: 512}  # voxels of the axis that is probed; beyond it a network counts as global
_LARGEST_STRIDE = 64
_LEAST_CHECK = 160  # voxels
_TOLERANCE = 1e-10  # of the largest output, in float64: rounding is 1e-14, a missing input 1e-7 and more


@dataclass(frozen=True)
class ReceptiveField:
    """What tiling a network exactly needs to know.

    Attributes:
        halo: voxels, one number an axis, that a core depends on to either side if it begins and ends at multiples of
            the stride; multiples of the stride.
        stride: tiles must start at multiples of it, one number an axis.
        error: largest difference between tiles and the whole in float64, as a share of the largest output.
    """

    halo: tuple[int, ...]
    stride: tuple[int, ...]
    error: float = 0.0


def probe_receptive_field(network: nn.Module, in_channels: int, spatial_dims: int) -> ReceptiveField:
    """Find halo and stride of a network, and prove them.

    A NaN that is put into one plane of the input reaches every output that depends on that plane, whatever the
    weights are. One plane an axis is tried, at every phase of the stride, with the other axes thin; the axis is made
    longer until the NaN no longer reaches its ends. Then :func:`check_tiles` compares tiles with the whole: a NaN
    does not pass a comparison, so a network could hide a dependency behind one.

    The work is done on copies on the CPU, where the convolution mixes no tiles of its own.

    Args:
        network: in evaluation mode; its output must have the size of its input.
        in_channels: of the input.
        spatial_dims: 2 or 3.

    Raises:
        InputError: if the network cannot be tiled exactly, naming the layer where that is known.
        NumericalError: if its weights make NaN of everything.
    """
    with torch.autocast("cpu", enabled=False):
        return _probe(network, in_channels, spatial_dims)


def _probe(network: nn.Module, in_channels: int, spatial_dims: int) -> ReceptiveField:
    probed = _cpu_copy(network, torch.float32)
    unit = _size_unit(probed, in_channels, spatial_dims)
    with torch.no_grad():
        blank = _forward(probed, torch.zeros(1, in_channels, *[-(-24 // n) * n for n in unit], dtype=_dtype(probed)))
    if not torch.isfinite(blank).all():
        raise NumericalError(_name(network), "gives NaN or infinite values for an input of zeros.")
    halo, stride = [], []
    with torch.no_grad():
        for axis in range(spatial_dims):
            needed, period = _probe_axis(probed, in_channels, unit, axis)
            stride.append(math.lcm(period, unit[axis]))
            halo.append(-(-needed // stride[-1]) * stride[-1])
    found = ReceptiveField(tuple(halo), tuple(stride))
    return ReceptiveField(found.halo, found.stride, check_tiles(network, in_channels, found))


def check_tiles(network: nn.Module, in_channels: int, field: ReceptiveField) -> float:
    """Compare tiles with the whole in float64, along each axis, at two lengths and two cross-sections.

    Cutting along one axis at a time is enough: what holds for every cross-section holds for that of a tile that
    has been cut along another axis.

    Args:
        network: see :func:`probe_receptive_field`.
        in_channels: of the input.
        field: halo and stride to prove, found or given.

    Returns:
        The largest difference, as a share of the largest output.

    Raises:
        InputError: if tiles differ from the whole, or a layer resamples in a way that depends on the size.
    """
    checked = _cpu_copy(network, torch.float64)
    generator = torch.Generator().manual_seed(0)
    worst = 0.0
    with torch.no_grad(), torch.autocast("cpu", enabled=False):
        thin = _thin(checked, in_channels, field.stride)
    for axis, more in itertools.product(range(len(field.halo)), (0, 1)):
        halo, stride = field.halo[axis], field.stride[axis]
        shape = [size + more * step for size, step in zip(thin, field.stride, strict=True)]
        # long enough for what a tile leaves out; the second length is no multiple of the stride: the far end is padded
        length = -(-max(2 * halo, _LEAST_CHECK) // stride) * stride
        shape[axis] = length + (5 + 2 * more) * stride - more * (stride > 1)
        image = torch.randn((1, in_channels, *shape), generator=generator, dtype=torch.float64)
        worst = max(worst, _tile_error(checked, image, field, axis))
    if not worst <= _TOLERANCE:
        raise InputError(
            _name(network),
            f"cannot be tiled exactly with halo {field.halo} and stride {field.stride}: tiles differ from the whole "
            f"by {worst:.1e} of the largest output; use mode gaussian or constant.",
        )
    return worst


def pad_to_stride(image: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Pad with zeros at the far end of each spatial axis to a multiple of the stride.

    Args:
        image: (B, C, spatial...).
        stride: one number a spatial axis.
    """
    widths = [(0, -size % step) for size, step in zip(image.shape[2:], stride, strict=True)]
    flat = [width for pair in reversed(widths) for width in pair]
    return F.pad(image, flat) if any(flat) else image


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.float32)


def _cpu_copy(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    if not isinstance(network, nn.Module):
        raise InputError(_name(network), "is not a torch.nn.Module; mode exact must look into it.")
    # what torch.compile and DistributedDataParallel wrap
    inner: Any = getattr(network, "_orig_mod", None) or network
    inner = inner.module if isinstance(inner, nn.parallel.DistributedDataParallel | nn.DataParallel) else inner
    if inner.training:
        raise InputError(_name(inner), "is in training mode; call its eval() before inference.")
    duplicate: nn.Module = copy.deepcopy(inner).to("cpu", dtype)
    return duplicate


def _name(network: object) -> str:
    return type(network).__name__


def _size_unit(network: nn.Module, channels: int, dims: int) -> tuple[int, ...]:
    """Smallest step an axis between sizes that the network takes and gives back."""

    def takes(steps: Sequence[int]) -> bool:
        return all(_takes(network, channels, [-(-24 // n) * n + more * n for n in steps]) for more in (0, 1, 2))

    candidates = sorted(range(1, _LARGEST_STRIDE + 1), key=lambda n: (n & (n - 1) != 0, n))  # powers of two first
    with torch.no_grad():
        common = next((n for n in candidates if takes([n] * dims)), None)
        if common is None:
            _forward(network, torch.zeros(1, channels, *[_LARGEST_STRIDE] * dims, dtype=_dtype(network)))
            raise InputError(_name(network), "does not return the size it is given; only such networks can be tiled.")
        unit = [common] * dims
        for axis in range(dims):
            divisors = [n for n in range(1, common + 1) if common % n == 0]
            unit[axis] = next(n for n in divisors if takes([*unit[:axis], n, *unit[axis + 1 :]]))
    return tuple(unit)


def _takes(network: nn.Module, channels: int, size: Sequence[int]) -> bool:
    try:
        output = network(torch.zeros(1, channels, *size, dtype=_dtype(network)))
    except Exception:  # whatever a network raises on a size it cannot take
        return False
    return isinstance(output, torch.Tensor) and tuple(output.shape[2:]) == tuple(size)


def _forward(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    try:
        output = network(image)
    except InputError:
        raise
    except Exception as error:
        raise InputError(_name(network), f"fails on an input of shape {tuple(image.shape)}: {error}") from error
    if not isinstance(output, torch.Tensor):
        raise InputError(_name(network), f"returns a {type(output).__name__}; mode exact needs one tensor.")
    return output


def _probe_axis(network: nn.Module, channels: int, unit: Sequence[int], axis: int) -> tuple[int, int]:
    """Halo of tiles along an axis, and after how many voxels the network's pattern repeats."""
    shape = _thin(network, channels, unit)
    reach = _reach(network, channels, shape, unit[axis], axis)
    for guess in (n for n in (4, 8, 16, 32, _LARGEST_STRIDE) if n >= unit[axis]):
        # a length at which no phase's NaN can touch an end
        shape[axis] = -(-2 * (reach + 4 * guess) // unit[axis]) * unit[axis]
        start = shape[axis] // 2 - guess
        found = [_reached(network, channels, shape, axis, start + phase) for phase in range(2 * guess)]
        period = _period(found, guess)
        if period is not None:
            return _halo(found, start, math.lcm(period, unit[axis])), period
        reach = max(max(start + i - low, high - start - i) for i, (low, high) in enumerate(found))
    raise InputError(
        _name(network),
        f"cannot be tiled exactly: its pattern along axis {axis} does not repeat within {_LARGEST_STRIDE} voxels "
        "(it may resize to a fixed size); use mode gaussian or constant.",
    )


def _reach(network: nn.Module, channels: int, thin: Sequence[int], unit: int, axis: int) -> int:
    """How far a NaN travels along an axis, whichever way is longer."""
    shape = list(thin)
    longest = _LONGEST[len(thin)] // unit * unit
    # short lengths first: a layer that sees everything shows early, and only what merely sees far has to be made longer
    for length in [-(-256 // unit) * unit, longest]:
        shape[axis] = length
        middle = length // 2
        ends = [_reached(network, channels, shape, axis, p) for p in (middle - 1, middle)]
        if min(low for low, _ in ends) == 0 or max(high for _, high in ends) == length - 1:
            layer = _global_layer(network, channels, shape, axis, 0.75 if length == longest else 0.2)
            if layer or length == longest:
                _refuse_global(network, layer, axis, middle)
    # of the longest: a dilated layer may jump over both ends of a shorter one
    return max(max(middle - 1 - low for low, _ in ends), max(high - middle + 1 for _, high in ends))


def _halo(found: Sequence[tuple[int, int]], start: int, stride: int) -> int:
    """Halo of cores that begin and end at multiples of the stride, less than how far a NaN travels at its worst phase.

    A core from c on needs the voxel p if p reaches an output at c or later, so at most c - p voxels before the core,
    c being the last multiple of the stride that p reaches; and likewise after it.
    """
    before = max(high // stride * stride - (start + i) for i, (_, high) in enumerate(found))
    after = max(start + i + 1 - (low // stride + 1) * stride for i, (low, _) in enumerate(found))
    return max(before, after, 0)


def _thin(network: nn.Module, channels: int, unit: Sequence[int]) -> list[int]:
    """The smallest cross-section the network takes; poolings of odd remainders and reflections need more than one."""
    long = [-(-64 // n) * n for n in unit]
    for factor in itertools.count(1):
        thin = [n * factor for n in unit]
        ok = (_takes(network, channels, [*thin[:a], long[a], *thin[a + 1 :]]) for a in range(len(unit)))
        if all(ok) or min(thin) >= 64:
            return thin
    raise AssertionError  # pragma: no cover - count() does not end


def _period(found: Sequence[tuple[int, int]], most: int) -> int | None:
    for period in range(1, most + 1):
        pairs = zip(found, found[period:], strict=False)
        if all((low + period, high + period) == later for (low, high), later in pairs):
            return period
    return None


def _reached(network: nn.Module, channels: int, shape: Sequence[int], axis: int, position: int) -> tuple[int, int]:
    """First and last plane of the output that a NaN in one plane of the input reaches."""
    output = _forward(network, _impulse(network, channels, shape, axis, position))
    where = _nan_extent(output, axis)
    if where is None:
        return position, position
    return where


def _impulse(network: nn.Module, channels: int, shape: Sequence[int], axis: int, position: int) -> torch.Tensor:
    image = torch.zeros(1, channels, *shape, dtype=_dtype(network))
    image.select(axis + 2, position).fill_(math.nan)
    return image


def _nan_extent(output: torch.Tensor, axis: int) -> tuple[int, int] | None:
    others = [a for a in range(output.ndim) if a != axis + 2]
    planes = output.isnan().sum(dim=others).nonzero().flatten()
    return (int(planes[0]), int(planes[-1])) if len(planes) else None


def _global_layer(network: nn.Module, channels: int, shape: Sequence[int], axis: int, most: float) -> str | None:
    """The innermost layer that turns a NaN in at most a share of the axis into one everywhere."""
    guilty: list[str] = []

    def hook(name: str) -> Any:
        def look(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            tensors = [t for t in inputs if isinstance(t, torch.Tensor) and t.ndim == len(shape) + 2]
            if guilty or not tensors or not isinstance(output, torch.Tensor):
                return
            went_in = max(_share(t, axis) for t in tensors)
            # a pooling over the whole axis leaves one element
            came_out = _share(output, axis) if output.ndim == len(shape) + 2 else float(output.isnan().any())
            if 0 < went_in < most and came_out == 1.0:
                guilty.append(f"layer {name} ({type(module).__name__})")

        return look

    hooks = [module.register_forward_hook(hook(name)) for name, module in network.named_modules() if name]
    try:
        _forward(network, _impulse(network, channels, shape, axis, shape[axis] // 2))
    finally:
        for handle in hooks:
            handle.remove()
    return guilty[0] if guilty else None


def _refuse_global(network: nn.Module, layer: str | None, axis: int, seen: int) -> NoReturn:
    raise InputError(
        _name(network),
        f"cannot be tiled exactly: {layer or 'it'} normalises or pools over the whole of axis {axis} "
        f"(an output depends on voxels {seen} away); use mode gaussian or constant.",
    )


def _share(tensor: torch.Tensor, axis: int) -> float:
    extent = _nan_extent(tensor, axis)
    return 0.0 if extent is None else (extent[1] - extent[0] + 1) / tensor.shape[axis + 2]


def _tile_error(network: nn.Module, image: torch.Tensor, field: ReceptiveField, axis: int) -> float:
    halo, stride = field.halo[axis], field.stride[axis]
    size = image.shape[axis + 2]
    with torch.no_grad(), torch.autocast("cpu", enabled=False), _refuse_resampling(network):
        whole = _forward(network, pad_to_stride(image, field.stride)).narrow(axis + 2, 0, size)
        scale, worst = float(whole.abs().max()) or 1.0, 0.0
        # the first tile and the last, those behind the first halo, and some in the middle at both phases of two strides
        last, middle = (size - 1) // stride, size // 2 // stride
        for number in sorted({0, halo // stride + 1, halo // stride + 2, *range(middle, middle + 4), last}):
            core = number * stride
            low, high, stop = max(core - halo, 0), min(core + stride + halo, size), min(core + stride, size)
            tile = _forward(network, pad_to_stride(image.narrow(axis + 2, low, high - low), field.stride))
            cut = tile.narrow(axis + 2, core - low, stop - core)
            difference = (cut - whole.narrow(axis + 2, core, stop - core)).abs().max()
            worst = max(worst, float(difference.nan_to_num(math.inf)) / scale)
    return worst


class _ResamplingGuard(TorchFunctionMode):
    """Refuses interpolation whose result depends on the size of the whole, naming the layer it happens in."""

    def __init__(self, network: nn.Module, inside: list[str]) -> None:
        super().__init__()
        self._network, self._inside = network, inside

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        if func is F.interpolate:
            image = args[0] if args else kwargs["input"]
            names = ("size", "scale_factor", "mode", "align_corners")
            given = dict(zip(names, args[1:], strict=False)) | kwargs
            ratios = [
                max(a, b) / min(a, b) for a, b in zip(output.shape[2:], image.shape[2:], strict=True) if min(a, b) > 0
            ]
            if given.get("align_corners") or any(ratio % 1 for ratio in ratios):
                why = "aligns corners" if given.get("align_corners") else "resizes by a ratio that is no whole number"
                where = f"layer {self._inside[-1]}" if self._inside else "it"
                raise InputError(
                    _name(self._network),
                    f"cannot be tiled exactly: {where} {why}, which depends on the size of the whole; "
                    "use mode gaussian or constant.",
                )
        return output


@contextmanager
def _refuse_resampling(network: nn.Module) -> Iterator[None]:
    inside: list[str] = []
    hooks = []
    for name, module in network.named_modules():
        if name:
            label = f"{name} ({type(module).__name__})"
            hooks.append(module.register_forward_pre_hook(lambda *_, label=label: inside.append(label)))
            hooks.append(module.register_forward_hook(lambda *_: inside.pop() and None))
    try:
        with _ResamplingGuard(network, inside):
            yield
    finally:
        for handle in hooks:
            handle.remove()
