from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bonemonai.errors import InputError
from bonemonai.inferers import ReceptiveField
from bonemonai.inferers.activation_memory import ActivationMemory
from bonemonai.inferers.cost import MIB, choose_core, forward_bytes, slowness
from bonemonai.inferers.tiling import exact_tiles

ACTIVATIONS = ActivationMemory(peak=1000.0, largest=256.0, channels=2)
FIELD = ReceptiveField((28, 28), (4, 4))
PLENTY = 1e15


def largest_tile(shape: tuple[int, ...], core: tuple[int, ...], field: ReceptiveField) -> int:
    """Voxels of the largest tile, padded to the stride."""
    tiles = exact_tiles([slice(0, size) for size in shape], shape, core, field)
    return max(
        math.prod(-(-(r.stop - r.start) // s) * s for r, s in zip(t.read, field.stride, strict=True)) for t in tiles
    )


def all_tiles(shape: tuple[int, ...], core: tuple[int, ...], field: ReceptiveField) -> int:
    """Voxels of all tiles, padded to the stride."""
    tiles = exact_tiles([slice(0, size) for size in shape], shape, core, field)
    return sum(
        math.prod(-(-(r.stop - r.start) // s) * s for r, s in zip(t.read, field.stride, strict=True)) for t in tiles
    )


@given(st.booleans(), st.integers(1, 10**9), st.integers(1, 10**9))
def test_more_voxels_take_more_memory(tuned: bool, some: int, more: int) -> None:
    less = forward_bytes(some, ACTIVATIONS, 1, tuned=tuned)
    assert less < forward_bytes(some + more, ACTIVATIONS, 1, tuned=tuned)
    assert less > ACTIVATIONS.peak * some


def test_memory_grows_with_activations_channels_and_the_tuned_allocator() -> None:
    usual = forward_bytes(1e6, ACTIVATIONS, 1, tuned=False)
    assert forward_bytes(1e6, ACTIVATIONS._replace(peak=1100.0), 1, tuned=False) - usual >= 100e6
    assert forward_bytes(1e6, ACTIVATIONS._replace(channels=3), 1, tuned=False) - usual >= 4e6
    assert forward_bytes(1e6, ACTIVATIONS, 2, tuned=False) - usual >= 4e6
    assert forward_bytes(1e6, ACTIVATIONS, 1, tuned=True) > 1.2 * usual


@given(st.floats(0, 1e12), st.floats(0, 1e12))
def test_larger_tensors_are_no_faster(some: float, more: float) -> None:
    assert 1.0 <= slowness(some, tuned=False) <= slowness(some + more, tuned=False) <= 2.2
    assert slowness(some, tuned=True) == 1.0


def test_slowness_is_what_was_measured() -> None:
    measured = {16: 1.0, 33: 1.2, 75: 1.5, 130: 1.8, 300: 2.1}
    for megabytes, times in measured.items():
        assert slowness(megabytes * 1e6, tuned=False) == pytest.approx(times, abs=0.12)


def test_the_whole_plane_is_one_tile_if_it_fits_and_the_allocator_is_tuned() -> None:
    choice = choose_core((1001, 1500), FIELD, ACTIVATIONS, 1, budget=PLENTY, tuned=True)
    assert choice.core == (1004, 1500)
    assert choice.cost == 1004 * 1500
    assert choice.passes == pytest.approx(1004 / 1001)


def test_a_slow_allocator_makes_smaller_tiles_faster() -> None:
    tuned = choose_core((3000, 3000), FIELD, ACTIVATIONS, 1, budget=PLENTY, tuned=True)
    choice = choose_core((3000, 3000), FIELD, ACTIVATIONS, 1, budget=PLENTY, tuned=False)
    assert math.prod(choice.core) < math.prod(tuned.core)
    assert choice.passes > tuned.passes


@settings(max_examples=60)
@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.integers(0, 7), st.integers(0, 7)),
    st.tuples(st.sampled_from([1, 2, 4, 8]), st.sampled_from([1, 4, 16])),
    st.floats(65 * MIB, 400 * MIB),
    st.booleans(),
)
def test_the_largest_tile_fits_into_the_budget(
    shape: tuple[int, int], halos: tuple[int, int], stride: tuple[int, int], budget: float, tuned: bool
) -> None:
    field = ReceptiveField((halos[0] * stride[0], halos[1] * stride[1]), stride)
    try:
        choice = choose_core(shape, field, ACTIVATIONS, 1, budget=budget, tuned=tuned)
    except InputError:
        smallest = largest_tile(shape, stride, field)
        # 47 cores an axis are tried, so the smallest is a stride or close to a 47th
        assert forward_bytes(8 * smallest, ACTIVATIONS, 1, tuned=tuned) > budget
        return
    assert all(core % step == 0 for core, step in zip(choice.core, stride, strict=True))
    assert choice.memory == forward_bytes(largest_tile(shape, choice.core, field), ACTIVATIONS, 1, tuned=tuned)
    assert choice.memory <= budget
    assert choice.passes == pytest.approx(all_tiles(shape, choice.core, field) / math.prod(shape))


@pytest.mark.parametrize("tuned", [False, True])
@pytest.mark.parametrize("budget", [120 * MIB, 200 * MIB, 800 * MIB])
def test_no_other_equal_parts_that_fit_are_predicted_to_be_faster(budget: float, tuned: bool) -> None:
    shape = (500, 701)
    choice = choose_core(shape, FIELD, ACTIVATIONS, 1, budget=budget, tuned=tuned)
    tried = 0
    for parts in itertools.product(range(1, 13), repeat=2):
        core = tuple(-(-size // (number * 4)) * 4 for size, number in zip(shape, parts, strict=True))
        voxels = largest_tile(shape, core, FIELD)
        if forward_bytes(voxels, ACTIVATIONS, 1, tuned=tuned) > budget:
            continue
        tried += 1
        cost = all_tiles(shape, core, FIELD) * slowness(ACTIVATIONS.largest * voxels, tuned=tuned)
        assert choice.cost <= cost * (1 + 1e-12)
    assert tried


@pytest.mark.parametrize("tuned", [False, True])
def test_more_memory_never_costs_time(tuned: bool) -> None:
    costs = [
        choose_core((900, 1100), FIELD, ACTIVATIONS, 1, budget=megabytes * MIB, tuned=tuned).cost
        for megabytes in (120, 150, 200, 300, 600, 1200, 2400)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]


@pytest.mark.parametrize("budget", [0.0, -1e9, 50.0 * MIB])
def test_a_budget_below_the_smallest_tile_is_refused_in_one_line(budget: float) -> None:
    with pytest.raises(
        InputError, match=r"^memory_budget: is too small: the smallest tile .* takes 0\.\d\d GB"
    ) as refusal:
        choose_core((900, 1100), FIELD, ACTIVATIONS, 1, budget=budget, tuned=False)
    assert "\n" not in str(refusal.value)
    assert f"of the {max(budget, 0) / 1e9:.2f} GB" in str(refusal.value)


def test_what_is_said_to_be_needed_is_enough() -> None:
    field, shape = ReceptiveField((28, 28, 28), (4, 4, 4)), (300, 900, 1100)
    with pytest.raises(InputError, match="memory_budget") as refusal:
        choose_core(shape, field, ACTIVATIONS, 1, budget=0, tuned=False)
    needed = float(str(refusal.value).split("takes ")[1].split(" GB")[0]) * 1e9
    assert choose_core(shape, field, ACTIVATIONS, 1, budget=needed + 1e7, tuned=False).memory <= needed + 1e7
    with pytest.raises(InputError, match="memory_budget"):
        choose_core(shape, field, ACTIVATIONS, 1, budget=needed - 1e7, tuned=False)


def test_bounds_and_fixed_axes_are_kept() -> None:
    shape, field = (64, 500, 700), ReceptiveField((4, 4, 4), (4, 4, 4))
    free = choose_core(shape, field, ACTIVATIONS, 1, budget=PLENTY, tuned=True)
    assert free.core == shape
    bounded = choose_core(shape, field, ACTIVATIONS, 1, budget=PLENTY, tuned=True, most=(64, 100, 700))
    assert bounded.core == (64, 100, 700)
    fixed = choose_core(shape, field, ACTIVATIONS, 1, budget=PLENTY, tuned=True, fixed={0: 8})
    assert fixed.core == (8, 500, 700)
    assert fixed.cost > free.cost
    with pytest.raises(InputError, match="memory_budget"):
        choose_core(shape, field, ACTIVATIONS, 1, budget=300 * MIB, tuned=True, fixed={1: 500, 2: 700})


def test_a_network_that_sees_one_voxel_pays_for_no_halo() -> None:
    field = ReceptiveField((0, 0), (1, 1))
    choice = choose_core((512, 512), field, ACTIVATIONS, 1, budget=100 * MIB, tuned=False)
    assert choice.passes == 1.0
    assert min(choice.core) < 512
