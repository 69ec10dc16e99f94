from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.utils import dense_patch_slices
from monai.inferers import sliding_window_inference
from monai.inferers.utils import _get_scan_interval

from bonemonai.inferers import ReceptiveField
from bonemonai.inferers.receptive_field import pad_to_stride
from bonemonai.inferers.tiling import WindowGrid, exact_tiles, haloed, haloed_total
from bonemonai.networks import LacunaUNet


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """For inputs this small, threads that wait for each other take a hundred times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@st.composite
def axes(draw: st.DrawFn) -> tuple[slice, int, int, int, int]:
    """Region, size, core, halo and stride of one axis."""
    size = draw(st.integers(1, 60))
    start = draw(st.integers(0, size - 1))
    stop = draw(st.integers(start + 1, size))
    stride = draw(st.integers(1, 8))
    return slice(start, stop), size, draw(st.integers(1, 70)), stride * draw(st.integers(0, 5)), stride


@given(st.lists(axes(), min_size=2, max_size=3))
def test_cores_partition_the_region(drawn: list[tuple[slice, int, int, int, int]]) -> None:
    region, shape, core, halo, stride = zip(*drawn, strict=True)
    seen = np.zeros(shape, int)
    for tile in exact_tiles(region, shape, core, ReceptiveField(halo, stride)):
        assert all(0 < c.stop - c.start <= most for c, most in zip(tile.core, core, strict=True))
        seen[tile.core] += 1
    expected = np.zeros(shape, int)
    expected[region] = 1
    np.testing.assert_array_equal(seen, expected)


@given(axes())
def test_reads_hold_core_and_halo_and_start_at_multiples_of_the_stride(drawn: tuple[slice, int, int, int, int]) -> None:
    region, size, core, halo, stride = drawn
    for tile in exact_tiles([region], [size], [core], ReceptiveField((halo,), (stride,))):
        (kept,), (read,), (cut,) = tile
        assert read.start % stride == 0
        assert read.stop % stride == 0 or read.stop == size
        assert 0 <= read.start <= max(kept.start - halo, 0)
        assert min(kept.stop + halo, size) <= read.stop <= size
        # and no more than needed
        assert read.start > kept.start - halo - stride
        assert read.stop < kept.stop + halo + stride
        assert range(read.start, read.stop)[cut] == range(kept.start, kept.stop)


@given(st.integers(1, 200), st.integers(1, 80), st.integers(0, 6), st.integers(1, 8))
def test_total_is_what_the_tiles_read_padding_included(size: int, core: int, halos: int, stride: int) -> None:
    halo = halos * stride
    tiles = exact_tiles([slice(0, size)], [size], [core], ReceptiveField((halo,), (stride,)))
    read = sum(pad_to_stride(torch.zeros(1, 1, t.read[0].stop - t.read[0].start), (stride,)).numel() for t in tiles)
    assert haloed_total(size, core, halo, stride) == read


def test_reads_by_hand() -> None:
    assert haloed(0, 8, 100, 4, 4) == slice(0, 12)
    assert haloed(8, 16, 100, 4, 4) == slice(4, 20)
    assert haloed(9, 15, 100, 4, 4) == slice(4, 20)
    assert haloed(92, 98, 98, 4, 4) == slice(88, 98)
    assert haloed_total(20, 8, 4, 4) == 12 + 16 + 8


@settings(max_examples=20)
@given(
    st.tuples(st.integers(1, 90), st.integers(1, 90)),
    st.tuples(st.integers(1, 70), st.integers(1, 70)),
    st.data(),
)
def test_outputs_of_the_tiles_are_those_of_the_whole(
    shape: tuple[int, int], core: tuple[int, int], data: st.DataObject
) -> None:
    core = (max(core[0], shape[0] // 3), max(core[1], shape[1] // 3))
    region = tuple(slice(low := data.draw(st.integers(0, n - 1)), data.draw(st.integers(low + 1, n))) for n in shape)
    torch.manual_seed(0)
    network = LacunaUNet(width=2).double().eval()
    image = torch.randn(1, 1, *shape, dtype=torch.float64)
    found = torch.full((1, 2, *shape), math.nan, dtype=torch.float64)
    with torch.no_grad():
        whole = network(image)
        for tile in exact_tiles(region, shape, core, ReceptiveField((28, 28), (4, 4))):
            found[(..., *tile.core)] = network(image[(..., *tile.read)])[(..., *tile.cut)]
    torch.testing.assert_close(found[(..., *region)], whole[(..., *region)], rtol=0, atol=1e-12)


sizes = st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 20), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9])),
    min_size=2,
    max_size=3,
)


@given(sizes)
def test_windows_start_where_monais_do(drawn: list[tuple[int, int, float]]) -> None:
    shape, roi, overlap = zip(*drawn, strict=True)
    grid = WindowGrid(shape, roi, overlap)
    padded = [max(size, window) for size, window in zip(shape, roi, strict=True)]
    interval = _get_scan_interval(padded, roi, len(roi), overlap)
    monais = [tuple(s.start for s in box) for box in dense_patch_slices(padded, roi, interval)]
    assert list(itertools.product(*grid.starts)) == monais
    assert len(grid) == len(monais)


@pytest.mark.parametrize(
    ("shape", "roi", "overlap"),
    [
        ((9, 20, 17), (4, 8, 5), (0.5, 0.5, 0.5)),
        ((9, 20, 17), (4, 8, 5), (0.0, 0.25, 0.6)),
        ((3, 20, 4), (4, 8, 7), (0.25, 0.25, 0.25)),
        ((9, 20, 17), (None, 0, -1), (0.25, 0.25, 0.25)),
        ((2, 3, 1), (7, 3, 4), (0.5, 0.5, 0.5)),
    ],
)
def test_windows_hold_what_monais_hold(
    shape: tuple[int, int, int], roi: tuple[int | None, ...], overlap: tuple[float, ...]
) -> None:
    """Each voxel holds its own number, so a window's content says where it lies."""
    volume = torch.arange(1.0, math.prod(shape) + 1).reshape(1, 1, *shape)
    seen: list[torch.Tensor] = []

    def look(window: torch.Tensor) -> torch.Tensor:
        seen.append(window[0, 0])
        return window

    sliding_window_inference(volume, [size or 0 for size in roi], 1, look, overlap=overlap)
    grid = WindowGrid(shape, roi, overlap)
    flat = [width for pair in reversed(grid.pad) for width in pair]
    padded = torch.nn.functional.pad(volume[0, 0], flat)
    windows = [
        padded[tuple(slice(low, low + size) for low, size in zip(start, grid.roi_size, strict=True))]
        for start in itertools.product(*grid.starts)
    ]
    assert len(grid) == len(windows) == len(seen)
    assert all(torch.equal(ours, monais) for ours, monais in zip(windows, seen, strict=True))


def test_a_window_without_a_size_takes_the_whole_axis() -> None:
    grid = WindowGrid((7, 30, 40), (None, 0, 16), (0.25, 0.25, 0.25))
    assert grid.roi_size == (7, 30, 16)
    assert grid.starts[:2] == ((0,), (0,))
    assert grid.starts[2] == (0, 12, 24)
    assert grid.pad == ((0, 0), (0, 0), (0, 0))


def test_padding_of_an_axis_shorter_than_the_window_is_shared_by_both_ends() -> None:
    grid = WindowGrid((3, 8), (8, 8), (0.5, 0.5))
    assert grid.pad == ((2, 3), (0, 0))
    assert (grid.shape, grid.starts, len(grid)) == ((3, 8), ((0,), (0,)), 1)


def test_as_many_sizes_as_axes() -> None:
    with pytest.raises(ValueError, match="zip"):
        WindowGrid((3, 8), (8,), (0.5, 0.5))
    with pytest.raises(ValueError, match="zip"):
        exact_tiles([slice(0, 3)], (3, 3), (1, 1), ReceptiveField((0, 0), (1, 1)))
