from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import SliceInferer, sliding_window_inference
from torch import nn

from bonemonai.inferers import OverlapSweep
from bonemonai.inferers.forward import Forward
from bonemonai.inferers.slice_wise import SliceWise
from bonemonai.inferers.tiling import Box, WindowGrid

Roi = Sequence[int | None]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """For inputs this small, threads that wait for each other take a hundred times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def network(channels: int = 1, classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv3d(channels, 3, 3, padding=1), nn.LeakyReLU(), nn.Conv3d(3, classes, (3, 1, 3), padding=(1, 0, 1))
    ).eval()


def volume(*shape: int, channels: int = 1) -> torch.Tensor:
    return torch.randn((channels, *shape), generator=torch.Generator().manual_seed(1))


def sweep(
    scan: torch.Tensor,
    overlap_sweep: OverlapSweep,
    regions: Sequence[Box] | None = None,
    predict: Callable[..., torch.Tensor] | None = None,
    empty: Callable[[Box], bool] | None = None,
) -> torch.Tensor:
    """Infer regions of a volume and put them together; every voxel must be given once."""
    shape = scan.shape[1:]
    forward = Forward(predict or network(len(scan)))
    found: torch.Tensor | None = None
    times = torch.zeros(shape)

    def put(box: Box, values: torch.Tensor | None) -> None:
        nonlocal found
        times[box] += 1
        if values is not None:
            found = torch.full((len(values), *shape), torch.nan) if found is None else found
            found[(slice(None), *box)] = values

    for region in regions or [tuple(slice(0, size) for size in shape)]:
        with torch.no_grad():
            for _ in overlap_sweep.run(region, lambda box: scan[(slice(None), *box)], put, forward, empty):
                pass
    assert (times == 1).all()
    assert found is not None
    return found


def monai(
    scan: torch.Tensor, roi: Roi, overlap: float | Sequence[float], predict: nn.Module | None = None, **more: object
) -> torch.Tensor:
    size = [one or 0 for one in roi]
    with torch.no_grad():
        predict = predict or network(len(scan))
        output = sliding_window_inference(
            scan[None],
            size,
            predictor=predict,
            overlap=overlap,
            **more,  # type: ignore[arg-type]
        )
    assert isinstance(output, torch.Tensor)
    return output[0]


def windows(scan: torch.Tensor, roi: Roi, overlap: float | Sequence[float]) -> WindowGrid:
    shares = (overlap,) * 3 if isinstance(overlap, float) else overlap
    return WindowGrid(scan.shape[1:], roi, shares)


def planes(shape: Sequence[int], *cuts: int) -> list[Box]:
    """Regions of all rows and columns, cut at planes."""
    ends = [0, *cuts, shape[0]]
    return [(slice(a, b), slice(0, shape[1]), slice(0, shape[2])) for a, b in itertools.pairwise(ends)]


def bands(shape: Sequence[int], *cuts: int) -> list[Box]:
    """Regions of all planes and columns, cut at rows."""
    ends = [0, *cuts, shape[1]]
    return [(slice(0, shape[0]), slice(a, b), slice(0, shape[2])) for a, b in itertools.pairwise(ends)]


SHAPES: dict[str, tuple[tuple[int, int, int], Roi]] = {
    "cubes": ((20, 18, 19), (8, 8, 8)),
    "flat windows": ((20, 18, 19), (4, 10, 8)),
    "whole planes": ((20, 9, 10), (6, None, None)),
    "one plane": ((9, 18, 19), (1, 8, 8)),
    "short in depth": ((5, 18, 19), (8, 8, 8)),
    "short in the plane": ((20, 5, 7), (8, 8, 8)),
    "short everywhere": ((3, 4, 6), (8, 8, 9)),
}
on_shapes = pytest.mark.parametrize(("shape", "roi"), SHAPES.values(), ids=SHAPES.keys())


@on_shapes
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize(("overlap", "batch"), [(0.25, 1), (0.5, 1), (0.5, 3), (0.25, 7)])
def test_the_whole_volume_has_monais_bits(
    shape: tuple[int, int, int], roi: Roi, mode: str, overlap: float, batch: int
) -> None:
    scan = volume(*shape)
    found = sweep(scan, OverlapSweep(windows(scan, roi, overlap), mode=mode, sw_batch_size=batch))
    assert torch.equal(found, monai(scan, roi, overlap, mode=mode, sw_batch_size=batch))


@settings(max_examples=25)
@given(
    st.tuples(st.integers(1, 16), st.integers(1, 14), st.integers(1, 14)),
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)),
    st.tuples(*[st.sampled_from([0.0, 0.25, 0.5, 0.7])] * 3),
    st.integers(1, 8),
    st.lists(st.integers(1, 15), max_size=3),
)
def test_any_volume_cut_at_any_planes_has_monais_bits(
    shape: tuple[int, int, int], roi: tuple[int, int, int], overlap: tuple[float, ...], batch: int, cuts: list[int]
) -> None:
    scan = volume(*shape)
    regions = planes(shape, *sorted({cut for cut in cuts if cut < shape[0]}))
    grid = windows(scan, roi, overlap)
    found = sweep(scan, OverlapSweep(grid, mode="gaussian", sw_batch_size=batch), regions[::-1])
    assert torch.equal(found, monai(scan, roi, overlap, mode="gaussian", sw_batch_size=batch))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_regions_of_planes_in_any_order_have_monais_bits(batch: int) -> None:
    scan, roi = volume(30, 18, 15), (8, 10, 8)
    regions = planes((30, 18, 15), 1, 7, 8, 20, 29)
    random.Random(0).shuffle(regions)
    found = sweep(scan, OverlapSweep(windows(scan, roi, 0.5), mode="gaussian", sw_batch_size=batch), regions)
    assert torch.equal(found, monai(scan, roi, 0.5, mode="gaussian", sw_batch_size=batch))


@pytest.mark.parametrize("sigma_scale", [0.25, (0.1, 0.2, 0.3)])
def test_width_of_the_gaussian_is_monais(sigma_scale: float | tuple[float, ...]) -> None:
    scan, roi = volume(12, 13, 14), (6, 7, 8)
    found = sweep(scan, OverlapSweep(windows(scan, roi, 0.5), mode="gaussian", sigma_scale=sigma_scale))
    assert torch.equal(found, monai(scan, roi, 0.5, mode="gaussian", sigma_scale=sigma_scale, sw_batch_size=1))
    assert not torch.equal(found, monai(scan, roi, 0.5, mode="gaussian", sw_batch_size=1))


@pytest.mark.parametrize("cval", [0.0, -3.0])
def test_a_short_volume_is_padded_with_monais_value(cval: float) -> None:
    scan, roi = volume(5, 6, 12), (8, 8, 8)
    found = sweep(scan, OverlapSweep(windows(scan, roi, 0.25), cval=cval))
    assert torch.equal(found, monai(scan, roi, 0.25, cval=cval, sw_batch_size=1))


def test_several_channels_go_in_and_come_out() -> None:
    scan, roi, predict = volume(12, 13, 14, channels=3), (6, 7, 8), network(3, 5)
    found = sweep(scan, OverlapSweep(windows(scan, roi, 0.5), sw_batch_size=3), predict=predict)
    assert found.shape == (5, 12, 13, 14)
    assert torch.equal(found, monai(scan, roi, 0.5, predict, sw_batch_size=3))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize(("overlap", "batch"), [(0.25, 1), (0.5, 3)])
def test_slices_have_the_bits_of_monais_slice_inferer(axis: int, overlap: float, batch: int) -> None:
    torch.manual_seed(0)
    scan = volume(9, 10, 11)
    flat = nn.Sequential(nn.Conv2d(1, 3, (3, 5), padding=(1, 2)), nn.LeakyReLU(), nn.Conv2d(3, 2, 3, padding=1)).eval()
    inferer = SliceInferer(
        spatial_dim=axis, roi_size=(6, 5), sw_batch_size=batch, overlap=overlap, mode="gaussian", sigma_scale=0.125
    )
    with torch.no_grad():
        expected = inferer(scan[None], flat)[0]
    roi: list[int | None] = [6, 5]
    roi.insert(axis, 1)
    grid = windows(scan, roi, overlap)
    found = sweep(
        scan, OverlapSweep(grid, mode="gaussian", sw_batch_size=batch), planes((9, 10, 11), 4), SliceWise(flat, axis)
    )
    assert torch.equal(found, expected)


@on_shapes
@pytest.mark.parametrize("batch", [1, 3])
def test_bands_differ_from_monai_in_the_last_bits_at_most(shape: tuple[int, int, int], roi: Roi, batch: int) -> None:
    scan = volume(*shape)
    found = sweep(scan, OverlapSweep(windows(scan, roi, 0.5), mode="gaussian", sw_batch_size=batch), bands(shape, 1, 3))
    expected = monai(scan, roi, 0.5, mode="gaussian", sw_batch_size=batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@on_shapes
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_bands_that_run_monais_batches_have_monais_bits(shape: tuple[int, int, int], roi: Roi, batch: int) -> None:
    scan = volume(*shape)
    overlap_sweep = OverlapSweep(windows(scan, roi, 0.5), mode="gaussian", sw_batch_size=batch, recompute=True)
    found = sweep(scan, overlap_sweep, bands(shape, 1, 3)[::-1])
    assert torch.equal(found, monai(scan, roi, 0.5, mode="gaussian", sw_batch_size=batch))


class Together(nn.Module):
    """Makes visible which windows were run together; a convolution shows it on some machines only, in its last bits."""

    def forward(self, part: torch.Tensor) -> torch.Tensor:
        return part + (part > 0).sum() / 1000


@pytest.mark.parametrize("batch", [1, 3, 7])
@pytest.mark.parametrize("recompute", [False, True])
def test_windows_are_run_together_as_in_monai(batch: int, recompute: bool) -> None:
    shape, roi = (24, 18, 15), (8, 10, 8)
    scan = volume(*shape)
    regions = [
        (cut[0], *band[1:]) for band in bands(shape, *([7] if recompute else [])) for cut in planes(shape, 5, 6, 17)
    ]
    overlap_sweep = OverlapSweep(windows(scan, roi, 0.5), sw_batch_size=batch, recompute=recompute)
    found = sweep(scan, overlap_sweep, regions[::-1], Together())
    assert torch.equal(found, monai(scan, roi, 0.5, Together(), sw_batch_size=batch))


def test_windows_of_a_band_are_run_together_whichever_planes_are_asked_for() -> None:
    shape = (24, 18, 15)
    scan = volume(*shape)
    overlap_sweep = OverlapSweep(windows(scan, (8, 6, 8), 0.5), sw_batch_size=4)
    whole = bands(shape, 7)
    parts = [(cut[0], *band[1:]) for band in whole for cut in planes(shape, 5, 6, 17)]
    assert torch.equal(
        sweep(scan, overlap_sweep, parts[::-1], Together()), sweep(scan, overlap_sweep, whole, Together())
    )


def test_a_band_cut_at_planes_has_the_bits_of_the_band() -> None:
    shape = (24, 18, 15)
    scan = volume(*shape)
    overlap_sweep = OverlapSweep(windows(scan, (8, 6, 8), 0.5), mode="gaussian", sw_batch_size=4)
    whole = bands(shape, 7)
    parts = [(cut[0], *band[1:]) for band in whole for cut in planes(shape, 5, 13)]
    assert torch.equal(sweep(scan, overlap_sweep, parts[::-1]), sweep(scan, overlap_sweep, whole))


@on_shapes
@pytest.mark.parametrize("batch", [1, 3, 7])
def test_number_of_batches_is_what_is_run(shape: tuple[int, int, int], roi: Roi, batch: int) -> None:
    scan, forward = volume(*shape), Forward(lambda part: part)
    grid = windows(scan, roi, 0.5)
    overlap_sweep = OverlapSweep(grid, sw_batch_size=batch)
    for region in [*bands(shape), *bands(shape, 1, 3)]:
        before = forward.passes
        for _ in overlap_sweep.run(region, lambda box: scan[(slice(None), *box)], lambda *_: None, forward):
            pass
        assert forward.passes - before == overlap_sweep.number_of_batches(region[1])
        again = OverlapSweep(grid, sw_batch_size=batch, recompute=True)
        assert again.number_of_batches(region[1]) == overlap_sweep.number_of_batches(region[1])


def test_a_band_runs_only_the_windows_that_touch_it() -> None:
    scan = volume(8, 40, 8)
    grid = windows(scan, (8, 8, 8), 0.5)
    rows = slice(16, 20)
    assert OverlapSweep(grid).windows_in_band(rows) == [(12, 0), (16, 0)]
    assert len(OverlapSweep(grid, recompute=True).windows_in_band(rows)) == len(grid)


REGIONS = [
    (slice(0, 30), slice(0, 18), slice(0, 15)),
    (slice(11, 12), slice(0, 18), slice(0, 15)),
    (slice(5, 30), slice(3, 9), slice(0, 15)),
    (slice(0, 7), slice(17, 18), slice(0, 15)),
]


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("batch", [1, 7])
@pytest.mark.parametrize("roi", [(8, 10, 8), (40, 10, 8)])
def test_reads_are_what_is_fetched_and_forgotten_planes_are_not_asked_for(
    region: Box, batch: int, roi: tuple[int, int, int]
) -> None:
    scan = volume(30, 18, 15)
    overlap_sweep = OverlapSweep(windows(scan, roi, 0.5), sw_batch_size=batch)
    fetched: list[Box] = []
    needed = 0

    def fetch(box: Box) -> torch.Tensor:
        assert box[0].start >= needed
        fetched.append(box)
        return scan[(slice(None), *box)]

    floors = []
    with torch.no_grad():
        for needed in overlap_sweep.run(region, fetch, lambda *_: None, Forward(network())):
            floors.append(needed)
    assert floors == sorted(floors)
    assert floors[-1] == region[0].stop
    reached = tuple(slice(min(p.start for p in axis), max(p.stop for p in axis)) for axis in zip(*fetched, strict=True))
    assert overlap_sweep.reads(region) == reached
    assert len(fetched) == sum(len(part) for part in overlap_sweep.batches(region))


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_few_planes_are_open_at_once(batch: int) -> None:
    """As many as a window is deep, and as a batch reaches into the next ones; never all."""
    scan = volume(60, 18, 15)
    grid = windows(scan, (8, 10, 8), 0.5)
    overlap_sweep = OverlapSweep(grid, sw_batch_size=batch)
    whole = planes((60, 18, 15))[0]
    inplane = len(grid.starts[1]) * len(grid.starts[2])
    open_planes = overlap_sweep.open_planes(whole)
    assert open_planes <= 8 + 4 * -(-batch // inplane) < 60
    given: list[int] = []
    opened: list[int] = []

    def fetch(box: Box) -> torch.Tensor:
        opened.append(box[0].stop)
        return scan[(slice(None), *box)]

    def put(box: Box, values: torch.Tensor | None) -> None:
        # what is handed on was opened, and of what was opened no more is held than said
        assert max(opened) - box[0].start <= open_planes
        given.append(box[0].stop)

    with torch.no_grad():
        for _ in overlap_sweep.run(whole, fetch, put, Forward(network())):
            pass
    assert given[-1] == 60


def test_accumulators_are_of_the_open_planes_only() -> None:
    """Of all tensors that a sweep makes while it waits for its next window, none is as large as the volume."""
    scan = volume(200, 9, 8)
    overlap_sweep = OverlapSweep(windows(scan, (8, 6, 6), 0.5))
    largest = 0

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            output = func(*args, **(kwargs or {}))
            if isinstance(output, torch.Tensor) and output.untyped_storage().data_ptr() != place:
                largest = max(largest, output.untyped_storage().nbytes() // 4)
            return output

    place = scan.untyped_storage().data_ptr()
    with torch.no_grad(), Largest():
        steps = overlap_sweep.run(
            planes((200, 9, 8))[0], lambda box: scan[(slice(None), *box)], lambda *_: None, Forward(lambda part: part)
        )
        for _ in steps:
            pass
    span = overlap_sweep.open_planes(planes((200, 9, 8))[0])
    assert span * 9 * 8 <= largest < 2 * span * 9 * 8
    assert span < 20


def test_planes_are_handed_on_in_order_a_few_at_a_time() -> None:
    scan = volume(30, 18, 15)
    boxes: list[Box] = []
    overlap_sweep = OverlapSweep(windows(scan, (20, 10, 8), 0.5))
    with torch.no_grad():
        for _ in overlap_sweep.run(
            planes((30, 18, 15))[0],
            lambda box: scan[(slice(None), *box)],
            lambda box, _: boxes.append(box),
            Forward(network()),
        ):
            pass
    assert [box[0].start for box in boxes] == [0, *(box[0].stop for box in boxes[:-1])]
    assert max(box[0].stop - box[0].start for box in boxes) <= 8


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cuts", [(), (5, 13)])
def test_windows_left_out_count_as_zeros(batch: int, cuts: tuple[int, ...]) -> None:
    """MONAI with a network that returns zeros where the volume is empty."""
    shape, roi = (24, 18, 15), (6, 6, 8)
    scan = volume(*shape)
    scan[:, :10, 8:] = 0

    class Blind(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network()

        def forward(self, part: torch.Tensor) -> torch.Tensor:
            return self.network(part) * part.any(4, True).any(3, True).any(2, True)

    asked: list[bool] = []

    def empty(box: Box) -> bool:
        asked.append(not scan[(slice(None), *box)].any())
        return asked[-1]

    overlap_sweep = OverlapSweep(windows(scan, roi, 0.5), mode="gaussian", sw_batch_size=batch)
    found = sweep(scan, overlap_sweep, planes(shape, *cuts), empty=empty)
    assert torch.equal(found, monai(scan, roi, 0.5, Blind(), mode="gaussian", sw_batch_size=batch))
    assert any(asked)
    assert not all(asked)


def test_the_network_is_not_run_where_all_is_empty() -> None:
    """Planes that no window was run for are given as None until one is."""
    scan = torch.zeros(1, 40, 9, 8)
    scan[:, 30:] = 1
    forward, given = Forward(lambda part: part), []
    overlap_sweep = OverlapSweep(windows(scan, (8, 9, 8), 0.5))
    steps = overlap_sweep.run(
        planes((40, 9, 8))[0],
        lambda box: scan[(slice(None), *box)],
        lambda box, values: given.append((box[0].stop, values)),
        forward,
        lambda box: not scan[(slice(None), *box)].any(),
    )
    for _ in steps:
        pass
    assert forward.passes == sum(start + 8 > 30 for start in overlap_sweep.grid.starts[0])
    assert all((values is None) == (stop <= 24) for stop, values in given)
    assert given[-1][0] == 40


def test_sweeps_twice_with_the_same_result() -> None:
    scan = volume(12, 13, 14)
    overlap_sweep = OverlapSweep(windows(scan, (6, 7, 8), 0.5), mode="gaussian")
    assert torch.equal(sweep(scan, overlap_sweep), sweep(scan, overlap_sweep))


def test_nan_is_not_hidden_where_windows_may_be_left_out() -> None:
    parts = []
    sweep = OverlapSweep(WindowGrid((4, 4, 4), (4, 4, 4), (0.5,) * 3))
    region = (slice(0, 4),) * 3
    run = sweep.run(
        region, lambda _: torch.zeros(1, 4, 4, 4), lambda _, values: parts.append(values),
        Forward(lambda batch: batch * torch.nan), lambda _: False,
    )  # fmt: skip
    list(run)
    assert all(bool(part.isnan().all()) for part in parts)
