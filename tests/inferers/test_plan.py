from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest

from bonemonai.errors import InputError
from bonemonai.inferers.activation_memory import ActivationMemory
from bonemonai.inferers.overlap_sweep import OverlapSweep
from bonemonai.inferers.plan import StreamPlan, Workload, block_grid, plan_exact, plan_overlap
from bonemonai.inferers.receptive_field import ReceptiveField
from bonemonai.inferers.tiling import WindowGrid

SYNCHROTRON = (2048, 3300, 3300)
PLANES = ReceptiveField((0, 28, 28), (1, 4, 4))
DEEP = ReceptiveField((24, 24, 24), (4, 4, 4))


def work(shape: tuple[int, int, int], peak: float = 372) -> Workload:
    return Workload(shape, 1, 5, 4, 1, 1, ActivationMemory(peak, peak / 3, 2))


def sweep(shape: tuple[int, int, int], **options: object) -> OverlapSweep:
    return OverlapSweep(WindowGrid(shape, (96, 96, 96), (0.25,) * 3), mode="gaussian", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [SYNCHROTRON, (40, 72, 90), (1, 600, 5), (17, 513, 700)])
def test_blocks_are_whole_chunks_and_hold_every_voxel_once(shape: tuple[int, int, int]) -> None:
    plan = plan_exact(work(shape), PLANES, budget=2_000_000_000, batch=1, tuned=False, spatial_dim=0)
    for blocks, chunk in ((plan.blocks(shape), plan.chunk), block_grid(shape)):
        assert sum(math.prod(side.stop - side.start for side in block) for block in blocks) == math.prod(shape)
        for block, (axis, size) in itertools.product(blocks, enumerate(shape)):
            assert block[axis].start % chunk[axis] == 0
            assert block[axis].stop % chunk[axis] == 0 or block[axis].stop == size


@pytest.mark.parametrize("budget", [1.5e9, 2e9, 8e9])
def test_synchrotron_scan_fits_every_budget_in_planes(budget: float) -> None:
    plan = plan_exact(work(SYNCHROTRON), PLANES, budget=int(budget), batch=1, tuned=False, spatial_dim=0)
    assert plan.memory <= budget
    assert plan.bands == 1
    assert plan.passes < 2


def test_whole_plane_if_it_fits_and_nothing_speaks_against_it() -> None:
    plan = plan_exact(work((64, 2048, 2048)), PLANES, budget=8_000_000_000, batch=1, tuned=True, spatial_dim=0)
    assert plan.core == (1, 2048, 2048)
    assert plan.passes == 1


def test_outputs_derived_from_planes_get_them_whole() -> None:
    def plan(budget: float, **more: object) -> StreamPlan:
        wanted = replace(work(SYNCHROTRON), **more)  # type: ignore[arg-type]
        return plan_exact(wanted, PLANES, budget=int(budget), batch=1, tuned=False, spatial_dim=0)

    assert plan(1e9).bands > 1
    with pytest.raises(InputError, match="memory_budget: is too small"):
        plan(1e9, whole_planes=True)
    assert plan(2e9, whole_planes=True).block[1] == 3300
    # what deriving takes is a part of the budget
    assert plan(2e9, whole_planes=True, working_bytes=10**8).memory <= 2e9
    with pytest.raises(InputError, match="memory_budget: is too small"):
        plan(2e9, whole_planes=True, working_bytes=15 * 10**8)


def test_larger_budget_is_never_slower() -> None:
    costs = [
        plan_exact(work(SYNCHROTRON, 100), DEEP, budget=int(b), batch=1, tuned=True, spatial_dim=None).cost
        for b in (1e9, 2e9, 4e9, 16e9)
    ]
    assert costs == sorted(costs, reverse=True)


def test_windows_deeper_than_memory_are_swept_in_bands_within_the_budget() -> None:
    """96 planes of 3300 x 3300 in float32 are 4.2 GB alone."""
    plan = plan_overlap(work(SYNCHROTRON), sweep(SYNCHROTRON), budget=2_000_000_000, tuned=False)
    assert plan.memory <= 2e9
    assert plan.bands > 1
    whole = plan_overlap(work(SYNCHROTRON), sweep(SYNCHROTRON), budget=60_000_000_000, tuned=False)
    assert whole.bands == 1
    assert whole.forwards < plan.forwards


def test_recomputing_is_a_printed_number_of_passes() -> None:
    """Batches that MONAI composes across the border of bands are run for both."""
    shape, options = (200, 1500, 400), {"budget": 1_400_000_000, "tuned": False}
    plain = plan_overlap(work(shape, 50), sweep(shape, sw_batch_size=4), **options)
    recomputed = plan_overlap(work(shape, 50), sweep(shape, sw_batch_size=4, recompute=True), **options)
    assert recomputed.bands >= plain.bands > 1
    assert recomputed.passes > plain.passes


def test_nothing_fits() -> None:
    with pytest.raises(InputError, match="memory_budget"):
        plan_exact(work(SYNCHROTRON), DEEP, budget=1000, batch=1, tuned=False, spatial_dim=None)
    with pytest.raises(InputError, match="memory_budget"):
        plan_overlap(work(SYNCHROTRON), sweep(SYNCHROTRON), budget=1000, tuned=False)


@pytest.mark.parametrize("mode", ["exact", "overlap"])
def test_planes_that_lie_too_deep_together_are_read_in_parts(mode: str) -> None:
    """Zarr in cubes of 128 voxels: 128 planes of 3300 x 3300 float32 are 5.6 GB, 2.8 times the budget."""
    deep = replace(work(SYNCHROTRON), planes_at_once=128)
    if mode == "exact":
        plan = plan_exact(deep, PLANES, budget=2_000_000_000, batch=1, tuned=False, spatial_dim=0)
    else:
        plan = plan_overlap(deep, sweep(SYNCHROTRON), budget=2_000_000_000, tuned=False)
    assert plan.memory <= 2_000_000_000
    assert plan.together < 128
    assert plan.reads == plan.bands * -(-128 // plan.together)


def test_planes_that_lie_together_are_read_once_where_memory_allows() -> None:
    deep = replace(work((64, 512, 512)), planes_at_once=16)
    plan = plan_exact(deep, PLANES, budget=2_000_000_000, batch=1, tuned=False, spatial_dim=0)
    assert (plan.together, plan.reads) == (16, 1)
